"""Reads image files that may be damaged or hostile.

Limits are checked in order of cost: the size in bytes, the header (format, pixels, frames, scans), then the pixels.
"""

import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from PIL import Image, UnidentifiedImageError

from vlm_ood.errors import ImageError
from vlm_ood.image_header import FORMATS, ImageLimits, check_header, check_size
from vlm_ood.rgb import Picture, to_rgb, upright_rgb

__all__ = ["FORMATS", "SUFFIXES", "ImageLimits", "Picture", "find_images", "load_image", "to_rgb"]

# `ImageLimits` replaces this warning with an error. The filter is process-wide, because one that is set and reset
# inside `load_image` would race between decoding threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

SUFFIXES: Final = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


def load_image(source: str | os.PathLike[str] | bytes, limits: ImageLimits | None = None) -> Image.Image:
    """Decode one image file into an upright 8-bit RGB image, with alpha laid over white.

    Args:
        source: a path, or the bytes of a file.
        limits: by default 64 MiB, 50 megapixels, and JPEG, PNG, WebP, BMP, TIFF and GIF with one frame.

    Raises:
        ImageError: the file is missing, damaged, in another format, or over a limit.
    """
    limits = limits or ImageLimits()
    content = source if isinstance(source, bytes) else _read(Path(source), limits)
    check_size(len(content), limits)
    try:
        with Image.open(io.BytesIO(content), formats=limits.formats) as image:
            check_header(image, content, limits)
            image.load()
            return upright_rgb(image)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"not an image in a known format ({', '.join(limits.formats)})") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"too many pixels: {error}") from None
    except MemoryError as error:
        raise ImageError("not enough memory to decode it: shrink the image") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
        raise ImageError(f"damaged image: {error or type(error).__name__}") from None


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


def _read(path: Path, limits: ImageLimits) -> bytes:
    try:
        if not path.is_file():
            raise ImageError(f"no such file: {path}" if not path.exists() else f"not a file: {path}")
        check_size(path.stat().st_size, limits)
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"can't be read: {error.strerror or error}") from None
