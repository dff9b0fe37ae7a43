"""Names, files and hubs of open_clip: what loads is what was stored, and what doesn't fit says so."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import pytest
import torch
from open_clip.tokenizer import HFTokenizer
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.encoders.tiny import PROMPTS, TEXT, VIT, hf_text, openclip_folder, openclip_model, pixels
from vlm_ood.encoders import load_encoder
from vlm_ood.encoders.openclip_sources import find_source
from vlm_ood.encoders.outputs import PATCHES, Outputs
from vlm_ood.errors import CheckpointError, HubError, UnknownNameError

SMALL = "ViT-S-32-alt"  # the least of open_clip's own architectures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny checkpoint as it comes from the hub."""
    return openclip_folder(tmp_path / "tiny", openclip_model())


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client as it behaves without a network and with an empty cache."""

    def fail(*_: object, **__: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("Got: ConnectError: Name or service not known\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    path = folder / "open_clip_model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


def test_a_folder_gives_the_vectors_of_the_model_that_was_stored_in_it(tmp_path: Path) -> None:
    model = openclip_model()
    encoder = load_encoder(str(openclip_folder(tmp_path, model)), device="cpu")
    batch = pixels(32)
    with torch.no_grad():
        images = model.encode_image(encoder.preprocessing.normalise(batch, torch.float32), normalize=True)
    torch.testing.assert_close(encoder.encode_pixels(batch).pooled, images)
    assert encoder.dim == 24
    assert encoder.scale == pytest.approx(model.logit_scale.exp().item())
    assert not any(parameter.requires_grad for parameter in encoder.text_tower().parameters())


def test_preprocessing_is_that_of_the_description(folder: Path) -> None:
    preprocessing = load_encoder(str(folder), device="cpu").preprocessing
    assert (preprocessing.height, preprocessing.width) == (32, 32)
    assert preprocessing.mean == (0.5, 0.4, 0.3)
    assert preprocessing.std == (0.2, 0.3, 0.4)
    assert preprocessing.interpolation == "bilinear"
    assert preprocessing.resize_mode == "squash"


def test_the_digest_moves_with_weights_activation_preprocessing_and_precision(tmp_path: Path) -> None:
    def digest(change: Callable[[Path], object] = lambda _: None, **options: Any) -> str:
        folder = openclip_folder(tmp_path / "tiny", openclip_model())
        change(folder)
        return load_encoder(str(folder), device="cpu", **options).digest

    def describe(part: str, **entries: object) -> Callable[[Path], object]:
        def change(folder: Path) -> None:
            path = folder / "open_clip_config.json"
            config = json.loads(path.read_text())
            config[part].update(entries)
            path.write_text(json.dumps(config))

        return change

    def nudge(folder: Path) -> None:
        rewrite(folder, lambda weights: weights["visual.proj"].mul_(1.01))

    digests = {
        digest(),
        digest(nudge),
        digest(describe("model_cfg", quick_gelu=True)),
        digest(describe("preprocess_cfg", resize_mode="shortest")),
        digest(dtype="bf16"),
    }
    assert len(digests) == 5
    assert digest() in digests


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_gives_fp32_features_close_to_full(folder: Path, dtype: Any) -> None:
    full, half = load_encoder(str(folder), device="cpu"), load_encoder(str(folder), device="cpu", dtype=dtype)
    batch = pixels(32)
    exact, rounded = full.encode_pixels(batch, PATCHES), half.encode_pixels(batch, Outputs(patches=True, stages=(1,)))
    assert {rounded.pooled.dtype, rounded.stages[1].dtype, half.encode_text(PROMPTS).dtype} == {torch.float32}
    assert ((exact.pooled * rounded.pooled).sum(dim=-1) > 0.999).all()
    assert ((full.encode_text(PROMPTS) * half.encode_text(PROMPTS)).sum(dim=-1) > 0.999).all()
    torch.testing.assert_close(rounded.pooled.norm(dim=-1), torch.ones(3))


@pytest.mark.slow
def test_random_weights_are_the_same_every_time_and_leave_the_global_state_alone() -> None:
    before = torch.random.get_rng_state()
    first = load_encoder(f"random:{SMALL}", device="cpu")
    torch.rand(3)
    second = load_encoder(f"random:{SMALL}", device="cpu")
    torch.random.set_rng_state(before)
    load_encoder(f"random:{SMALL}", device="cpu")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.digest == second.digest
    batch = pixels(224, 1)
    assert torch.equal(first.encode_pixels(batch).pooled, second.encode_pixels(batch).pooled)


@pytest.mark.slow
def test_weights_from_a_file_give_the_encoder_they_came_from(tmp_path: Path) -> None:
    model = open_clip.create_model(SMALL)
    plain, wrapped = tmp_path / "weights.safetensors", tmp_path / "epoch_3.pt"
    save_file(model.state_dict(), plain)
    parallel = {f"module.{key}": value for key, value in model.state_dict().items()}
    torch.save({"epoch": 3, "name": "a run", "state_dict": parallel}, wrapped)
    encoder = load_encoder(f"{SMALL}={plain}", device="cpu")
    assert load_encoder(f"{SMALL}={wrapped}", device="cpu").digest == encoder.digest
    with torch.no_grad():
        inputs = encoder.preprocessing.normalise(pixels(224, 1), torch.float32)
        expected = model.eval().encode_image(inputs, normalize=True)
        texts = model.encode_text(open_clip.get_tokenizer(SMALL)(PROMPTS), normalize=True)
    torch.testing.assert_close(encoder.encode_pixels(pixels(224, 1)).pooled, expected)
    torch.testing.assert_close(encoder.encode_text(PROMPTS), texts, rtol=0, atol=1e-5)


def test_keys_that_are_missing_or_unexpected_are_named(folder: Path) -> None:
    def rename(weights: dict[str, Tensor]) -> None:
        weights["visual.projection"] = weights.pop("visual.proj")

    rewrite(folder, rename)
    message = r"1 missing: visual\.proj; 1 unexpected: visual\.projection\): is it the weights of another model"
    with pytest.raises(CheckpointError, match=message):
        load_encoder(str(folder), device="cpu")


def test_shapes_that_differ_are_named_and_never_interpolated(folder: Path) -> None:
    def enlarge(weights: dict[str, Tensor]) -> None:
        weights["visual.positional_embedding"] = torch.zeros(26, 64)

    rewrite(folder, enlarge)
    with pytest.raises(
        CheckpointError, match=r"of another shape: visual\.positional_embedding \(26, 64\) for \(17, 64\)"
    ):
        load_encoder(str(folder), device="cpu")


class Code:
    """What a hostile pickle does."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("the pickle ran",)


