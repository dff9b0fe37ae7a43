"""Shared code of the benchmarks: equal weights for both sides, and timing in turns."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
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


def in_turns(sides: Sequence[Callable[[], object]], turns: int) -> list[float]:
    """Seconds of each side: the sides in turns, every second turn backwards, and of each the lower quartile.

    Other work on the machine only ever slows a side down, so the fast turns are nearest to the truth; the very fastest
    is a matter of luck.
    """
    seconds: list[list[float]] = [[] for _ in sides]
    for turn in range(turns):
        order = range(len(sides)) if turn % 2 == 0 else reversed(range(len(sides)))
        for row in order:
            start = time.perf_counter()
            sides[row]()
            seconds[row].append(time.perf_counter() - start)
    return [float(np.quantile(taken, 0.25)) for taken in seconds]
