"""Two sides of a comparison: the same weights in each, timed in turns."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file

import vlm_ood as vo
from vlm_ood.encoders import Encoder


def model_and_encoder(architecture: str) -> tuple[Any, Encoder]:
    """A model of open_clip with random weights, and our encoder of those weights, on the same device."""
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        model = open_clip.create_model(architecture).eval()
        path = Path(folder) / "weights.safetensors"
        save_file(model.state_dict(), path)
        encoder = vo.load_encoder(f"{architecture}={path}")
    return model.to(encoder.device, encoder.dtype), encoder


def best_medians(sides: Sequence[Callable[[], object]], repeats: int, rounds: int) -> list[float]:
    """Seconds of each side: the sides in turns, the median of the repeats, the best of the rounds.

    Other work on the machine only ever slows a side down, so the best round is the nearest to the truth.
    """
    medians: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        seconds: list[list[float]] = [[] for _ in sides]
        for _ in range(repeats):
            for row, side in enumerate(sides):
                start = time.perf_counter()
                side()
                seconds[row].append(time.perf_counter() - start)
        for row, taken in enumerate(seconds):
            medians[row].append(median(taken))
    return [min(taken) for taken in medians]
