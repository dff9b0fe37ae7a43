"""The cost of a method that reads patches: bytes over the worker's pipe, and images per second over HTTP.

    python -m benchmarks.heads --seconds 240

The bytes are those of the pickled job and its reply, divided by the images of a batch; pixels go through shared memory
and are not counted. The HTTP turns of the two methods take 20 seconds each, one after the other, on one server. Every
JPEG that is sent differs from every other, so that no cache helps.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

import vlm_ood as vo
from benchmarks.engine import jpegs
from benchmarks.http import CLASSES, endless, saturate
from benchmarks.server import ready, server
from service.engine.worker.executor import Executor
from service.engine.worker.heads import detector_head
from service.engine.worker.protocol import NO_HEADS, EncodeImages, HeadRows, HeadWork, Job, Reply
from vlm_ood.encoders import Encoder
from vlm_ood.encoders.outputs import PATCHES

METHODS = ("mcm", "gl_mcm")
TURN_S = 20.0


@dataclass(frozen=True)
class PipeBytes:
    """Of one method: per image of a batch, the patches of one image (which stay), and what a worker is sent once."""

    per_image: float
    patches: int
    once: int


def main(
    encoder: str = "random:ViT-B-16",
    seconds: float = 240.0,
    clients: int = 32,
    width: int = 640,
    height: int = 480,
    files: int = 64,
    batch: int = 16,
) -> None:
    """Print bytes per image over the pipe, and images a second over HTTP, of mcm and gl_mcm."""
    load_before = os.getloadavg()
    bare = vo.load_encoder(encoder)
    pipe = {method: pipe_bytes(bare, method, batch) for method in METHODS}
    rates: dict[str, list[float]] = {method: [] for method in METHODS}
    with server(encoder) as (url, _), asyncio.Runner() as runner:
        runner.run(ready(url))
        distinct = endless(jpegs(files, width, height, None))
        for method in METHODS:
            runner.run(saturate(url, distinct, clients, 1.0, method))
        take_turns(runner, url, distinct, clients, seconds, rates)
    show(f"{encoder} on {bare.device}, batches of {batch}, {clients} clients, {width}x{height}", pipe, rates)
    Console().print(f"load average {load_before[0]:.2f} before, {os.getloadavg()[0]:.2f} after; {os.cpu_count()} cores")


def pipe_bytes(encoder: Encoder, method: str, n: int) -> PipeBytes:
    """Sizes of the messages about a batch of n images, pickled as the pipe does it."""
    executor = Executor(lambda name, device, dtype: encoder, str(encoder.device), "auto")
    executor.load(encoder.name, 1)
    fitted = vo.create_detector(method).fit(vo.Task(classes=vo.text_bank(encoder, CLASSES)))
    head = detector_head(fitted) if fitted.detector.outputs.local else None
    heads = NO_HEADS
    if head is not None:
        heads = HeadWork(run=(HeadRows(head.digest, tuple(range(n))),))
        executor.encode_images(encoder.name, blank(encoder, 1), head.outputs, HeadWork(install=(head,)))
    pixels = blank(encoder, n)
    job = EncodeImages(encoder.name, tuple(range(n)), tuple(pixels.shape[1:]), fitted.detector.outputs, heads)
    reply = executor.encode_images(encoder.name, pixels, fitted.detector.outputs, heads)
    tokens = encoder.encode_pixels(blank(encoder, 1), PATCHES).patches
    return PipeBytes(
        (pickled(Job(0, job)) + pickled(Reply(0, reply))) / n,
        0 if head is None or tokens is None else tokens.nbytes,
        0 if head is None else pickled(head),
    )


def blank(encoder: Encoder, n: int) -> torch.Tensor:
    """n images of noise, of the encoder's own size."""
    size = encoder.preprocessing.height, encoder.preprocessing.width
    return torch.randint(0, 256, (n, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def pickled(message: object) -> int:
    """Bytes of the message on a multiprocessing connection."""
    return len(ForkingPickler.dumps(message))


def take_turns(
    runner: asyncio.Runner,
    url: str,
    contents: Iterator[bytes],
    clients: int,
    seconds: float,
    rates: dict[str, list[float]],
) -> None:
    """Fill in images a second of each method, the methods in turns, every second turn backwards."""
    end = time.perf_counter() + seconds
    order = list(rates)
    while time.perf_counter() < end:
        for method in order:
            rates[method].append(runner.run(saturate(url, contents, clients, TURN_S, method)))
        order.reverse()


def show(title: str, pipe: dict[str, PipeBytes], rates: dict[str, list[float]]) -> None:
    """Two tables; a turn of one method is compared with the turn of the other that is next to it."""
    over_pipe = Table("method", "bytes per image", "patches that stay", "sent once", title=title)
    for method, sizes in pipe.items():
        over_pipe.add_row(method, f"{sizes.per_image:,.0f}", f"{sizes.patches:,}", f"{sizes.once:,}")
    first, second = METHODS
    ratios = [local / pooled for pooled, local in zip(rates[first], rates[second], strict=True)]
    over_http = Table("POST /v1/score", "images/s, median", "best turn")
    for method in METHODS:
        over_http.add_row(method, f"{np.median(rates[method]):.1f}", f"{max(rates[method]):.1f}")
    over_http.add_row(
        "ratio (target 0.90)", f"{np.median(ratios):.2f}", f"{max(rates[second]) / max(rates[first]):.2f}"
    )
    turns = ", ".join(f"{pooled:.1f}/{local:.1f}" for pooled, local in zip(rates[first], rates[second], strict=True))
    Console().print(over_pipe, over_http, f"turns, {first}/{second}: {turns}")


if __name__ == "__main__":
    typer.run(main)
