from copy import deepcopy
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from tests.clipn.tiny import CONFIG, tiny_architecture, tiny_encoder
from vlm_ood.clipn.files import load_no_tower
from vlm_ood.clipn.importer import Imported, import_checkpoint
from vlm_ood.clipn.no_tower import copy_text_tower
from vlm_ood.encoders.clip import ClipEncoder
from vlm_ood.encoders.factory import load_encoder
from vlm_ood.errors import CheckpointError, UnknownNameError
from vlm_ood.io.files import read_tensors

NAME = "2023_08_24-00_02_18-model_tiny-lr_0.0003-b_512-j_4-p_amp"  # as open_clip's training script names a run


def released(encoder: ClipEncoder, name: str = NAME) -> dict[str, Any]:
    """A checkpoint of the released layout with random weights: five entries, the state below `module.`."""
    draw = torch.Generator().manual_seed(7)
    state = {**open_clip.CLIP(**deepcopy(CONFIG)).state_dict(), **copy_text_tower(encoder).state_dict()}
    noisy = {f"module.{key}": 0.1 * torch.randn(value.shape, generator=draw) for key, value in state.items()}
    moments = {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(4)}}
    return {
        "epoch": 10,
        "name": name,
        "state_dict": noisy,
        "optimizer": {"state": moments, "param_groups": [{"lr": 3e-4, "params": [0]}]},
        "scaler": {"scale": 65536.0},
    }


@pytest.fixture
def checkpoint() -> dict[str, Any]:
    return released(tiny_encoder())


def run(checkpoint: dict[str, Any], folder: Path, architecture: str = "tiny", **options: Any) -> Imported:
    torch.save(checkpoint, folder / "epoch_10.pt")
    with tiny_architecture():
        return import_checkpoint(folder / "epoch_10.pt", architecture, folder / "out", **options)


def test_a_released_checkpoint_becomes_an_encoder_and_its_no_tower(checkpoint: dict[str, Any], tmp_path: Path) -> None:
    imported = run(checkpoint, tmp_path)
    with tiny_architecture():
        encoder = load_encoder(f"tiny={imported.encoder}", device="cpu")
    tower = load_no_tower(imported.no_tower, encoder)
    state: dict[str, Tensor] = checkpoint["state_dict"]
    kept = {**read_tensors(imported.encoder)[0], **tower.state_dict()}
    assert {f"module.{key}" for key in kept} == set(state)
    own = encoder.text_tower().state_dict()
    assert all(torch.equal(value, state[f"module.{key}"]) for key, value in own.items())
    assert all(torch.equal(value, state[f"module.{key}"]) for key, value in kept.items())


def test_the_optimiser_is_left_behind_and_the_source_is_recorded(checkpoint: dict[str, Any], tmp_path: Path) -> None:
    imported = run(checkpoint, tmp_path)
    with safe_open(imported.no_tower, framework="pt") as file:
        assert not [key for key in file.keys() if "exp_avg" in key]  # noqa: SIM118
        metadata = file.metadata()
    assert metadata["architecture"] == "tiny"
    assert metadata["source"] == "epoch_10.pt"
    assert len(metadata["source_sha256"]) == 64


