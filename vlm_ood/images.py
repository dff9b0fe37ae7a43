"""Reads image files that may be damaged or hostile.

Limits are checked in order of cost: the size in bytes, then the header (format, pixels, frames), then the pixels.
"""

import io
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from vlm_ood.errors import ImageError

# `ImageLimits` replaces this warning with an error. The filter is process-wide, because one that is set and reset
# inside `load_image` would race between decoding threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

Picture = Image.Image | UInt8[np.ndarray, "_ _ 3"]

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
SUFFIXES: Final = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


@dataclass(frozen=True)
class ImageLimits:
    """Limits that an image file must keep before its pixels are decoded.

    Args:
        max_bytes: size of the file.
        max_pixels: width times height, from the header.
        formats: accepted formats, by Pillow's names.
    """

    max_bytes: int = 64 * 2**20
    max_pixels: int = 50_000_000
    formats: tuple[str, ...] = FORMATS


def load_image(source: str | os.PathLike[str] | bytes, limits: ImageLimits | None = None) -> Image.Image:
    """Decode one image file into an upright 8-bit RGB image, with alpha laid over white.

    Args:
        source: a path, or the bytes of a file.
        limits: by default 64 MiB, 50 megapixels, and JPEG, PNG, WebP, BMP, TIFF and GIF with one frame.

    Raises:
        ImageError: the file is missing, damaged, in another format, or over a limit.
    """
    limits = limits or ImageLimits()
    content = source if isinstance(source, bytes) else _read(Path(source), limits.max_bytes)
    if not content:
        raise ImageError("empty file: 0 bytes")
    if len(content) > limits.max_bytes:
        raise ImageError(f"{len(content):,} bytes, the limit is {limits.max_bytes:,}: shrink the image")
    try:
        with Image.open(io.BytesIO(content), formats=limits.formats) as image:
            _check_header(image, limits)
            image.load()
            return to_rgb(image)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"not an image in a known format ({', '.join(limits.formats)})") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"too many pixels: {error}") from None
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
        raise ImageError(f"damaged image: {error or type(error).__name__}") from None


def to_rgb(picture: Picture) -> Image.Image:
    """Convert an image to upright 8-bit RGB.

    The EXIF orientation is applied, alpha is laid over white, 16-bit and float values are scaled to 8 bits from the
    range of their format, and palettes and CMYK are converted.

    Args:
        picture: a PIL image of any mode, or a uint8 array (h, w, 3) in RGB.

    Raises:
        ImageError: an array with other axes or another dtype, or an image without pixels.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ImageError(f"an array must be uint8 (h, w, 3) in RGB, got {picture.dtype} {picture.shape}")
        picture = Image.fromarray(picture)
    if not picture.width or not picture.height:
        raise ImageError(f"no pixels: {picture.width}x{picture.height}")
    image = ImageOps.exif_transpose(picture)
    if image.mode == "RGB":
        return image.copy() if image is picture else image
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bit(image).convert("RGB")
    if "transparency" in image.info or image.mode in {"RGBA", "LA", "PA", "La", "RGBa"}:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def find_images(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Find every file below a folder whose suffix is in `SUFFIXES`, sorted by path; hidden files are left out.

    Raises:
        ImageError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ImageError(f"no such folder: {root}")
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            yield path


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        if not path.is_file():
            raise ImageError(f"no such file: {path}" if not path.exists() else f"not a file: {path}")
        size = path.stat().st_size
        if size > max_bytes:
            raise ImageError(f"{size:,} bytes, the limit is {max_bytes:,}: shrink the image")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"can't be read: {error.strerror or error}") from None


def _check_header(image: Image.Image, limits: ImageLimits) -> None:
    pixels = image.width * image.height
    if pixels > limits.max_pixels:
        raise ImageError(
            f"{image.width}x{image.height} is {pixels / 1e6:.1f} megapixels, "
            f"the limit is {limits.max_pixels / 1e6:.1f}: shrink the image"
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(f"{frames} frames: an animation or a stack is not one image; give one frame")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale grey values of 16 bits, 32 bits or floats to 8 bits."""
    values = np.asarray(image, dtype=np.float64)
    # Pillow decodes 16-bit PNG and TIFF to mode "I" or "I;16" and doesn't record the range of floats: values up to 1
    # are taken as [0, 1], integers above 255 as 16 bits.
    if image.mode == "F":
        scale = 255.0 if values.max() <= 1 else 1.0
    else:
        scale = 255 / 65535 if image.mode.startswith("I;16") or values.max() > 255 else 1.0
    return Image.fromarray(np.clip(np.nan_to_num(values) * scale + 0.5, 0, 255).astype(np.uint8))
