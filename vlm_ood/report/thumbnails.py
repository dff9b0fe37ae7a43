"""Small JPEG copies of pictures, as data URIs for a page."""

import base64
import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from PIL import Image

from vlm_ood.errors import ImageError
from vlm_ood.images import load_image

LARGEST: Final = 320  # pixels of the longer side: twice the width of a card on most screens
TINY: Final = 96  # below this many pixels a picture is enlarged with hard edges, not interpolated

K = TypeVar("K")


@dataclass(frozen=True)
class Thumbnail:
    """A JPEG as a data URI.

    Args:
        uri: "data:image/jpeg;base64,...".
        width: in pixels.
        height: in pixels.
    """

    uri: str
    width: int
    height: int

    @property
    def tiny(self) -> bool:
        """Whether its longer side is below `TINY` pixels."""
        return max(self.width, self.height) < TINY


def thumbnail(path: Path, largest: int = LARGEST) -> Thumbnail | None:
    """The picture with its longer side at most `largest` pixels; None when it can't be read."""
    try:
        image = load_image(path)
    except ImageError:
        return None
    image.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=80, optimize=True)
    encoded = base64.b64encode(content.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/jpeg;base64,{encoded}", image.width, image.height)


def thumbnails(pictures: Mapping[K, Path], largest: int = LARGEST) -> dict[K, Thumbnail]:
    """A thumbnail per picture, in order; pictures that can't be read are left out."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        made = pool.map(lambda path: thumbnail(path, largest), pictures.values())
        return {name: small for name, small in zip(pictures, made, strict=True) if small is not None}
