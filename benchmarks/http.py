"""The overhead of the server: images per second and latency over HTTP, against the encoder alone.

    python -m benchmarks.http --seconds 240

The server is a separate process on loopback; the encoder alone runs in this process, on the same cores, while the
server is idle. They take turns of 20 seconds. Every JPEG that is sent differs from every other, so that no cache helps.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

import vlm_ood as vo
from benchmarks.engine import decode_and_encode, encode_only, jpegs
from benchmarks.server import ready, server
from vlm_ood.encoders import Encoder
from vlm_ood.images import load_image

CLASSES = ["cat", "dog", "car", "ship", "bird"]
TURN_S = 20.0
HEAD = (
    b"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"Content-Type: multipart/form-data; boundary=bound\r\nContent-Length: %d\r\n\r\n"
)
PART = b"--bound\r\nContent-Disposition: form-data; %b\r\n\r\n"


@dataclass
class Rates:
    """Images a second of each turn."""

    bare: list[float] = field(default_factory=list)
    http: list[float] = field(default_factory=list)


def main(
    encoder: str = "random:ViT-B-32",
    seconds: float = 240.0,
    clients: int = 32,
    width: int = 640,
    height: int = 480,
    files: int = 64,
    singles: int = 100,
) -> None:
    """Print images a second and the latency of one idle request, with their ratios and the machine's load."""
    load_before = os.getloadavg()
    bare = vo.load_encoder(encoder)
    distinct = endless(jpegs(files, width, height, None))
    with server(encoder) as (url, _), asyncio.Runner() as runner:
        runner.run(ready(url))
        runner.run(saturate(url, distinct, clients, 1.0))
        latencies = alone(url, bare, distinct, singles)
        rates = Rates()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            rates.bare.append(encode_for(bare, distinct, TURN_S))
            rates.http.append(runner.run(saturate(url, distinct, clients, TURN_S)))
    show(f"{encoder} on {bare.device}, {clients} clients, {width}x{height}", rates, latencies)
    Console().print(f"load average {load_before[0]:.2f} before, {os.getloadavg()[0]:.2f} after; {os.cpu_count()} cores")


def endless(contents: list[bytes]) -> Iterator[bytes]:
    """The pictures over and over, each time with other bytes: a comment in a JPEG changes no pixel."""
    number = 0
    while True:
        for content in contents:
            comment = f"{number:012}".encode()
            number += 1
            yield content[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + content[2:]


def encode_for(encoder: Encoder, contents: Iterator[bytes], seconds: float) -> float:
    """Images a second of the encoder on ready pixels, in full batches."""
    pixels = torch.stack([encoder.preprocessing(load_image(next(contents))) for _ in range(encoder.batch_size)])
    started, done = time.perf_counter(), 0
    while (taken := time.perf_counter() - started) < seconds:
        encode_only(encoder, pixels)
        done += len(pixels)
    return done / taken


async def saturate(url: str, contents: Iterator[bytes], clients: int, seconds: float, method: str = "mcm") -> float:
    """Images a second that clients get, each asking for its next image when it has its answer."""
    started, done = time.perf_counter(), 0

    async def client() -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection(httpx.URL(url).host, httpx.URL(url).port)
        while time.perf_counter() - started < seconds:
            body = multipart(next(contents), method)
            writer.writelines((HEAD % len(body), body))
            answer = json.loads(await read_answer(reader))
            assert answer["results"][0]["error"] is None, answer
            done += 1
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return done / (time.perf_counter() - started)


def multipart(content: bytes, method: str) -> bytes:
    """The request's body, put together by hand: httpx takes 4 ms for it, of the cores that are measured."""
    fields = b"".join(PART % b'name="classes"' + name.encode() + b"\r\n" for name in CLASSES)
    fields += PART % b'name="method"' + method.encode() + b"\r\n"
    return fields + PART % b'name="images"; filename="a.jpg"' + content + b"\r\n--bound--\r\n"


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """The body of an answer with status 200."""
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    lengths = [int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")]
    body = await reader.readexactly(*lengths)
    assert b" 200 " in status, body
    return body


def alone(url: str, bare: Encoder, contents: Iterator[bytes], singles: int) -> list[list[float]]:
    """Seconds of decoding and encoding one picture here, and of one request when nothing else asks."""
    sides: list[list[float]] = [[], []]
    with httpx.Client(base_url=url, timeout=120) as http:
        for _ in range(singles):
            started = time.perf_counter()
            decode_and_encode(bare, [next(contents)], 1)
            between = time.perf_counter()
            http.post("/v1/score", **form(next(contents))).raise_for_status()
            sides[0].append(between - started)
            sides[1].append(time.perf_counter() - between)
    return sides


def form(content: bytes) -> dict[str, Any]:
    """One picture and the class names, as httpx sends them."""
    return {"files": {"images": ("a.jpg", content, "image/jpeg")}, "data": {"classes": CLASSES}}


def show(title: str, rates: Rates, latencies: list[list[float]]) -> None:
    """Two tables; a turn of one side is compared with the turn of the other that is next to it."""
    ratios = [http / bare for http, bare in zip(rates.http, rates.bare, strict=True)]
    throughput = Table("saturated", "images/s, median", "best turn", title=title)
    throughput.add_row("encoder on ready pixels", f"{np.median(rates.bare):.1f}", f"{max(rates.bare):.1f}")
    throughput.add_row("POST /v1/score", f"{np.median(rates.http):.1f}", f"{max(rates.http):.1f}")
    throughput.add_row("ratio (target 0.90)", f"{np.median(ratios):.2f}", f"{max(rates.http) / max(rates.bare):.2f}")
    latency = Table("one image, idle", "p50 ms", "p99 ms")
    percentiles = [np.percentile(side, (50, 99)) * 1e3 for side in latencies]
    for name, (p50, p99) in zip(("decode, then encode", "POST /v1/score"), percentiles, strict=True):
        latency.add_row(name, f"{p50:.1f}", f"{p99:.1f}")
    latency.add_row("ratio (target 1.3)", *(f"{ratio:.2f}" for ratio in percentiles[1] / percentiles[0]))
    turns = ", ".join(f"{bare:.1f}/{http:.1f}" for bare, http in zip(rates.bare, rates.http, strict=True))
    Console().print(throughput, latency, f"turns, bare/HTTP: {turns}")


if __name__ == "__main__":
    typer.run(main)
