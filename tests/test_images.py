"""Reading unusual, broken and harmful image files."""

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from tests.hostile_images import encoded, one_tile, pages, progressive_jpeg
from vlm_ood import rgb
from vlm_ood.errors import ImageError
from vlm_ood.image_header import count_scans
from vlm_ood.images import FORMATS, ImageLimits, find_images, load_image, to_rgb


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header declares any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


RED = Image.new("RGB", (32, 24), (200, 10, 10))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"just some text", "not an image"),
        (encoded(RED, "JPEG")[:-200], "damaged"),
        (encoded(RED)[:40], "damaged|not an image"),
        (png_that_claims(10_000, 9_000), "90.0 megapixels, the limit is 50.0"),
        (png_that_claims(30_000, 30_000), "too many pixels"),
        (encoded(RED, "GIF", save_all=True, append_images=[Image.new("RGB", (32, 24))]), "2 frames"),
        (encoded(RED, "TIFF", save_all=True, append_images=[RED.rotate(90)]), "2 frames"),
        (encoded(RED, "PPM"), "not an image in a known format"),
        (b"%PDF-1.4\n", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
    ],
    ids=range(11),
)
def test_a_bad_file_is_a_clear_error(content: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        load_image(content)


def test_a_file_above_the_size_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "big.png").write_bytes(encoded(RED) + b"\0" * 5000)
    with pytest.raises(ImageError, match="the limit is 4,096"):
        load_image(tmp_path / "big.png", ImageLimits(max_bytes=4096))


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        load_image(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="not a file"):
        load_image(tmp_path)
    with pytest.raises(ImageError, match="no such folder"):
        list(find_images(tmp_path / "none"))


@pytest.mark.parametrize("size", [(1, 1), (1, 8000), (8000, 1)])
def test_odd_sizes_are_decoded(size: tuple[int, int]) -> None:
    assert load_image(encoded(Image.new("RGB", size, "blue"))).size == size


def test_exif_orientation_turns_the_picture_upright() -> None:
    picture = Image.new("RGB", (40, 20), "white")
    picture.paste((255, 0, 0), (0, 0, 10, 20))  # red at the left
    exif = Image.Exif()
    exif[274] = 6  # stored lying; a viewer turns it a quarter clockwise, which brings the left to the top
    upright = load_image(encoded(picture, "PNG", exif=exif))
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 2)) == (255, 0, 0)
    assert upright.getpixel((10, 38)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_over_white(mode: str) -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0)).convert(mode)
    assert load_image(encoded(clear)).getpixel((0, 0)) == (255, 255, 255)


def test_a_transparent_palette_is_laid_over_white() -> None:
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30] + [0, 0, 0] * 255)
    assert load_image(encoded(palette, transparency=0)).getpixel((0, 0)) == (255, 255, 255)
    assert load_image(encoded(palette)).getpixel((0, 0)) == (10, 20, 30)


