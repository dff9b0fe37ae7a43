"""Patches, stages and windows against recomputations that write the matrices of attention down."""

from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.model import resize_pos_embed
from torch import Tensor
from torch.nn import functional

from tests.encoders.tiny import RESNET, VIT, openclip_folder, openclip_model, pixels
from vlm_ood.encoders import Encoder, load_encoder
from vlm_ood.encoders.openclip_towers import image_tower
from vlm_ood.encoders.outputs import PATCHES, Outputs
from vlm_ood.encoders.positions import GRIDS_KEPT, Positions
from vlm_ood.errors import CapabilityError


def block_with_attention(block: Any, tokens: Tensor, heads: int, *, identity: bool) -> Tensor:
    """A residual attention block with its n x heads x t x t matrix of attention in the open."""
    n, t, width = tokens.shape
    attention = block.attn
    joint = functional.linear(block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = joint.view(n, t, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    matrix = (query @ key.transpose(-1, -2) / (width // heads) ** 0.5).softmax(dim=-1)
    if identity:
        matrix = torch.eye(t).expand_as(matrix)
    tokens = tokens + block.ls_1(attention.out_proj((matrix @ value).transpose(1, 2).reshape(n, t, width)))
    result: Tensor = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
    return result


def value_value(block: Any, tokens: Tensor, heads: int) -> Tensor:
    """softmax(V V^T / sqrt(d)) V per head, through the output projection; no residual, no MLP."""
    n, t, width = tokens.shape
    attention = block.attn
    joint = functional.linear(block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias)
    value = joint[..., 2 * width :].view(n, t, heads, width // heads).transpose(1, 2)
    matrix = (value @ value.transpose(-1, -2) / (width // heads) ** 0.5).softmax(dim=-1)
    result: Tensor = block.ls_1(attention.out_proj((matrix @ value).transpose(1, 2).reshape(n, t, width)))
    return result


def recomputed(encoder: Encoder, model: Any, batch: Tensor, *, identity: bool) -> Tensor:
    """All tokens of the last block in the joint space, at length 1."""
    visual = model.visual
    with torch.no_grad():
        tokens = visual._embeds(encoder.preprocessing.normalise(batch, torch.float32))
        *first, last = visual.transformer.resblocks
        for block in first:
            tokens = block_with_attention(block, tokens, heads=2, identity=False)
        tokens = block_with_attention(last, tokens, heads=2, identity=identity)
        return functional.normalize(visual.ln_post(tokens) @ visual.proj, dim=-1)


@pytest.mark.parametrize("vision", [VIT, VIT | {"ls_init_value": 0.3}], ids=["plain", "layer_scale"])
@pytest.mark.parametrize("quick_gelu", [False, True])
def test_patches_are_the_last_block_with_the_identity_for_attention(
    tmp_path: Path, vision: dict[str, object], quick_gelu: bool
) -> None:
    model = openclip_model(vision, quick_gelu=quick_gelu)
    encoder = load_encoder(str(openclip_folder(tmp_path, model, vision, quick_gelu=quick_gelu)), device="cpu")
    batch = pixels(32)
    features = encoder.encode_pixels(batch, PATCHES)
    assert features.patches is not None
    assert features.grid == (4, 4)
    torch.testing.assert_close(features.pooled, recomputed(encoder, model, batch, identity=False)[:, 0])
    torch.testing.assert_close(features.patches, recomputed(encoder, model, batch, identity=True)[:, 1:])
    assert (features.patches - recomputed(encoder, model, batch, identity=False)[:, 1:]).abs().max() > 0.01


@pytest.mark.parametrize("vision", [VIT, VIT | {"ls_init_value": 0.3}], ids=["plain", "layer_scale"])
@pytest.mark.parametrize("vv_from", [1, 2, 3])
def test_vv_is_a_second_stream_that_reads_the_first(tmp_path: Path, vision: dict[str, object], vv_from: int) -> None:
    model = openclip_model(vision)
    encoder = load_encoder(str(openclip_folder(tmp_path, model, vision)), device="cpu")
    batch = pixels(32)
    visual = model.visual
    streams = []
    with torch.no_grad():
        x = v = visual._embeds(encoder.preprocessing.normalise(batch, torch.float32))
        for number, block in enumerate(visual.transformer.resblocks, start=1):
            after = block_with_attention(block, x, heads=2, identity=False)
            v = v + value_value(block, x, heads=2) if number >= vv_from else after
            x = after
            streams.append(v)
        expected = functional.normalize(visual.ln_post(v) @ visual.proj, dim=-1)[:, 1:]
    outputs = Outputs(patches=True, stages=(1, 2, 3), attention="vv", vv_from=vv_from)
    features = encoder.encode_pixels(batch, outputs)
    torch.testing.assert_close(features.patches, expected)
    for number, stream in enumerate(streams, start=1):
        torch.testing.assert_close(features.stages[number], stream[:, 1:])
    assert torch.equal(features.pooled, encoder.encode_pixels(batch).pooled)


def test_softmax_patches_are_the_tokens_of_the_last_block(tmp_path: Path) -> None:
    model = openclip_model()
    encoder = load_encoder(str(openclip_folder(tmp_path, model)), device="cpu")
    batch = pixels(32)
    features = encoder.encode_pixels(batch, Outputs(patches=True, attention="softmax"))
    torch.testing.assert_close(features.patches, recomputed(encoder, model, batch, identity=False)[:, 1:])


def test_a_block_that_is_not_there_cannot_begin_the_second_stream(tmp_path: Path) -> None:
    encoder = load_encoder(str(openclip_folder(tmp_path, openclip_model())), device="cpu")
    with pytest.raises(CapabilityError, match=r"has the blocks 1 to 3, not \[6\]"):
        encoder.encode_pixels(pixels(32), Outputs(patches=True, attention="vv", vv_from=6))


@pytest.mark.parametrize("size", [None, (48, 40)])
def test_a_window_goes_through_the_whole_network_on_its_own(tmp_path: Path, size: tuple[int, int] | None) -> None:
    model = openclip_model()
    encoder = load_encoder(str(openclip_folder(tmp_path, model)), device="cpu")
    height, width = size or (32, 32)
    rows, columns = height // 8, width // 8
    batch = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    features = encoder.encode_pixels(batch, Outputs(windows=(2, 3), size=size))
    assert features.grid == (rows, columns)
    visual = model.visual
    with torch.no_grad():
        tokens = visual.conv1(encoder.preprocessing.normalise(batch, torch.float32)).flatten(2).transpose(1, 2)
        tokens = torch.cat([visual.class_embedding.expand(2, 1, -1), tokens], dim=1)
        tokens = tokens + Positions(visual.positional_embedding, (4, 4), prefix=1)((rows, columns))
        for side in (2, 3):
            expected = []
            for row in range(rows - side + 1):
                for column in range(columns - side + 1):
                    cells = [1 + (row + r) * columns + column + c for r in range(side) for c in range(side)]
                    own = visual.transformer(visual.ln_pre(tokens[:, [0, *cells]]))
                    expected.append(functional.normalize(visual.ln_post(own[:, 0]) @ visual.proj, dim=-1))
            torch.testing.assert_close(features.windows[side], torch.stack(expected, dim=1))


def test_a_window_of_the_whole_grid_is_the_image(tmp_path: Path) -> None:
    encoder = load_encoder(str(openclip_folder(tmp_path, openclip_model())), device="cpu")
    features = encoder.encode_pixels(pixels(32), Outputs(windows=(4,)))
    torch.testing.assert_close(features.windows[4][:, 0], features.pooled)
    with pytest.raises(CapabilityError, match=r"has a grid of 4x4 patches, too small for windows of \[5\]"):
        encoder.encode_pixels(pixels(32), Outputs(windows=(5,)))


def test_windows_hold_no_more_tokens_at_once_than_the_plain_pass(tmp_path: Path) -> None:
    model = openclip_model()
    tower = image_tower(model)
    largest = []
    model.visual.ln_post.register_forward_hook(lambda _, inputs, __: largest.append(inputs[0].shape[:2].numel()))
    with torch.no_grad():
        tower(torch.rand(3, 3, 32, 32), Outputs(windows=(1, 2, 3)))
    assert max(largest) == 3 * 17
    assert len(largest) > 4


def test_another_size_is_what_open_clip_makes_of_weights_for_that_size(tmp_path: Path) -> None:
    model = openclip_model()
    encoder = load_encoder(str(openclip_folder(tmp_path, model)), device="cpu")
    for height, width in ((48, 48), (16, 40), (24, 24)):
        larger = openclip_model(VIT | {"image_size": (height, width)})
        weights = dict(model.state_dict())
        resize_pos_embed(weights, larger)
        larger.load_state_dict(weights)
        batch = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
        with torch.no_grad():
            expected = larger.encode_image(encoder.preprocessing.normalise(batch, torch.float32), normalize=True)
        features = encoder.encode_pixels(batch, Outputs(patches=True, size=(height, width)))
        assert features.grid == (height // 8, width // 8)
        torch.testing.assert_close(features.pooled, expected)


def test_a_size_of_broken_patches_is_refused(tmp_path: Path) -> None:
    encoder = load_encoder(str(openclip_folder(tmp_path, openclip_model())), device="cpu")
    with pytest.raises(CapabilityError, match=r"takes sizes in multiples of 8x8 pixels, not \(40, 44\)"):
        encoder.encode_pixels(pixels(40), Outputs(size=(40, 44)))


def test_positions_are_resized_from_the_table_and_kept_for_few_grids() -> None:
    table = torch.randn(17, 6, generator=torch.Generator().manual_seed(0))
    positions, before = Positions(table, (4, 4), prefix=1), table.clone()
    first = positions((6, 5)).clone()
    for side in range(2, 30):
        positions((side, side))
    assert torch.equal(positions((6, 5)), first)
    assert positions((4, 4)) is table
    assert torch.equal(table, before)
    assert torch.equal(first[0], table[0])
    assert positions._resized.cache_info().currsize == GRIDS_KEPT  # type: ignore[attr-defined]


def test_a_resnet_patch_is_its_place_under_an_attention_pool_that_sees_only_itself(tmp_path: Path) -> None:
    model = openclip_model(RESNET)
    encoder = load_encoder(str(openclip_folder(tmp_path, model, RESNET)), device="cpu")
    batch = pixels(64)
    features = encoder.encode_pixels(batch, PATCHES)
    with torch.no_grad():
        inputs = encoder.preprocessing.normalise(batch, torch.float32)
        visual, pool = model.visual, model.visual.attnpool
        places = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(inputs)))))
        places = places.flatten(2).permute(2, 0, 1)
        alone, _ = functional.multi_head_attention_forward(
            places,
            places,
            places,
            places.shape[-1],
            pool.num_heads,
            None,
            torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
            None,
            None,
            False,
            0.0,
            pool.c_proj.weight,
            pool.c_proj.bias,
            training=False,
            attn_mask=~torch.eye(len(places), dtype=torch.bool),
            use_separate_proj_weight=True,
            q_proj_weight=pool.q_proj.weight,
            k_proj_weight=pool.k_proj.weight,
            v_proj_weight=pool.v_proj.weight,
        )
        pooled = functional.normalize(visual(inputs), dim=-1)
    assert features.grid == (2, 2)
    torch.testing.assert_close(features.patches, functional.normalize(alone.transpose(0, 1), dim=-1))
    torch.testing.assert_close(features.pooled, pooled)
    with pytest.raises(CapabilityError, match=r"gives no stages; it gives patches"):
        encoder.encode_pixels(batch, Outputs(stages=(1,)))


def test_stages_are_the_patch_tokens_after_a_block(tmp_path: Path) -> None:
    model = openclip_model()
    encoder = load_encoder(str(openclip_folder(tmp_path, model)), device="cpu")
    batch = pixels(32)
    seen: dict[int, Tensor] = {}
    for number, block in enumerate(model.visual.transformer.resblocks, start=1):
        block.register_forward_hook(lambda _, __, output, number=number: seen.update({number: output[:, 1:]}))
    with torch.no_grad():
        model.visual(encoder.preprocessing.normalise(batch, torch.float32))
    features = encoder.encode_pixels(batch, Outputs(stages=(1, 3)))
    assert list(features.stages) == [1, 3]
    assert features.patches is None
    for number, tokens in features.stages.items():
        torch.testing.assert_close(tokens, seen[number])


def test_a_stage_outside_the_network_is_an_error(tmp_path: Path) -> None:
    encoder = load_encoder(str(openclip_folder(tmp_path, openclip_model())), device="cpu")
    with pytest.raises(CapabilityError, match=r"has the blocks 1 to 3, not \[4\]"):
        encoder.encode_pixels(pixels(32), Outputs(stages=(3, 4)))


def test_patches_and_stages_leave_the_pooled_vector_and_the_network_as_they_were(tmp_path: Path) -> None:
    encoder = load_encoder(str(openclip_folder(tmp_path, openclip_model())), device="cpu")
    batch = pixels(32)
    before = encoder.encode_pixels(batch).pooled
    everything = encoder.encode_pixels(batch, Outputs(patches=True, stages=(1, 2, 3)))
    after = encoder.encode_pixels(batch).pooled
    assert torch.equal(before, everything.pooled)
    assert torch.equal(before, after)


def test_an_image_is_encoded_the_same_in_any_company(tmp_path: Path) -> None:
    encoder = load_encoder(str(openclip_folder(tmp_path, openclip_model())), device="cpu")
    batch = pixels(32, 5)
    together = encoder.encode_pixels(batch, PATCHES)
    alone = encoder.encode_pixels(batch[2:3], PATCHES)
    torch.testing.assert_close(together[2:3].pooled, alone.pooled)
    torch.testing.assert_close(together[2:3].patches, alone.patches)


def test_an_attention_pool_has_stages_but_no_patches(tmp_path: Path) -> None:
    vision = VIT | {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 4}
    model = openclip_model(vision)
    encoder = load_encoder(str(openclip_folder(tmp_path, model, vision)), device="cpu")
    batch = pixels(32)
    with torch.no_grad():
        expected = model.encode_image(encoder.preprocessing.normalise(batch, torch.float32), normalize=True)
    torch.testing.assert_close(encoder.encode_pixels(batch, Outputs(stages=(2,))).pooled, expected)
    with pytest.raises(CapabilityError, match=r"gives no patches; it gives sizes, stages, vv, windows"):
        encoder.encode_pixels(batch, PATCHES)


def test_a_network_of_timm_gives_pooled_features_only(tmp_path: Path) -> None:
    vision = {"timm_model_name": "resnet10t", "timm_model_pretrained": False, "image_size": 64}
    model = openclip_model(vision, custom_text=True)
    folder = openclip_folder(tmp_path, model, vision, custom_text=True)
    encoder = load_encoder(str(folder), device="cpu")
    batch = pixels(64)
    with torch.no_grad():
        expected = model.encode_image(encoder.preprocessing.normalise(batch, torch.float32), normalize=True)
    torch.testing.assert_close(encoder.encode_pixels(batch).pooled, expected)
    with pytest.raises(CapabilityError, match=r"gives no patches; it gives pooled features only"):
        encoder.encode_pixels(batch, PATCHES)
