"""What a name of an open_clip model stands for: an architecture, its preprocessing, a file of weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vlm_ood.encoders.hub import CONFIGS, hub_folder, hub_weights
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


def text_model_folder(name: str, weights_folder: Path | None) -> Path:
    """Where config.json of a text transformer is that open_clip takes from another library, such as roberta-base.

    Args:
        name: a model on the hub, or a folder.
        weights_folder: of the open_clip weights, whose config.json is used if it describes a model of such a type.

    Raises:
        HubError: a hub that can't be reached.
        CheckpointError: a config.json that can't be read or describes a model of no known type.
    """
    from open_clip.hf_configs import arch_dict
    from transformers import AutoConfig

    if Path(name).is_dir():
        folder = Path(name)
    elif weights_folder is not None and _model_type(weights_folder) in arch_dict:
        folder = weights_folder
    else:
        folder = hub_folder(name, CONFIGS, _without_file(f"config.json of {name}", weights_folder))
    try:
        AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder} has no usable config.json of {name}: {error}") from error
    return folder


def tokenizer_folder(name: str, weights_folder: Path | None) -> Path:
    """Where the files of a tokenizer are: beside the weights, in a folder of that name, or on the hub.

    Args:
        name: a tokenizer on the hub, or a folder.
        weights_folder: of the open_clip weights.

    Raises:
        HubError: a hub that can't be reached.
    """
    for folder in (weights_folder, Path(name)):
        if folder is not None and (folder / "tokenizer_config.json").is_file():
            return folder
    return hub_folder(name, CONFIGS, _without_file("its tokenizer files", weights_folder))


def _without_file(wanted: str, weights_folder: Path | None) -> str:
    if weights_folder is None:
        return "no network: random weights need another architecture then, such as random:ViT-B-32"
    return f"no network: put {wanted} beside the weights, into {weights_folder}"


def _model_type(folder: Path) -> str | None:
    """What a config.json of transformers says about itself; None where there is none."""
    try:
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return described.get("model_type") if isinstance(described, dict) else None


def _weights_in(folder: Path, names: tuple[str, ...]) -> Path:
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise CheckpointError(f"{folder} holds none of {', '.join(names)}: pass ARCH={folder}/FILE")
    return found[0]
