"""Limits on an image file that are checked before its pixels are decoded."""

import re
from dataclasses import dataclass
from typing import Final

from PIL import Image

from vlm_ood.errors import ImageError

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")

TILE_WIDTH: Final = 322  # tags of TIFF 6.0, section 15
TILE_LENGTH: Final = 323

SOS: Final = b"\xda"  # JPEG markers: start of scan, end of image
EOI: Final = b"\xd9"
SEGMENT: Final = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
"""A marker that a length follows, or EOI: no stuffed or filling byte, and not TEM, RST or SOI, which stand alone."""


@dataclass(frozen=True)
class ImageLimits:
    """Limits that an image file must keep before its pixels are decoded.

    Args:
        max_bytes: size of the file.
        max_pixels: width times height, from the header; of a tile of a TIFF too.
        formats: accepted formats, by Pillow's names.
        max_scans: of a JPEG. Each is a pass over all pixels; encoders write 10 to 20 of them, 1 without progression.
    """

    max_bytes: int = 64 * 2**20
    max_pixels: int = 50_000_000
    formats: tuple[str, ...] = FORMATS
    max_scans: int = 100


def check_size(nbytes: int, limits: ImageLimits) -> None:
    """Check the size of a file.

    Raises:
        ImageError: it is empty or too large.
    """
    if not nbytes:
        raise ImageError("empty file: 0 bytes")
    if nbytes > limits.max_bytes:
        raise ImageError(f"{nbytes:,} bytes, the limit is {limits.max_bytes:,}: shrink the image")


def check_header(image: Image.Image, content: bytes, limits: ImageLimits) -> None:
    """Check what a file declares, in the order of what the checks cost.

    Args:
        image: opened, not loaded.
        content: of the file.
        limits: to keep.

    Raises:
        ImageError: there are too many pixels, frames or scans.
    """
    _check_pixels(image.width, image.height, "", limits)
    tags = getattr(image, "tag_v2", {})  # a decoder allocates a whole tile, however small the image in it is
    _check_pixels(tags.get(TILE_WIDTH, 0), tags.get(TILE_LENGTH, 0), "a tile of ", limits)
    if getattr(image, "is_animated", False):  # `n_frames` walks all of them: 45 s for a TIFF of 160 000 pages
        raise ImageError("2 frames or more: an animation or a stack is not one image; give one frame")
    if image.format in {"JPEG", "MPO"} and count_scans(content, limits.max_scans) > limits.max_scans:
        raise ImageError(f"more than {limits.max_scans} scans in a JPEG: save it as a baseline JPEG")


def count_scans(jpeg: bytes, most: int) -> int:
    """The scans of a JPEG, as a decoder sees them; counting ends above `most`.

    Args:
        jpeg: the file.
        most: how far to count.
    """
    if jpeg.count(b"\xff" + SOS) <= most:  # also in thumbnails and other metadata: an upper bound, found fast
        return jpeg.count(b"\xff" + SOS)
    scans, position = 0, 0
    while scans <= most and (marker := SEGMENT.search(jpeg, position)) and marker[1] != EOI:
        scans += marker[1] == SOS
        position = marker.end() + max(2, int.from_bytes(jpeg[marker.end() : marker.end() + 2]))
    return scans


def _check_pixels(width: int, height: int, what: str, limits: ImageLimits) -> None:
    pixels = width * height
    if pixels > limits.max_pixels:
        raise ImageError(
            f"{what}{width}x{height} is {pixels / 1e6:.1f} megapixels, "
            f"the limit is {limits.max_pixels / 1e6:.1f}: shrink the image"
        )