@pytest.mark.parametrize("key", ["transformer_no.resblocks.0.attn.in_proj_weight", "visual.proj"])
def test_a_missing_key_is_named(checkpoint: dict[str, Any], tmp_path: Path, key: str) -> None:
    del checkpoint["state_dict"][f"module.{key}"]
    with pytest.raises(CheckpointError, match=f"missing: {key}"):
        run(checkpoint, tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_no_tower_without_learned_contexts_is_called_what_it_is(checkpoint: dict[str, Any], tmp_path: Path) -> None:
    del checkpoint["state_dict"]["module.prompt_no"]
    with pytest.raises(CheckpointError, match=r"without learned contexts, no key prompt_no: .*hand-crafted") as error:
        run(checkpoint, tmp_path)
    assert "architecture" not in str(error.value)


def test_a_plain_clip_is_called_what_it_is(checkpoint: dict[str, Any], tmp_path: Path) -> None:
    state = checkpoint["state_dict"]
    checkpoint["state_dict"] = {key: value for key, value in state.items() if "_no" not in key}
    with pytest.raises(CheckpointError, match=r"has no no-tower.*plain CLIP"):
        run(checkpoint, tmp_path)


def test_another_architecture_than_the_one_recorded_is_refused(checkpoint: dict[str, Any], tmp_path: Path) -> None:
    """The weights of both fit, but one computes with GELU and the other with QuickGELU."""
    with pytest.raises(CheckpointError, match=r"trained as tiny, not as tiny-quickgelu: import it as tiny"):
        run(checkpoint, tmp_path, "tiny-quickgelu")
    assert not (tmp_path / "out").exists()


def test_without_a_record_the_activation_must_be_stated(tmp_path: Path) -> None:
    checkpoint = released(tiny_encoder(), name="my run")
    with pytest.raises(CheckpointError, match=r"doesn't record its architecture.*--quick-gelu or --gelu.*with GELU"):
        run(checkpoint, tmp_path)
    with pytest.raises(CheckpointError, match=r"choose the architecture with -quickgelu"):
        run(checkpoint, tmp_path, quick_gelu=True)
    run(checkpoint, tmp_path, quick_gelu=False)


def test_a_stated_activation_overrules_the_record(checkpoint: dict[str, Any], tmp_path: Path) -> None:
    """Training with --force-quick-gelu leaves the architecture's name as it was."""
    imported = run(checkpoint, tmp_path, "tiny-quickgelu", quick_gelu=True)
    with tiny_architecture():
        encoder = load_encoder(f"tiny-quickgelu={imported.encoder}", device="cpu")
        load_no_tower(imported.no_tower, encoder)


def test_an_imported_encoder_keeps_its_activation(checkpoint: dict[str, Any], tmp_path: Path) -> None:
    imported = run(checkpoint, tmp_path)
    with tiny_architecture(), pytest.raises(CheckpointError, match=r"trained with GELU.*without -quickgelu"):
        load_encoder(f"tiny-quickgelu={imported.encoder}", device="cpu")


@pytest.mark.parametrize("key", ["extra_no", "visual.extra"])
def test_a_key_too_many_is_named(checkpoint: dict[str, Any], tmp_path: Path, key: str) -> None:
    checkpoint["state_dict"][f"module.{key}"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=f"unexpected: {key}"):
        run(checkpoint, tmp_path)


def test_a_wrong_prefix_is_an_error_not_an_untrained_tower(checkpoint: dict[str, Any], tmp_path: Path) -> None:
    state = checkpoint["state_dict"]
    checkpoint["state_dict"] = {key.replace("module.", "model.module."): value for key, value in state.items()}
    with pytest.raises(CheckpointError, match="missing"):
        run(checkpoint, tmp_path)


def test_another_shape_is_named(checkpoint: dict[str, Any], tmp_path: Path) -> None:
    checkpoint["state_dict"]["module.prompt_no"] = torch.zeros(16, 7, 16)
    with pytest.raises(CheckpointError, match="prompt_no"):
        run(checkpoint, tmp_path)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="code"):
        run({"state_dict": {"module.x": Path("/")}}, tmp_path)


def test_an_unknown_architecture_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="ViT-B-61"):
        import_checkpoint(tmp_path / "x.pt", "ViT-B-61", tmp_path)


def test_a_no_tower_of_another_encoder_is_refused(checkpoint: dict[str, Any], tmp_path: Path) -> None:
    imported = run(checkpoint, tmp_path)
    with pytest.raises(CheckpointError, match="another encoder"):
        load_no_tower(imported.no_tower, tiny_encoder())