def test_files_that_carry_code_are_refused(tmp_path: Path) -> None:
    archive, hostile = tmp_path / "ViT-B-32.pt", tmp_path / "hostile.bin"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), archive)
    hostile.write_bytes(pickle.dumps({"weight": Code()}))
    for path in (archive, hostile):
        with pytest.raises(CheckpointError, match=r"may carry code .* convert it once"):
            load_encoder(f"{SMALL}={path}", device="cpu")


@pytest.mark.parametrize("name", ["empty.pt", "empty.safetensors", "half.safetensors"])
def test_damaged_files_are_refused(tmp_path: Path, folder: Path, name: str) -> None:
    whole = (folder / "open_clip_model.safetensors").read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2] if name.startswith("half") else b"")
    with pytest.raises(CheckpointError, match=name):
        load_encoder(f"{SMALL}={tmp_path / name}", device="cpu")


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"no such file: /no/where\.pt"):
        load_encoder(f"{SMALL}=/no/where.pt", device="cpu")


def test_a_tag_settles_the_activation_and_the_preprocessing() -> None:
    assert find_source("ViT-B-32/openai=/a.pt").config["quick_gelu"] is True
    assert not find_source("ViT-B-32/laion2b_s34b_b79k=/a.pt").config.get("quick_gelu", False)
    assert find_source("ViT-L-14/laion2b_s32b_b82k=/a.pt").preprocessing["mean"] == (0.5, 0.5, 0.5)


def test_a_file_without_a_tag_has_the_activation_of_its_architecture() -> None:
    assert not find_source("ViT-B-32=/a.pt").config.get("quick_gelu", False)
    assert find_source("ViT-B-32-quickgelu=/a.pt").config["quick_gelu"] is True


def test_an_architecture_whose_weights_agree_brings_their_preprocessing() -> None:
    assert find_source("random:ViT-B-16-SigLIP").preprocessing["resize_mode"] == "squash"
    assert find_source("random:ViT-L-14").preprocessing == {}


def test_weights_of_openai_are_known_and_need_quick_gelu(folder: Path) -> None:
    def as_openai(weights: dict[str, Tensor]) -> None:
        weights.update({key: torch.tensor(1) for key in ("input_resolution", "context_length", "vocab_size")})

    rewrite(folder, as_openai)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = True
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    load_encoder(str(folder), device="cpu")
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"trained with QuickGELU, the architecture given uses GELU: .*-quickgelu"
    ):
        load_encoder(f"{SMALL}={folder / 'open_clip_model.safetensors'}", device="cpu")


@pytest.mark.parametrize(("told", "name"), [(True, SMALL), (False, "ViT-B-32-quickgelu")])
def test_a_description_beside_the_weights_that_names_another_activation_is_an_error(
    folder: Path, told: bool, name: str
) -> None:
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = told
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=rf"choose the one {'with' if told else 'without'} -quickgelu"):
        load_encoder(f"{name}={folder / 'open_clip_model.safetensors'}", device="cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ViT-B-17/openai", r"unknown open_clip architecture 'ViT-B-17'; did you mean 'ViT-B-16'\?"),
        ("ViT-B-16/opena", r"unknown pretrained tag of ViT-B-16 'opena'; did you mean 'openai'\?"),
        ("random:ViT-B-33", r"did you mean 'ViT-B-32'\?"),
        ("ViT-B-16", r"unknown encoder 'ViT-B-16'.*ViT-B-16/openai"),
        ("embeded", r"unknown encoder 'embeded'; did you mean 'embedded'\?"),
    ],
)
def test_unknown_names_come_with_close_ones(name: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        load_encoder(name, device="cpu")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("ViT-B-32/openai", r"download the weights and pass ViT-B-32/openai=/path/to/weights"),
        ("hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K", r"download the weights and pass /path/to/its/folder"),
        ("hf:openai/clip-vit-base-patch32", r"download its files and pass /path/to/its/folder"),
    ],
)
def test_without_a_network_the_message_says_what_to_do(name: str, remedy: str) -> None:
    with pytest.raises(HubError, match=rf"\(Got: ConnectError: Name or service not known\): no network: {remedy}"):
        load_encoder(name, device="cpu")