def test_sixteen_bits_become_eight_over_the_whole_range() -> None:
    values = np.array([[0, 32768, 65535]], dtype=np.uint16)
    rgb = load_image(encoded(Image.fromarray(values)))
    assert [rgb.getpixel((x, 0)) for x in range(3)] == [(0,) * 3, (128,) * 3, (255,) * 3]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Image.new("L", (2, 2), 77), (77, 77, 77)),
        (lambda: Image.new("1", (2, 2), 1), (255, 255, 255)),
        (lambda: Image.new("F", (2, 2), 0.5), (128, 128, 128)),
        (lambda: Image.new("CMYK", (2, 2), (0, 0, 0, 255)), (0, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb(make: Callable[[], Image.Image], expected: tuple[int, int, int]) -> None:
    assert to_rgb(make()).getpixel((0, 0)) == expected


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_an_array_of_another_kind_is_refused(array: np.ndarray) -> None:
    with pytest.raises(Exception, match=r"uint8|type"):
        to_rgb(array)


def test_decoding_leaves_the_callers_picture_alone() -> None:
    mine = Image.new("RGB", (2, 2), "red")
    to_rgb(mine).putpixel((0, 0), (0, 0, 0))
    assert mine.getpixel((0, 0)) == (255, 0, 0)


def test_folders_are_walked_in_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "a/1.PNG", "a/notes.txt", ".hidden/3.jpg", "a/.4.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in find_images(tmp_path)] == ["1.PNG", "2.jpg"]


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded() -> None:
    assert load_image(progressive_jpeg(100)).size == (64, 48)
    with pytest.raises(ImageError, match="more than 100 scans in a JPEG: save it as a baseline JPEG"):
        load_image(progressive_jpeg(101))


def test_scans_are_those_that_a_decoder_sees() -> None:
    jpeg = progressive_jpeg(12)
    comment = b"\xff\xfe" + (2 + 60).to_bytes(2, "big") + b"\xff\xda" * 30
    alone = b"\xff\x01"  # no length follows this marker: what looks like one hides no scan
    assert count_scans(jpeg, 100) == 12
    assert count_scans(jpeg[:2] + comment + alone + jpeg[2:] + b"\xff\xda" * 30, 20) == 12
    assert load_image(jpeg[:2] + comment + jpeg[2:], ImageLimits(max_scans=12)).size == (64, 48)
    assert count_scans(progressive_jpeg(500), 20) == 21
    filled = jpeg.replace(b"\xff\xda", b"\xff\xff\xda")
    assert count_scans(filled, 3) == 4


def test_the_pages_of_a_tiff_are_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[int] = []
    load = TiffImagePlugin.ImageFileDirectory_v2.load

    def count(directory: TiffImagePlugin.ImageFileDirectory_v2, file: object) -> None:
        loads.append(1)
        load(directory, file)  # type: ignore[arg-type]

    monkeypatch.setattr(TiffImagePlugin.ImageFileDirectory_v2, "load", count)
    assert load_image(pages(1)).getpixel((0, 0)) == (127, 127, 127)
    loads.clear()
    with pytest.raises(ImageError, match="2 frames"):
        load_image(pages(160_000))
    assert len(loads) < 5


def test_a_tile_is_limited_by_what_a_decoder_allocates_for_it() -> None:
    assert load_image(one_tile(1024)).size == (64, 64)
    with pytest.raises(ImageError, match=r"a tile of 32768x32768 is 1073\.7 megapixels, the limit is 50\.0"):
        load_image(one_tile(32768, rows=1024))


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "PCX", "EPS", "PDF", "IM", "SGI", "DDS", "ICNS", "JPEG2000"])
def test_other_formats_are_off(kind: str) -> None:
    with pytest.raises(ImageError, match=f"not an image in a known format.*{', '.join(FORMATS)}"):
        load_image(encoded(RED, kind))


NOISE = np.random.default_rng(0).integers(0, 256, (40, 30, 4), dtype=np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(NOISE, "RGBA"),
        Image.fromarray(NOISE, "RGBA").convert("LA"),
        Image.fromarray(NOISE[..., 0].astype(np.float32) / 255),
        Image.fromarray(NOISE[..., 0].astype(np.float32)),
        Image.fromarray(NOISE[..., 0].astype(np.int32) * 200),
        Image.fromarray(NOISE[..., 0].astype(np.uint16) * 200),
    ],
    ids=["RGBA", "LA", "F to 1", "F", "I", "I;16"],
)
def test_strips_are_converted_as_the_whole_is(image: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.asarray(to_rgb(image))
    monkeypatch.setattr(rgb, "STRIP_PIXELS", 100)
    assert np.array_equal(np.asarray(to_rgb(image)), whole)


PEAKS = """
import sys
from pathlib import Path
from vlm_ood.images import load_image

def kib(name):
    return int(Path("/proc/self/status").read_text().partition(name + ":")[2].split()[0])

for path in sys.argv[1:]:
    for size in (".small", ".large"):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = kib("VmRSS")
        load_image(path + size)
    print((kib("VmHWM") - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_large_image_takes_little_more_than_itself_and_its_rgb(tmp_path: Path) -> None:
    kinds = {"F": "TIFF", "RGBA": "PNG", "I;16": "PNG"}
    for mode, kind in kinds.items():
        for name, size in (("large", (4000, 5000)), ("small", (8, 8))):
            options = {"compression": "tiff_adobe_deflate"} if kind == "TIFF" else {}
            (tmp_path / f"{mode}.{name}").write_bytes(encoded(Image.new(mode, size), kind, **options))
    command = [sys.executable, "-c", PEAKS, *(str(tmp_path / mode) for mode in kinds)]
    peaks = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    both = 2 * 4 * 4000 * 5000 / 2**20  # Pillow keeps four bytes per pixel
    assert len(peaks) == len(kinds)
    for mib in map(float, peaks):
        assert both / 2 < mib < both + 60


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_file_cut_at_any_byte_is_an_error_or_an_image(kind: str) -> None:
    content = encoded(Image.effect_noise((24, 16), 50).convert("RGB"), kind)
    refused = 0
    for end in range(len(content)):
        try:
            assert load_image(content[:end]).size == (24, 16)
        except ImageError:
            refused += 1
    assert refused > len(content) * 0.9
