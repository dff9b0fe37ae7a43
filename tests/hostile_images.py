"""Images that are cheap to send and dear to decode, damaged ones, and files of formats that nobody asked for."""

import io
import struct
import zlib
from collections.abc import Mapping
from random import Random
from typing import Final

from PIL import Image

Picture = tuple[str, bytes]
KINDS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
OTHER_KINDS: Final = ("JPEG2000", "ICO", "ICNS", "TGA", "PPM", "SGI", "PCX", "IM", "DDS", "PDF", "SPIDER")
LONGEST_RUN: Final = 2**15 - 1  # blocks that one end-of-band code of JPEG may skip


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


def scans(count: int, side: int = 6000) -> bytes:
    """A grey progressive JPEG whose image is sent `count` times: decoding walks over all of it each time."""
    blocks = ((side + 7) // 8) ** 2
    frame = b"\xff\xc2" + struct.pack(">HBHHBBBB", 11, 8, side, side, 1, 1, 0x11, 0)
    quantisation = b"\xff\xdb" + struct.pack(">HB", 67, 0) + b"\x01" * 64
    first = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 0, 0, 0) + bytes((blocks + 7) // 8)
    again = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 1, 63, 0) + _empty_bands(blocks)
    tables = _one_code(0x00, 0) + _one_code(0x10, 0xE0)
    return b"\xff\xd8" + quantisation + frame + tables + first + again * count + b"\xff\xd9"


def pages(count: int) -> bytes:
    """A TIFF of so many pages of one grey pixel."""
    page = _directory({256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 8, 278: 1, 279: 1})
    size = len(page) + 4
    links = (10 + size * number if number < count else 0 for number in range(1, count + 1))
    return b"II*\0" + struct.pack("<I", 10) + b"\x7f\0" + b"".join(page + struct.pack("<I", link) for link in links)


def one_tile(side: int = 32768, rows: int | None = None) -> bytes:
    """A TIFF of 64 x 64 pixels in one tile of side x side, of which a decoder finds all rows or so many."""
    squeeze = zlib.compressobj(1)
    tile = b"".join(squeeze.compress(bytes(side)) for _ in range(rows or side)) + squeeze.flush()
    tile += b"\0" * (len(tile) % 2)  # a directory begins at an even offset
    sizes = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 322: side, 323: side, 324: 8, 325: len(tile)}
    return b"II*\0" + struct.pack("<I", 8 + len(tile)) + tile + _directory(sizes) + bytes(4)


def bomb(side: int = 60_000) -> bytes:
    """A PNG of a few hundred bytes that declares billions of pixels."""
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) + _chunk(
        b"IDAT", zlib.compress(bytes(10_000))
    ) + _chunk(b"IEND", b"")  # fmt: skip


def inflating() -> bytes:
    """A PNG within the limit on pixels whose data inflate to far more than it declares, and a large comment."""
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0))
    comment = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000), 9))
    data = _chunk(b"IDAT", zlib.compress(bytes(50_000_000), 9))
    return b"\x89PNG\r\n\x1a\n" + head + comment + data + _chunk(b"IEND", b"")


def photograph(random: Random, kind: str = "JPEG", size: tuple[int, int] = (160, 120)) -> bytes:
    """Noise over a colour."""
    image = Image.new("RGB", size, tuple(random.randrange(256) for _ in range(3)))
    image.paste(Image.frombytes("RGB", (32, 32), random.randbytes(32 * 32 * 3)), (8, 8))
    return encoded(image, kind)


def animation() -> bytes:
    """A GIF of many frames."""
    frames = [Image.new("P", (64, 64), row) for row in range(50)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def plain(mode: str, kind: str, size: tuple[int, int] = (8000, 5000), **options: object) -> bytes:
    """A picture of one colour: small as a file, large in memory."""
    return encoded(Image.new(mode, size), kind, **options)


def floating(size: tuple[int, int] = (8000, 5000)) -> bytes:
    """A TIFF whose pixels are floating-point numbers."""
    return plain("F", "TIFF", size, compression="tiff_adobe_deflate")


def bombs() -> list[Picture]:
    """Files that declare, or inflate to, far more than they are."""
    return [("bomb.png", bomb()), ("wide.png", bomb(39_999_999)), ("inflating.png", inflating())]


def truncated(random: Random, count: int) -> list[Picture]:
    """Photographs of each format that end early."""
    whole = {kind: photograph(random, kind, (320, 240)) for kind in KINDS}
    chosen = [random.choice(KINDS) for _ in range(count)]
    return [(f"cut.{kind}", whole[kind][: random.randrange(1, len(whole[kind]))]) for kind in chosen]


def other_formats() -> list[Picture]:
    """Valid files of formats that a server need not read, and texts that some library might run."""
    found = [
        ("run.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n%%EOF"),
        ("link.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"),
        ("code.pickle", b"\x80\x04cos\nsystem\n(S'true'\ntR."),
        ("archive.zip", b"PK\x03\x04" + bytes(200)),
        ("movie.mp4", b"\x00\x00\x00\x18ftypmp42" + bytes(200)),
    ]
    for kind in OTHER_KINDS:
        image = Image.new("F" if kind == "SPIDER" else "RGB", (64, 64))
        try:
            content = encoded(image, kind)
        except (OSError, KeyError):  # Pillow was built without this format
            continue
        found.append((f"a.{kind.lower()}", content))
    return found


def _one_code(table: int, symbol: int) -> bytes:
    """A Huffman table of one code, which is the bit 0."""
    return b"\xff\xc4" + struct.pack(">HB", 20, table) + b"\x01" + bytes(15) + bytes([symbol])


def _empty_bands(blocks: int) -> bytes:
    """The data of a scan in which no block has anything: runs of end-of-band, 15 bits each."""
    bits = ""
    while blocks > 0:
        run = min(blocks, LONGEST_RUN)
        bits += "0" + format(max(0, run - 2**14), "014b")  # a run is 2**14 and what 14 further bits say
        blocks -= max(run, 2**14)
    bits += "1" * (-len(bits) % 8)
    packed = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
    return packed.replace(b"\xff", b"\xff\0")


def _directory(tags: Mapping[int, int]) -> bytes:
    """The directory of a TIFF: tags of one LONG each."""
    return struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
