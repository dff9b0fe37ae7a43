"""Small files whose decoding takes much time or memory, and files of formats that nobody asked for."""

import io
import struct
import zlib
from random import Random
from typing import Final

from PIL import Image

from tests.service.hostile import Picture, bomb, inflating, photograph

KINDS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
OTHER_KINDS: Final = ("JPEG2000", "ICO", "ICNS", "TGA", "PPM", "SGI", "PCX", "IM", "DDS", "PDF", "SPIDER")
LONGEST_RUN: Final = 2**15 - 1  # blocks that one end-of-band code of JPEG may skip


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
    """A TIFF of so many pages of one pixel."""
    pixel, size = 8, 2 + 12 * 8 + 4
    tags = [(256, 4, 1), (257, 4, 1), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, pixel), (278, 4, 1), (279, 4, 1)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    page = struct.pack("<H", len(tags)) + entries
    start = pixel + 2
    links = (start + size * number if number < count else 0 for number in range(1, count + 1))
    return b"II*\0" + struct.pack("<I", start) + b"\0\0" + b"".join(page + struct.pack("<I", link) for link in links)


def one_tile(side: int = 32768) -> bytes:
    """A TIFF of 64 x 64 pixels in one tile of side x side."""
    squeeze = zlib.compressobj(1)
    tile = b"".join(squeeze.compress(bytes(side * 64)) for _ in range(side // 64)) + squeeze.flush()
    data = 8 + 2 + 12 * 9 + 4
    tags = [(256, 64), (257, 64), (258, 8), (259, 8), (262, 1), (322, side), (323, side), (324, data), (325, len(tile))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + tile


def plain(mode: str, kind: str, size: tuple[int, int] = (8000, 5000), **options: object) -> bytes:
    """A picture of one colour: small as a file, large in memory."""
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind, **options)
    return buffer.getvalue()


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
        buffer = io.BytesIO()
        image = Image.new("F" if kind == "SPIDER" else "RGB", (64, 64))
        try:
            image.save(buffer, kind)
        except (OSError, KeyError):  # Pillow was built without this format
            continue
        found.append((f"a.{kind.lower()}", buffer.getvalue()))
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
