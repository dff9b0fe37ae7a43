"""From a name to an encoder."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import torch

from vlm_ood.encoders.base import Encoder
from vlm_ood.encoders.device import Precision, choose_device, choose_dtype
from vlm_ood.errors import CheckpointError, UnknownNameError

ENCODERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "embedded": "EfficientNet-Lite2 and MiniLM from packages; no hub, not CLIP",
        "ARCH/TAG": "any pair of open_clip, such as ViT-B-16/openai; ARCH/TAG=FILE takes its weights from a file",
        "ARCH=FILE": "an open_clip architecture with weights from a file (.safetensors, .pt, .bin)",
        "hf-hub:ORG/NAME": "an open_clip model on the Hugging Face hub",
        "hf:ORG/NAME": "a CLIP or SigLIP checkpoint of transformers on the hub",
        "/path": "a folder with a checkpoint of transformers (config.json) or of open_clip (open_clip_config.json)",
        "random:ARCH": "an open_clip architecture with random weights, for tests and benchmarks",
    }
)

BACKENDS: Final = ("auto", "torch")


def load_encoder(
    name: str = "embedded",
    *,
    device: str | torch.device | None = "auto",
    precision: Precision = "auto",
    backend: str = "auto",
    dtype: Precision | None = None,
) -> Encoder:
    """Load an encoder by name.

    Args:
        name: one of the forms in `ENCODERS`.
        device: "cuda", "cuda:1", "mps" or "cpu"; "auto" is the best there is.
        precision: of the network: "fp32", "fp16" or "bf16"; "auto" is bf16 or fp16 on a GPU that is fast at it, fp32
            elsewhere.
        backend: what runs the network: "torch", which "auto" chooses.
        dtype: the older name of `precision`.

    Raises:
        UnknownNameError: no such encoder, architecture, tag, device, precision or backend.
        ParameterError: a device that this machine does not have.
        CheckpointError: weights that don't fit.
        HubError: a hub that can't be reached.
    """
    if backend not in BACKENDS:
        raise UnknownNameError("backend", backend, BACKENDS)
    where = choose_device(device)
    in_precision = choose_dtype(dtype or precision, where)
    if name == "embedded":
        from vlm_ood.encoders.embedded import EmbeddedEncoder

        return EmbeddedEncoder(where, in_precision)
    if name.startswith(("/", "./", "../", "~")):
        name = str(_existing_folder(name))
    if name.startswith("hf:") or _holds_transformers(Path(name)):
        from vlm_ood.encoders.transformers_clip import load_transformers

        return load_transformers(name, where, in_precision)
    from vlm_ood.encoders.openclip import load_openclip

    if not _names_openclip(name):
        raise UnknownNameError("encoder", name, ENCODERS)
    return load_openclip(name, where, in_precision)


def _existing_folder(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_file():
        raise CheckpointError(f"{name}: a file of weights doesn't say its architecture, pass ARCH={name}")
    if not path.is_dir():
        raise CheckpointError(f"no such folder: {name}; pass a folder with config.json, or ARCH=/path/to/weights")
    return path


def _holds_transformers(folder: Path) -> bool:
    return (folder / "config.json").is_file() and not (folder / "open_clip_config.json").is_file()


def _names_openclip(name: str) -> bool:
    from open_clip import list_models

    spelled = any(mark in name for mark in ("/", "=")) or name.startswith(("hf-hub:", "random:"))
    return spelled or Path(name).is_dir() or name in list_models()
