import base64
import io
from pathlib import Path

from PIL import Image

from tests.fakes import save_picture
from vlm_ood.report.thumbnails import thumbnail, thumbnails


def test_a_thumbnail_is_a_small_jpeg_in_the_pictures_shape(tmp_path: Path) -> None:
    small = thumbnail(save_picture(tmp_path / "wide.png", "red", (800, 200)), largest=100)

    assert small is not None
    assert (small.width, small.height) == (100, 25)
    head, content = small.uri.split(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert (image.format, image.size) == ("JPEG", (100, 25))


def test_a_small_picture_is_not_enlarged(tmp_path: Path) -> None:
    small = thumbnail(save_picture(tmp_path / "small.png", "red", (8, 8)))

    assert small is not None
    assert (small.width, small.tiny) == (8, True)


def test_pictures_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    pictures = {
        "b": tmp_path / "broken.png",
        "gone": tmp_path / "gone.png",
        "a": save_picture(tmp_path / "a.png", "red"),
    }

    assert list(thumbnails(pictures)) == ["a"]
