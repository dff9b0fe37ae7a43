"""Weights from files: never code, and every key and shape accounted for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from vlm_ood.errors import CheckpointError


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a file of weights holds.

    Args:
        weights: by key, without the prefix that data-parallel training adds.
        facts: texts beside the weights, by name: metadata of safetensors, or what a training wrote, such as `name`.
    """

    weights: dict[str, Tensor]
    facts: Mapping[str, str]


def read_checkpoint(path: Path) -> Checkpoint:
    """A safetensors file, or a PyTorch file that holds nothing but tensors; of a training its `state_dict`.

    Raises:
        CheckpointError: no such file, a damaged one, or one that would run code.
    """
    if not path.is_file():
        raise CheckpointError(f"no such file: {path}")
    try:
        content, facts = _read_safetensors(path) if path.suffix == ".safetensors" else (_unpickle(path), {})
    except (SafetensorError, OSError, EOFError) as error:
        raise CheckpointError(f"{path} is damaged or not a file of weights: {error}") from error
    if isinstance(content, Mapping) and "state_dict" in content:
        facts = {str(key): value for key, value in content.items() if isinstance(value, str)}
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path} holds no table of tensors: save model.state_dict() with safetensors")
    return Checkpoint({str(key).removeprefix("module."): value for key, value in content.items()}, facts)


def _read_safetensors(path: Path) -> tuple[object, dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        facts = file.metadata() or {}
    return load_file(path), facts


def _unpickle(path: Path) -> object:
    """PyTorch's format, tensors only; TorchScript archives and other pickles carry code and are refused."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, OSError):
        raise
    except Exception as error:  # unpickling raises nearly anything
        raise CheckpointError(
            f"{path} isn't plain weights and may carry code (OpenAI's TorchScript archives do): convert it once, on a "
            'machine you trust: safetensors.torch.save_file(torch.jit.load(path).state_dict(), "weights.safetensors")'
        ) from error


def fill(model: nn.Module, weights: Mapping[str, Tensor], origin: str, remedy: str) -> None:
    """Copy the weights into the model; nothing missing, nothing left over, no shape changed.

    Args:
        model: takes the weights in its own dtype.
        weights: by the model's own keys.
        origin: where they come from, for the message.
        remedy: what to do when they don't fit, for the message.

    Raises:
        CheckpointError: naming a few of the keys that don't fit.
    """
    wanted = model.state_dict()
    differing = [
        f"{key} {tuple(weights[key].shape)} for {tuple(wanted[key].shape)}"
        for key in sorted(wanted.keys() & weights.keys())
        if weights[key].shape != wanted[key].shape
    ]
    misfits = {
        "missing": sorted(wanted.keys() - weights.keys()),
        "unexpected": sorted(weights.keys() - wanted.keys()),
        "of another shape": differing,
    }
    if any(misfits.values()):
        found = "; ".join(f"{len(keys)} {kind}: {_few(keys)}" for kind, keys in misfits.items() if keys)
        raise CheckpointError(f"{origin} doesn't fit ({found}): {remedy}")
    model.load_state_dict(weights)


def _few(keys: Iterable[str], shown: int = 3) -> str:
    first = list(keys)
    return ", ".join(first[:shown]) + (", ..." if len(first) > shown else "")
