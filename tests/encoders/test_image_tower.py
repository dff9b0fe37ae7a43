"""The value path against a recomputation that writes the matrix of attention down and sets it to the identity."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.encoders.tiny import RESNET, VIT, openclip_folder, openclip_model, pixels
from vlm_ood.encoders import Encoder, load_encoder
from vlm_ood.encoders.outputs import PATCHES, Outputs
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
    with pytest.raises(CapabilityError, match=r"gives no patches; it gives stages"):
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