def test_a_model_on_the_hub_is_the_folder_that_the_hub_hands_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def hand_out(repository: str, **_: object) -> str:
        asked.append(repository)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", hand_out)
    assert load_encoder("hf-hub:someone/tiny", device="cpu").digest == load_encoder(str(folder), device="cpu").digest
    assert asked == ["someone/tiny"]


@pytest.mark.usefixtures("no_network")
def test_a_tokenizer_that_only_the_hub_has_is_asked_for_with_the_first_prompt(tmp_path: Path) -> None:
    config = {"text_cfg": TEXT | {"hf_tokenizer_name": "timm/ViT-B-16-SigLIP"}}
    encoder = load_encoder(str(openclip_folder(tmp_path, openclip_model(), VIT, **config)), device="cpu")
    assert encoder.encode_pixels(pixels(32)).pooled.shape == (3, 24)
    with pytest.raises(HubError, match="put its tokenizer files beside the weights"):
        encoder.encode_text(["a cat"])


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", ["roberta-ViT-B-32", "xlm-roberta-base-ViT-B-32", "nllb-clip-base"])
def test_without_a_network_a_text_transformer_of_another_library_says_so(name: str) -> None:
    with pytest.raises(HubError, match=r"\(Got: ConnectError.*\): no network: random weights need another"):
        load_encoder(f"random:{name}", device="cpu")


@pytest.fixture
def roberta(tmp_path: Path) -> tuple[Any, Path, Path]:
    """A tiny open_clip model whose text transformer only the hub describes, its folder, and that of the description."""
    text = hf_text(tmp_path / "text", "roberta")
    model = openclip_model(VIT, text_cfg=text, custom_text=True)
    text |= {"hf_model_name": "someone/roberta", "hf_tokenizer_name": "someone/words"}
    folder = openclip_folder(tmp_path / "tiny", model, VIT, text_cfg=text, custom_text=True)
    return model, folder, tmp_path / "text"


@pytest.mark.usefixtures("no_network")
def test_a_text_transformer_is_described_and_tokenised_by_files_beside_the_weights(
    roberta: tuple[Any, Path, Path],
) -> None:
    model, folder, files = roberta
    with pytest.raises(HubError, match=rf"someone/roberta .*put config\.json of someone/roberta .* into {folder}"):
        load_encoder(str(folder), device="cpu")
    (folder / "config.json").write_text('{"model_type": "clip"}')  # transformers' description of the whole model
    with pytest.raises(HubError, match="someone/roberta"):
        load_encoder(str(folder), device="cpu")
    shutil.copy(files / "config.json", folder)
    encoder = load_encoder(str(folder), device="cpu")
    with pytest.raises(HubError, match=rf"someone/words .*put its tokenizer files beside the weights, into {folder}"):
        encoder.encode_text(["a cat"])
    for file in files.glob("tokenizer*"):
        shutil.copy(file, folder)
    with torch.no_grad():
        expected = model.encode_text(HFTokenizer(str(files), context_length=12)(PROMPTS), normalize=True)
    torch.testing.assert_close(encoder.encode_text(PROMPTS), expected, rtol=0, atol=1e-6)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"no usable tokenizer .*someone/words"):
        load_encoder(str(folder), device="cpu").encode_text(["a cat"])


def test_a_text_transformer_on_the_hub_without_a_usable_description_is_an_error(
    roberta: tuple[Any, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path / "empty"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"no usable config\.json of someone/roberta"):
        load_encoder(str(roberta[1]), device="cpu")


@pytest.mark.parametrize("content", ["{", "{}"])
def test_a_description_that_says_nothing_is_an_error(folder: Path, content: str) -> None:
    (folder / "open_clip_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"open_clip_config\.json"):
        load_encoder(str(folder), device="cpu")


def test_paths_that_lead_nowhere_say_what_to_give(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(b"x")
    with pytest.raises(CheckpointError, match=rf"pass ARCH={file}"):
        load_encoder(str(file), device="cpu")
    with pytest.raises(CheckpointError, match="no such folder: /no/where"):
        load_encoder("/no/where", device="cpu")
    with pytest.raises(CheckpointError, match=r"no open_clip_config\.json and no config\.json"):
        load_encoder(str(tmp_path), device="cpu")
