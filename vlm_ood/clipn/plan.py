"""How a no-tower is trained: what a user may choose, with the limits of each value."""

import math
from dataclasses import dataclass
from typing import get_args

from vlm_ood.encoders.device import Precision
from vlm_ood.errors import ParameterError


@dataclass(frozen=True)
class TrainingPlan:
    """How to train; the defaults are the authors' for three million pairs.

    Args:
        epochs: passes over the pairs.
        batch_size: pairs in a batch, over all processes; a multiple of their number.
        learning_rate: at the first step; a cosine brings it to 0.
        weight_decay: of AdamW, on matrices and learned contexts; not on gains and biases.
        crop_share: (least, most) share of a picture's area that its random crop keeps.
        precision: of the forward passes; weights and losses are fp32 in any case.
        seed: of order, crops and choices of learned contexts.
        workers: threads of each process that decode pictures.
        checkpoint_every: steps between two states on disk.

    Raises:
        ParameterError: a value out of its range.
    """

    epochs: int = 10
    batch_size: int = 2048
    learning_rate: float = 3e-4
    weight_decay: float = 0.2
    crop_share: tuple[float, float] = (0.9, 1.0)
    precision: Precision = "auto"
    seed: int = 0
    workers: int = 4
    checkpoint_every: int = 500

    def __post_init__(self) -> None:
        least, most = self.crop_share
        limits = {
            "epochs": ("at least 1", self.epochs >= 1),
            "batch_size": ("at least 2: pairs are told from each other", self.batch_size >= 2),
            "learning_rate": ("above 0", 0 < self.learning_rate < math.inf),
            "weight_decay": ("0 or above", 0 <= self.weight_decay < math.inf),
            "crop_share": ("(least, most) with 0 < least <= most <= 1", 0 < least <= most <= 1),
            "precision": ("auto, fp32, fp16 or bf16", self.precision in get_args(Precision)),
            "seed": ("0 or above", self.seed >= 0),
            "workers": ("at least 1", self.workers >= 1),
            "checkpoint_every": ("at least 1", self.checkpoint_every >= 1),
        }
        for name, (limit, kept) in limits.items():
            if not kept:
                raise ParameterError(f"{name}={getattr(self, name)!r} must be {limit}")
