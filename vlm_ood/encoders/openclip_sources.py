"""What a name of an open_clip model stands for: an architecture, its preprocessing, a file of weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vlm_ood.encoders.hub import hub_weights
from vlm_ood.errors import CheckpointError, HubError, UnknownNameError

WEIGHTS: Final = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")


@dataclass(frozen=True)
class Source:
    """What a name stands for.

    Args:
        config: open_clip's description of the architecture.
        preprocessing: the entries of open_clip's `PreprocessCfg` that are known.
        weights: their file; None for random ones.
    """

    config: dict[str, Any]
    preprocessing: Mapping[str, Any]
    weights: Path | None


def find_source(name: str) -> Source:
    """Resolve ARCH/TAG, ARCH=FILE, ARCH/TAG=FILE, hf-hub:ORG/NAME, a folder or random:ARCH; download what is missing.

    Raises:
        UnknownNameError: no such architecture or tag.
        CheckpointError: a folder without a description or without weights.
        HubError: a hub that can't be reached.
    """
    if name.startswith("random:"):
        architecture = name.removeprefix("random:")
        return Source(_architecture(architecture), _usual_preprocessing(architecture), None)
    if name.startswith("hf-hub:"):
        repository = name.removeprefix("hf-hub:")
        return _from_folder(hub_weights(repository, WEIGHTS, _without_hub("/path/to/its/folder")))
    if Path(name).is_dir():
        return _from_folder(Path(name))
    model, is_file, file = name.partition("=")
    architecture, has_tag, tag = model.partition("/")
    config = _architecture(architecture)
    if not (has_tag or is_file):
        raise UnknownNameError("encoder", name, [f"{architecture}/{tag}" for tag in _tags(architecture)])
    entry = _tag_entry(architecture, tag) if has_tag else _usual_preprocessing(architecture)
    if entry.get("quick_gelu", False):
        config["quick_gelu"] = True
    return Source(config, entry, Path(file).expanduser() if is_file else _download(model, entry))


def _architecture(name: str) -> dict[str, Any]:
    import open_clip

    config: dict[str, Any] | None = open_clip.get_model_config(name) if name in open_clip.list_models() else None
    if config is None:
        raise UnknownNameError("open_clip architecture", name, open_clip.list_models())
    return config


def _tags(architecture: str) -> list[str]:
    from open_clip.pretrained import list_pretrained_tags_by_model

    return list(list_pretrained_tags_by_model(architecture))


def _tag_entry(architecture: str, tag: str) -> dict[str, Any]:
    from open_clip.pretrained import get_pretrained_cfg

    entry: dict[str, Any] = get_pretrained_cfg(architecture, tag)
    if not entry:
        raise UnknownNameError(f"pretrained tag of {architecture}", tag, _tags(architecture))
    return entry


def _usual_preprocessing(architecture: str) -> dict[str, Any]:
    """What all weights of the architecture agree on; CLIP's own where they differ or there are none."""
    keys = ("mean", "std", "interpolation", "resize_mode")
    entries = [{key: _tag_entry(architecture, tag).get(key) for key in keys} for tag in _tags(architecture)]
    return entries[0] if entries and all(entry == entries[0] for entry in entries) else {}


def _download(model: str, entry: Mapping[str, Any]) -> Path:
    remedy = _without_hub(f"{model}=/path/to/weights")
    repository, _, file = entry.get("hf_hub", "").rpartition("/")
    if repository:
        names = (file,) if file else WEIGHTS
        return _weights_in(hub_weights(repository, names, remedy), names)
    from open_clip.pretrained import download_pretrained_from_url

    try:
        return Path(download_pretrained_from_url(entry["url"]))
    except (OSError, RuntimeError) as error:
        raise HubError(f"{model} can't be had from {entry['url']} ({error}): {remedy}") from error


def _without_hub(instead: str) -> str:
    return f"no network: download the weights and pass {instead}"


def _from_folder(folder: Path) -> Source:
    config = folder_config(folder)
    if config is None:
        raise CheckpointError(f"{folder} has no open_clip_config.json and no config.json: pass ARCH={folder}/FILE")
    return Source(config["model_cfg"], config.get("preprocess_cfg", {}), _weights_in(folder, WEIGHTS))


def folder_config(folder: Path) -> dict[str, Any] | None:
    """The description that open_clip keeps beside weights, or None.

    Raises:
        CheckpointError: a description that can't be read.
    """
    path = folder / "open_clip_config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read: {error}") from error
    if "model_cfg" not in config:
        raise CheckpointError(f"{path} has no model_cfg: it doesn't describe an architecture")
    return config


def _weights_in(folder: Path, names: tuple[str, ...]) -> Path:
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise CheckpointError(f"{folder} holds none of {', '.join(names)}: pass ARCH={folder}/FILE")
    return found[0]
