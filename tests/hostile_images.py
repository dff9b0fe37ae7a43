"""Image files that are cheap to send and dear to decode."""

import io
import struct
import zlib

from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def progressive_jpeg(scans: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """A valid JPEG, noise in a corner, whose last scan is repeated until there are so many."""
    image = Image.new("RGB", size, "grey")
    image.paste(Image.effect_noise((64, 48), 60))
    jpeg = encoded(image, "JPEG", progressive=True, quality=90)
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:-2] + jpeg[last:-2] * (scans - jpeg.count(b"\xff\xda")) + jpeg[-2:]


def tiff(tags: dict[int, int], data: bytes = b"", pages: int = 1) -> bytes:
    """A little-endian TIFF of LONG tags; `data` lies at offset 8, and pages beyond the first are empty."""
    first = 8 + len(data) + len(data) % 2
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    second = first + 2 + len(entries) + 4
    rest = b"".join(struct.pack("<HI", 0, second + 6 * (page + 1)) for page in range(pages - 2))
    rest += struct.pack("<HI", 0, 0) if pages > 1 else b""
    head = b"II*\0" + struct.pack("<I", first) + data + b"\0" * (len(data) % 2)
    return head + struct.pack("<H", len(tags)) + entries + struct.pack("<I", second if pages > 1 else 0) + rest


def grey_tiff(pages: int) -> bytes:
    """One grey pixel, and further pages without any."""
    return tiff({256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 1}, b"\x7f", pages)


def one_tile_tiff(side: int) -> bytes:
    """An image of 16 x 16 in one compressed tile of side x side, which a decoder allocates."""
    data = zlib.compress(bytes(side * min(side, 1024)), 9)
    sizes = {256: 16, 257: 16, 322: side, 323: side}
    return tiff(sizes | {258: 8, 259: 8, 262: 1, 277: 1, 324: 8, 325: len(data)}, data)
