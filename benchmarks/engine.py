"""The overhead of the engine: images per second and latency, against the encoder alone on the same cores.

    python -m benchmarks.engine --encoder random:ViT-B-32 --images 96 --clients 32

Three sides process the same JPEG files in turns: the encoder on decoded pixels; decoding followed by the encoder, in
one thread; and the engine, with many clients that send one image each. No caches are used.
"""

import asyncio
import io
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

import vlm_ood as vo
from benchmarks.common import in_turns
from service.engine import EncodedImage, EngineSettings, LocalEngine
from vlm_ood.encoders import Encoder
from vlm_ood.images import find_images, load_image


def jpegs(count: int, width: int, height: int, folder: Path | None) -> list[bytes]:
    """Files from the folder, or soft noise with grain at quality 90, which packs about as photographs do."""
    if folder is not None:
        files = [path.read_bytes() for path in find_images(folder)]
        return [files[row % len(files)] for row in range(count)]
    random = np.random.default_rng(0)
    return [_noise(random, width, height) for _ in range(count)]


def _noise(random: np.random.Generator, width: int, height: int) -> bytes:
    blocks = random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    grain = np.clip(soft + random.normal(0, 4, soft.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grain).save(file, "JPEG", quality=90)
    return file.getvalue()


def encode_only(encoder: Encoder, pixels: torch.Tensor) -> None:
    """Ready pixels in full batches; fetching the result waits for the device."""
    for batch in torch.split(pixels, encoder.batch_size):
        encoder.encode_pixels(batch).pooled.cpu()


def decode_and_encode(encoder: Encoder, contents: Sequence[bytes], batch_size: int) -> None:
    """A batch is decoded, then encoded, then comes the next."""
    for start in range(0, len(contents), batch_size):
        part = contents[start : start + batch_size]
        pixels = torch.stack([encoder.preprocessing(load_image(content)) for content in part])
        encoder.encode_pixels(pixels).pooled.cpu()


async def ask(engine: LocalEngine, name: str, contents: Sequence[bytes], clients: int) -> None:
    """Each client asks for the next image as soon as it has its answer."""
    left = iter(contents)

    async def client(left: Iterator[bytes]) -> None:
        for content in left:
            (answer,) = await engine.encode_images(name, [content])
            assert isinstance(answer, EncodedImage), answer

    await asyncio.gather(*(client(left) for _ in range(clients)))


def main(
    encoder: str = "random:ViT-B-32",
    images: int = 96,
    clients: int = 32,
    width: int = 640,
    height: int = 480,
    folder: Path | None = None,
    singles: int = 100,
    turns: int = 6,
) -> None:
    """Print images a second and the latency of one image, with their ratios."""
    bare = vo.load_encoder(encoder)
    contents = jpegs(images, width, height, folder)
    pixels = torch.stack([bare.preprocessing(load_image(content)) for content in contents])
    engine_settings = EngineSettings(encoders=(encoder,), image_cache_bytes=0, deadline_s=600.0)
    with asyncio.Runner() as runner:
        engine = runner.run(started(engine_settings))
        sides = (
            lambda: encode_only(bare, pixels),
            lambda: decode_and_encode(bare, contents, bare.batch_size),
            lambda: runner.run(ask(engine, encoder, contents, clients)),
        )
        seconds = in_turns(sides, turns)
        ones = [contents[row % images] for row in range(singles)]
        latencies = alone(
            [
                lambda content: decode_and_encode(bare, [content], 1),
                lambda content: runner.run(ask(engine, encoder, [content], 1)),
            ],
            ones,
        )
        runner.run(engine.stop())
    show(f"{encoder} on {bare.device}, {images} files, {clients} clients", images, seconds, latencies)


async def started(settings: EngineSettings) -> LocalEngine:
    """An engine on the running loop."""
    engine = LocalEngine(settings)
    await engine.start()
    return engine


def alone(sides: Sequence[Callable[[bytes], None]], contents: Sequence[bytes]) -> list[list[float]]:
    """Seconds of each side for each file alone, the sides one after the other on every file."""
    seconds: list[list[float]] = [[] for _ in sides]
    for content in contents:
        for row, side in enumerate(sides):
            start = time.perf_counter()
            side(content)
            seconds[row].append(time.perf_counter() - start)
    return seconds


def show(title: str, images: int, seconds: Sequence[float], latencies: Sequence[Sequence[float]]) -> None:
    """Two tables."""
    throughput = Table("saturated", "images/s", "of the encoder", title=title)
    for name, taken in zip(("encoder on ready pixels", "decode, then encode", "engine"), seconds, strict=True):
        throughput.add_row(name, f"{images / taken:.1f}", f"{seconds[0] / taken:.2f}")
    latency = Table("one image, idle", "p50 ms", "p99 ms", "of the bare p50", "of the bare p99")
    base = np.percentile(latencies[0], (50, 99))
    for name, taken_s in zip(("decode, then encode", "engine"), latencies, strict=True):
        p50, p99 = np.percentile(taken_s, (50, 99))
        latency.add_row(name, f"{p50 * 1e3:.1f}", f"{p99 * 1e3:.1f}", f"{p50 / base[0]:.2f}", f"{p99 / base[1]:.2f}")
    Console().print(throughput, latency)


if __name__ == "__main__":
    typer.run(main)
