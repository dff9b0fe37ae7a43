"""Stand-ins that are true to the contract and cost milliseconds."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageColor
from torch import Tensor
from torch.nn import functional

from vlm_ood.digests import digest_of
from vlm_ood.encoders.base import Encoder, Progress
from vlm_ood.encoders.outputs import POOLED, Outputs
from vlm_ood.encoders.preprocessing import Preprocessing
from vlm_ood.types import ImageFeatures

SIDE = 8  # pixels of the input
GRID = 2  # patches along a side, whatever the size of the input
STAGES = 3


class FakeEncoder(Encoder):
    """Sees the mean colour of a picture, and in a prompt the colour words that Pillow knows.

    A red picture lies near "a photo of a red thing." and far from "blue"; words that are no colours give directions of
    their own, seeded by their hash. Text vectors come in different lengths, so that the order of averaging matters.

    Args:
        dim: d, at least 4.
        name: goes into the digest: two names are two encoders.

    Attributes:
        prompts_seen: every prompt that went through the text tower, in order.
    """

    capabilities = frozenset({"patches", "stages", "windows", "sizes"})
    scale = 100.0
    batch_size = 4

    def __init__(self, dim: int = 16, name: str = "fake") -> None:
        self.name, self.dim = name, dim
        self.digest = digest_of("fake", name, dim)
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.preprocessing = Preprocessing(SIDE, SIDE, (0.5,) * 3, (0.5,) * 3, interpolation="bilinear")
        self.prompts_seen: list[str] = []
        self._colours = torch.linalg.qr(_noise("colours", dim, 4))[0].T  # orthonormal, (4, d)

    def encode_pixels(self, pixels: UInt8[Tensor, "n 3 h w"], outputs: Outputs = POOLED) -> ImageFeatures:
        self.check(pixels, outputs)
        grid = functional.adaptive_avg_pool2d(pixels.float() / 255, GRID)  # (n, 3, h, w)
        places = grid.flatten(2).transpose(1, 2)
        means = {side: functional.avg_pool2d(grid, side, stride=1) for side in outputs.windows}
        return ImageFeatures(
            self._see(places.mean(dim=1)),
            self._see(places) if outputs.patches else None,
            (GRID, GRID) if outputs.local else None,
            {number: number * places for number in outputs.stages},
            {side: self._see(mean.flatten(2).transpose(1, 2)) for side, mean in means.items()},
        )

    def refusal(self, outputs: Outputs) -> str | None:
        outside = [number for number in outputs.stages if number > STAGES]
        return f"has the blocks 1 to {STAGES}, not {outside}" if outside else None

    def encode_text(
        self,
        prompts: Sequence[str],
        *,
        normalise: bool = True,
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> Float[Tensor, "n d"]:
        self.prompts_seen += prompts
        vectors = torch.stack([self._read(prompt) for prompt in prompts])
        for start in range(0, len(prompts), batch_size):
            if progress is not None:
                progress(len(prompts[start : start + batch_size]))
        return functional.normalize(vectors, dim=-1) if normalise else vectors

    def _see(self, colour: Float[Tensor, "... 3"]) -> Float[Tensor, "... d"]:
        """The fourth number keeps grey from having no direction."""
        seen: Tensor = functional.pad(colour - 0.5, (0, 1), value=0.1) @ self._colours
        return seen

    def _read(self, prompt: str) -> Float[Tensor, " d"]:
        words = prompt.lower().rstrip(".").split()
        colours = [self._see(torch.tensor(rgb) / 255) for rgb in map(_colour, words) if rgb is not None]
        noise = 0.2 * functional.normalize(_noise(prompt, self.dim), dim=0)
        return torch.stack([*colours, noise]).sum(dim=0) * (1 + len(prompt) % 3)


def save_picture(path: Path, colour: str, size: tuple[int, int] = (16, 16)) -> Path:
    """A picture of one colour in a new file; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def _noise(seed: str, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(int(digest_of(seed)[:12], 16))
    return torch.randn(*shape, generator=generator)


def _colour(word: str) -> tuple[int, ...] | None:
    try:
        return ImageColor.getrgb(word)[:3]
    except ValueError:
        return None
