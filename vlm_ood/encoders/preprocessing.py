"""From an image to the pixels that a set of weights was trained on.

Preprocessing belongs to the weights: its digest is part of the encoder's. It ends in uint8, so that an image can wait
in a queue at a quarter of the size; scaling and normalising happen on the device.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import ceil, floor
from typing import Final, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from vlm_ood.digests import digest_of
from vlm_ood.rgb import Picture, upright_rgb

Interpolation = Literal["bicubic", "bilinear", "nearest", "lanczos"]
ResizeMode = Literal["shortest", "squash", "longest"]

_RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
    "lanczos": Image.Resampling.LANCZOS,
}

MOST_PIXELS: Final = 2**23
"""An image that would have more pixels than this (32 MiB) once resized is resized only where the crop sees it: whole, a
strip of 1x8000 would take 1.2 GB. Values may then differ by 1 or 2 of 255 where they round, since Pillow takes a box in
fp32; in strips that stand upright and shrink also at hard edges, since Pillow may resize columns before rows."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of a network.

    Args:
        height: rows of the input, in pixels.
        width: columns of the input, in pixels.
        mean: of the red, green and blue channel, in [0, 1].
        std: likewise.
        interpolation: of the resize, in Pillow's antialiased form.
        resize_mode: "shortest" brings the shorter side to `resize` and crops the centre, as CLIP does; "squash"
            ignores the aspect ratio, as SigLIP does; "longest" fits the image in and fills the rest with `fill`.
        resize: length of the shorter side before the crop; by default the image just covers height and width.
        fill: grey value of the border for "longest", in [0, 255].
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bicubic"
    resize_mode: ResizeMode = "shortest"
    resize: int | None = None
    fill: int = 0

    def at(self, size: tuple[int, int]) -> "Preprocessing":
        """The same steps for an input of another size; `resize` keeps its ratio to the side that grows most.

        Args:
            size: rows and columns of the input in pixels.
        """
        height, width = size
        grown = max(height / self.height, width / self.width)
        resize = None if self.resize is None else round(self.resize * grown)
        return replace(self, height=height, width=width, resize=resize)

    @property
    def digest(self) -> str:
        """Of every field."""
        return digest_of(asdict(self))

    def __call__(self, picture: Picture) -> UInt8[Tensor, "3 rows columns"]:
        """The image as the network's input, before scaling and normalising.

        Args:
            picture: a PIL image of any mode, or a uint8 array (h, w, 3) in RGB.
        """
        fitted = self._fit(upright_rgb(picture))
        return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous()

    def normalise(self, pixels: UInt8[Tensor, "n 3 h w"], dtype: torch.dtype) -> Float[Tensor, "n 3 h w"]:
        """Scale to [0, 1], subtract the mean, divide by the standard deviation, on the pixels' device."""
        mean = 255 * torch.tensor(self.mean, device=pixels.device).view(3, 1, 1)
        std = 255 * torch.tensor(self.std, device=pixels.device).view(3, 1, 1)
        return pixels.float().sub_(mean).div_(std).to(dtype)  # in place: fresh memory cost more than the arithmetic

    def _fit(self, image: Image.Image) -> Image.Image:
        fits: dict[ResizeMode, Callable[[Image.Image], Image.Image]] = {
            "shortest": self._resize_and_crop,
            "squash": self._squash,
            "longest": self._pad,
        }
        return fits[self.resize_mode](image)

    def _squash(self, image: Image.Image) -> Image.Image:
        return image.resize((self.width, self.height), _RESAMPLING[self.interpolation])

    def _resize_and_crop(self, image: Image.Image) -> Image.Image:
        width, height = self._covering(image)
        left, top = round((width - self.width) / 2), round((height - self.height) / 2)
        resampling = _RESAMPLING[self.interpolation]
        if width * height > MOST_PIXELS:
            across = _seen(image.width, width, left, self.width)
            down = _seen(image.height, height, top, self.height)
            part = image.crop((across.first, down.first, across.last, down.last))
            box = (across.start, down.start, across.end, down.end)
            return part.resize((self.width, self.height), resampling, box=box)
        return image.resize((width, height), resampling).crop((left, top, left + self.width, top + self.height))

    def _covering(self, image: Image.Image) -> tuple[int, int]:
        """Width and height before the crop, rounded as torchvision and open_clip do it."""
        if self.resize is None and self.height != self.width:
            ratio = min(image.height / self.height, image.width / self.width)
            return round(image.width / ratio), round(image.height / ratio)
        short = self.resize or self.height
        if image.width <= image.height:
            return short, int(short * image.height / image.width)
        return int(short * image.width / image.height), short

    def _pad(self, image: Image.Image) -> Image.Image:
        ratio = max(image.height / self.height, image.width / self.width)
        size = max(1, round(image.width / ratio)), max(1, round(image.height / ratio))
        canvas = Image.new("RGB", (self.width, self.height), (self.fill,) * 3)
        resized = image.resize(size, _RESAMPLING[self.interpolation])
        canvas.paste(resized, ((self.width - size[0]) // 2, (self.height - size[1]) // 2))
        return canvas


class _Span(NamedTuple):
    """What a crop sees along one axis: pixels `first` to `last` of the image, and the crop's ends from `first`."""

    first: int
    last: int
    start: float
    end: float


def _seen(length: int, resized: int, offset: int, cropped: int) -> _Span:
    """What `cropped` pixels at `offset` of `resized` ones are made from, with what the filter reaches beyond."""
    scale = length / resized  # pixels of the image per pixel after resizing
    reach = ceil(3 * max(1.0, scale)) + 1  # Lanczos, the widest, reaches 3 pixels of the coarser of the two
    start, end = offset * scale, (offset + cropped) * scale
    first, last = max(0, floor(start) - reach), min(length, ceil(end) + reach)
    return _Span(first, last, start - first, end - first)
