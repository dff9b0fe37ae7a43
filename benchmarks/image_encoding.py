"""The overhead of encoding images: `encode_images` against the network on prepared tensors.

    python -m benchmarks.image_encoding --architecture ViT-B-32 --images 32

The other side is open_clip's `encode_image` on tensors that are already resized and normalised; ours starts from
decoded images. Both take the same batches.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.common import in_turns, model_and_encoder


def pictures(count: int, width: int, height: int) -> list[Image.Image]:
    """Noise: what a picture shows doesn't change what it costs once it is decoded."""
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)) for _ in range(count)]


def bare_forward(model: Any, batches: Sequence[Tensor]) -> Tensor:
    """The network alone; fetching the result waits for the device."""
    with torch.inference_mode():
        return torch.cat([model.encode_image(batch, normalize=True) for batch in batches]).cpu()


def main(
    architecture: str = "ViT-B-32",
    images: int = 32,
    width: int = 640,
    height: int = 480,
    batch_size: int = 0,
    patches: bool = False,
    turns: int = 30,
) -> None:
    """Print images a second of the network and of `encode_images`, and their ratio."""
    model, encoder = model_and_encoder(architecture)
    size = batch_size or encoder.batch_size
    given = pictures(images, width, height)
    pixels = torch.stack([encoder.preprocessing(picture) for picture in given]).to(encoder.device)
    batches = torch.split(encoder.preprocessing.normalise(pixels, encoder.dtype), size)

    def bare() -> Tensor:
        return bare_forward(model, batches)

    def ours() -> Tensor:
        return encoder.encode_images(given, batch_size=size, patches=patches).pooled.cpu()

    difference = float((bare().float() - ours()).abs().max())
    bare_s, ours_s = in_turns([bare, ours], turns)
    label = "encode_images with patches" if patches else "encode_images"
    title = f"{architecture} on {encoder.device}, {images} pictures of {width}x{height} in batches of {size}"
    table = Table("", "images/s", "ratio", title=title)
    table.add_row("forward pass on ready tensors", f"{images / bare_s:.1f}", "1.00")
    table.add_row(label, f"{images / ours_s:.1f}", f"{bare_s / ours_s:.2f}")
    Console().print(table, f"largest difference of the vectors: {difference:.1e}")


if __name__ == "__main__":
    typer.run(main)
