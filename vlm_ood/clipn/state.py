"""The state of a training as one safetensors file: weights, moments of the optimiser, and step.

One file, so that the three can't be of different steps.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from vlm_ood.clipn.no_tower import NoTower
from vlm_ood.encoders.checkpoints import fill
from vlm_ood.errors import CheckpointError
from vlm_ood.io.files import read_tensors, write_tensors

MODEL, OPTIMISER = "model.", "optimiser."


@dataclass(frozen=True)
class Standing:
    """The progress of a training and its identity.

    Args:
        step: steps done.
        broken: pairs that couldn't be read so far.
        scaler: state of the gradient scaler; empty unless fp16.
        identity: what the training depends on: encoder, pairs, plan. Only a training of the same identity may continue.
    """

    step: int
    broken: int
    scaler: dict[str, Any]
    identity: dict[str, Any]


def save_state(path: Path, tower: NoTower, optimiser: Optimizer, standing: Standing) -> None:
    """Write the file, whole or not at all.

    Raises:
        StorageError: it can't be written.
    """
    tensors = {MODEL + name: value for name, value in tower.state_dict().items()}
    for name, parameter in tower.named_parameters():
        for moment, value in optimiser.state[parameter].items():
            tensors[f"{OPTIMISER}{moment}.{name}"] = value
    write_tensors(path, tensors, {"standing": json.dumps(standing.__dict__)})


def load_state(path: Path, tower: NoTower, optimiser: Optimizer, identity: dict[str, Any]) -> Standing:
    """Set tower and optimiser to the state of the file.

    Raises:
        StorageError: a damaged file.
        CheckpointError: of another run or architecture; the tower is untouched.
    """
    tensors, metadata = read_tensors(path)
    standing = Standing(**json.loads(metadata["standing"]))
    other = sorted(key for key in identity if standing.identity.get(key) != identity[key])
    if other:
        changed = ", ".join(f"{key}: {standing.identity.get(key)} there, {identity[key]} here" for key in other)
        raise CheckpointError(f"{path} is of another training ({changed}): give the same values, or another folder")
    fill(tower, _below(MODEL, tensors), str(path), "start again in another folder")
    for name, parameter in tower.named_parameters():
        for key, value in _below(OPTIMISER, tensors).items():
            moment, _, owner = key.partition(".")
            if owner == name:
                # AdamW counts its steps on the CPU, wherever the moments are.
                optimiser.state[parameter][moment] = value if moment == "step" else value.to(parameter.device)
    return standing


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
