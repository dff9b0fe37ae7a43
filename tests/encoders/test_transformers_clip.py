"""Folders of transformers: what loads computes what transformers itself computes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import CLIPImageProcessorPil, PreTrainedTokenizerFast, SiglipImageProcessorPil

from tests.encoders.tiny import PROMPTS, pixels, transformers_clip, transformers_siglip
from vlm_ood.encoders import load_encoder
from vlm_ood.encoders.outputs import PATCHES, Outputs
from vlm_ood.errors import CapabilityError, CheckpointError


@pytest.fixture
def clip(tmp_path: Path) -> tuple[Any, Path]:
    """A tiny CLIP and its folder."""
    return transformers_clip(tmp_path), tmp_path


@pytest.fixture
def siglip(tmp_path: Path) -> tuple[Any, Path]:
    """A tiny SigLIP and its folder."""
    return transformers_siglip(tmp_path), tmp_path


def features_of(output: Any) -> Tensor:
    """A tensor up to transformers 4, a record since."""
    return functional.normalize(getattr(output, "pooler_output", output), dim=-1)


def full_tokens(folder: Path) -> Tensor:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokens: Tensor = tokenizer(PROMPTS, padding="max_length", truncation=True, max_length=12, return_tensors="pt")[
        "input_ids"
    ]
    return tokens


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_vectors_are_those_of_transformers(family: str, request: pytest.FixtureRequest) -> None:
    model, folder = request.getfixturevalue(family)
    encoder = load_encoder(str(folder), device="cpu")
    batch = pixels(24)
    with torch.no_grad():
        images = features_of(model.get_image_features(encoder.preprocessing.normalise(batch, torch.float32)))
        texts = features_of(model.get_text_features(full_tokens(folder)))
    torch.testing.assert_close(encoder.encode_pixels(batch).pooled, images, rtol=0, atol=1e-5)
    torch.testing.assert_close(encoder.encode_text(PROMPTS, batch_size=2), texts, rtol=0, atol=1e-5)
    assert encoder.dim == images.shape[1]
    assert encoder.scale == pytest.approx(model.logit_scale.exp().item())


def test_a_checkpoint_that_calls_its_end_of_text_2_is_read_at_the_largest_token(clip: tuple[Any, Path]) -> None:
    model, folder = clip
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 2
    (folder / "config.json").write_text(json.dumps(config))
    with torch.no_grad():
        texts = features_of(model.get_text_features(full_tokens(folder)))
    torch.testing.assert_close(load_encoder(str(folder), device="cpu").encode_text(PROMPTS), texts, rtol=0, atol=1e-5)


def test_patches_are_the_last_block_with_the_identity_for_attention(clip: tuple[Any, Path]) -> None:
    model, folder = clip
    encoder = load_encoder(str(folder), device="cpu")
    batch = pixels(24)
    with torch.no_grad():
        vision, last = model.vision_model, model.vision_model.encoder.layers[-1]
        inputs = encoder.preprocessing.normalise(batch, torch.float32)
        entering = vision(inputs, output_hidden_states=True).hidden_states[-2]
        value = last.self_attn.v_proj(last.layer_norm1(entering))
        heads = value.view(3, 10, 2, 16).transpose(1, 2)
        attended = (torch.eye(10).expand(3, 2, 10, 10) @ heads).transpose(1, 2).reshape(3, 10, 32)
        tokens = entering + last.self_attn.out_proj(attended)
        tokens = tokens + last.mlp(last.layer_norm2(tokens))
        expected = functional.normalize(model.visual_projection(vision.post_layernorm(tokens))[:, 1:], dim=-1)
    features = encoder.encode_pixels(batch, PATCHES)
    assert features.grid == (3, 3)
    torch.testing.assert_close(features.patches, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("family", "prefix"), [("clip", 1), ("siglip", 0)])
def test_stages_are_the_hidden_states(family: str, prefix: int, request: pytest.FixtureRequest) -> None:
    model, folder = request.getfixturevalue(family)
    encoder = load_encoder(str(folder), device="cpu")
    batch = pixels(24)
    with torch.no_grad():
        inputs = encoder.preprocessing.normalise(batch, torch.float32)
        states = model.vision_model(inputs, output_hidden_states=True).hidden_states
    stages = encoder.encode_pixels(batch, Outputs(stages=(1, 2))).stages
    for number in (1, 2):
        torch.testing.assert_close(stages[number], states[number][:, prefix:], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("family", "prefix"), [("clip", 1), ("siglip", 0)])
def test_vv_is_a_second_stream_that_reads_the_first(family: str, prefix: int, request: pytest.FixtureRequest) -> None:
    model, folder = request.getfixturevalue(family)
    encoder = load_encoder(str(folder), device="cpu")
    batch, vision = pixels(24), model.vision_model
    with torch.no_grad():
        states = vision(encoder.preprocessing.normalise(batch, torch.float32), output_hidden_states=True).hidden_states
        local = states[1]
        for x, layer in zip(states[1:3], vision.encoder.layers[1:], strict=True):
            n, t, width = x.shape
            attention = layer.self_attn
            value = attention.v_proj(layer.layer_norm1(x)).view(n, t, 2, width // 2).transpose(1, 2)
            matrix = (value @ value.transpose(-1, -2) / (width // 2) ** 0.5).softmax(dim=-1)
            local = local + attention.out_proj((matrix @ value).transpose(1, 2).reshape(n, t, width))
    stages = encoder.encode_pixels(batch, Outputs(stages=(1, 3), attention="vv", vv_from=2)).stages
    torch.testing.assert_close(stages[1], states[1][:, prefix:], rtol=0, atol=1e-5)
    torch.testing.assert_close(stages[3], local[:, prefix:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_a_window_of_the_whole_grid_is_the_image(family: str, request: pytest.FixtureRequest) -> None:
    encoder = load_encoder(str(request.getfixturevalue(family)[1]), device="cpu")
    features = encoder.encode_pixels(pixels(24), Outputs(windows=(2, 3)))
    assert features.windows[2].shape == (3, 4, encoder.dim)
    torch.testing.assert_close(features.windows[3][:, 0], features.pooled)


def test_siglip_pools_by_attention_and_has_no_patches(siglip: tuple[Any, Path]) -> None:
    encoder = load_encoder(str(siglip[1]), device="cpu")
    with pytest.raises(CapabilityError, match="gives no patches; it gives sizes, stages, vv, windows"):
        encoder.encode_pixels(pixels(24), PATCHES)


@pytest.mark.parametrize(
    ("family", "processor"), [("clip", CLIPImageProcessorPil), ("siglip", SiglipImageProcessorPil)]
)
@pytest.mark.parametrize("size", [(24, 24), (60, 36), (48, 96)])
def test_pixels_are_those_of_the_checkpoint_s_own_processor(
    family: str, processor: Any, size: tuple[int, int], request: pytest.FixtureRequest
) -> None:
    _, folder = request.getfixturevalue(family)
    preprocessing = load_encoder(str(folder), device="cpu").preprocessing
    values = np.random.default_rng(5).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(values)
    expected = processor.from_pretrained(folder)(image, return_tensors="pt")["pixel_values"]
    ours = preprocessing.normalise(preprocessing(image)[None], torch.float32)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def rewrite(path: Path, **entries: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_sizes_written_as_one_number_are_read(clip: tuple[Any, Path]) -> None:
    rewrite(clip[1] / "preprocessor_config.json", size=24, crop_size=24, resample=2)
    preprocessing = load_encoder(str(clip[1]), device="cpu").preprocessing
    assert (preprocessing.resize, preprocessing.height, preprocessing.width) == (24, 24, 24)
    assert preprocessing.interpolation == "bilinear"


def test_entries_of_a_newer_processor_file_are_read(clip: tuple[Any, Path]) -> None:
    older = clip[1] / "preprocessor_config.json"
    expected = load_encoder(str(clip[1]), device="cpu").preprocessing
    entries = json.loads(older.read_text())
    (clip[1] / "processor_config.json").write_text(json.dumps({"image_processor": entries}))
    older.unlink()
    assert load_encoder(str(clip[1]), device="cpu").preprocessing == expected


def test_an_input_without_one_size_is_refused(clip: tuple[Any, Path]) -> None:
    rewrite(clip[1] / "preprocessor_config.json", do_center_crop=False)
    with pytest.raises(CheckpointError, match="doesn't say one size of its input"):
        load_encoder(str(clip[1]), device="cpu")


def test_a_folder_without_preprocessing_or_tokenizer_says_what_is_missing(clip: tuple[Any, Path]) -> None:
    (clip[1] / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="no usable tokenizer"):
        load_encoder(str(clip[1]), device="cpu")
    (clip[1] / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"put the tokenizer beside config\.json"):
        load_encoder(str(clip[1]), device="cpu")
    (clip[1] / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"processor_config\.json can't be read"):
        load_encoder(str(clip[1]), device="cpu")


def test_keys_that_do_not_fit_are_named_and_old_buffers_are_not_missed(clip: tuple[Any, Path]) -> None:
    path = clip[1] / "model.safetensors"
    before = load_encoder(str(clip[1]), device="cpu").digest
    weights = load_file(path)
    save_file(weights | {"text_model.embeddings.position_ids": torch.arange(12)[None]}, path)
    assert load_encoder(str(clip[1]), device="cpu").digest == before
    save_file(weights | {"extra": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"1 unexpected: extra\): is config\.json that of another model"):
        load_encoder(str(clip[1]), device="cpu")


def test_shards_and_older_files_give_the_same_encoder(clip: tuple[Any, Path]) -> None:
    folder = clip[1]
    expected = load_encoder(str(folder), device="cpu").digest
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert load_encoder(str(folder), device="cpu").digest == expected
    (folder / "pytorch_model.bin").unlink()
    halves = list(weights)[::2], list(weights)[1::2]
    for number, keys in enumerate(halves, start=1):
        save_file({key: weights[key] for key in keys}, folder / f"model-0000{number}-of-00002.safetensors")
    assert load_encoder(str(folder), device="cpu").digest == expected


def test_the_activation_is_part_of_the_digest(clip: tuple[Any, Path]) -> None:
    before = load_encoder(str(clip[1]), device="cpu")
    config = json.loads((clip[1] / "config.json").read_text())
    config["vision_config"]["hidden_act"] = "gelu"
    (clip[1] / "config.json").write_text(json.dumps(config))
    after = load_encoder(str(clip[1]), device="cpu")
    assert after.digest != before.digest
    assert not torch.allclose(after.encode_pixels(pixels(24)).pooled, before.encode_pixels(pixels(24)).pooled)


def test_a_model_of_another_type_is_refused(clip: tuple[Any, Path]) -> None:
    rewrite(clip[1] / "config.json", model_type="siglip2")
    with pytest.raises(CheckpointError, match="holds a model of type 'siglip2': give one of clip, siglip"):
        load_encoder(str(clip[1]), device="cpu")


def test_loading_leaves_the_global_random_state_alone_and_prints_nothing(
    clip: tuple[Any, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    before = torch.random.get_rng_state()
    capfd.readouterr()
    load_encoder(str(clip[1]), device="cpu")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")
