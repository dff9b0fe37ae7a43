"""From an image of any mode to upright 8-bit RGB, a strip of rows at a time: few bytes beside the two images."""

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

from vlm_ood.errors import ImageError

Picture = Image.Image | UInt8[np.ndarray, "_ _ 3"]

STRIP_PIXELS: Final = 2**20

ALPHA: Final = frozenset({"RGBA", "LA", "PA", "La", "RGBa"})

UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation but 1."""

ORIENTED_BY: Final = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")


def to_rgb(picture: Picture) -> Image.Image:
    """Convert an image to upright 8-bit RGB.

    The EXIF orientation is applied, alpha is laid over white, 16-bit and float values are scaled to 8 bits from the
    range of their format, and palettes and CMYK are converted.

    Args:
        picture: a PIL image of any mode, or a uint8 array (h, w, 3) in RGB.

    Raises:
        ImageError: an array with other axes or another dtype, or an image without pixels.
    """
    image = upright_rgb(picture)
    return image.copy() if image is picture else image


def upright_rgb(picture: Picture) -> Image.Image:
    """What `to_rgb` gives, or the picture itself where it is that already: for those who don't write to it."""
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ImageError(f"an array must be uint8 (h, w, 3) in RGB, got {picture.dtype} {picture.shape}")
        picture = Image.fromarray(picture)
    if not picture.width or not picture.height:
        raise ImageError(f"no pixels: {picture.width}x{picture.height}")
    picture.load()  # a PNG may say how it is oriented behind its pixels
    method = UPRIGHT.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    image = _rgb(picture)
    if method is None:
        return image
    upright = image.transpose(method)
    for name in ORIENTED_BY:
        upright.info.pop(name, None)
    return upright


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        scale = _scale(image)
        return _by_strips(image, lambda strip: _eight_bit(strip, scale))
    if "transparency" in image.info or image.mode in ALPHA:
        return _by_strips(image, _over_white)
    return image.convert("RGB")


def _by_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    result = Image.new("RGB", image.size)
    top = 0
    for strip in _strips(image):
        result.paste(convert(strip), (0, top))
        top += strip.height
    return result


def _strips(image: Image.Image) -> Iterator[Image.Image]:
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _over_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _scale(image: Image.Image) -> float:
    """What brings grey values of 16 bits, 32 bits or floats to [0, 255].

    Pillow decodes 16-bit PNG and TIFF to mode "I" or "I;16" and doesn't record the range of floats: values up to 1 are
    taken as [0, 1], integers above 255 as 16 bits.
    """
    if image.mode.startswith("I;16"):
        return 255 / 65535
    largest = np.max([np.asarray(strip).max() for strip in _strips(image)])
    if image.mode == "F":
        return 255.0 if largest <= 1 else 1.0
    return 255 / 65535 if largest > 255 else 1.0


def _eight_bit(image: Image.Image, scale: float) -> Image.Image:
    values = np.nan_to_num(np.asarray(image, dtype=np.float64)) * scale + 0.5
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")
