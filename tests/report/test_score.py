import re
from pathlib import Path

import pytest

from tests.fakes import save_picture
from vlm_ood.errors import StorageError
from vlm_ood.report import write_score_report
from vlm_ood.results import ImageResult, Nearest

HOSTILE = '<script>alert("1")</script>.png'


CLASSES = (Nearest("cat", 0.75), Nearest("dog", 0.25))


def result(image: str, score: float, negatives: tuple[Nearest, ...] = ()) -> ImageResult:
    return ImageResult(image, score, "out" if score > 0.5 else "in", "because", 0.5, 0.04, CLASSES, negatives)


def write(folder: Path, results: list[ImageResult], pictures: dict[str, Path], note: str | None = None) -> str:
    page = write_score_report(folder, results, pictures, title="Title", facts={"method": "mcm"}, note=note)
    assert page == folder / "index.html"
    return page.read_text(encoding="utf-8")


def test_every_image_is_there_most_ood_first_with_its_picture(tmp_path: Path) -> None:
    names = [f"{row}.png" for row in range(5)]
    pictures = {name: save_picture(tmp_path / name, "red") for name in names}

    html = write(tmp_path / "report", [result(name, row / 4) for row, name in enumerate(names)], pictures)

    assert re.findall(r"<h3>(.*?)</h3>", html) == names[::-1]
    assert html.count("data:image/jpeg;base64,") == 5
    assert html.count('loading="lazy"') == 5
    assert html.count(">out-of-distribution</span>") == 2
    assert "<strong>2 of 5 images</strong>" in html


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    html = write(tmp_path, [result("a", 0.9)], {"a": save_picture(tmp_path / "a.png", "red")})

    assert not re.search(r"https?:|//\w+\.|<link|<script|@import|url\((?!#)", html)
    assert "default-src 'none'" in html


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    results = [
        ImageResult(HOSTILE, 1.0, None, HOSTILE, None, None, (Nearest(HOSTILE, 1.0),), (Nearest(HOSTILE, 1.0),)),
        ImageResult("broken", error=HOSTILE),
    ]

    page = write_score_report(tmp_path, results, {}, title=HOSTILE, facts={HOSTILE: HOSTILE}, note=HOSTILE)

    html = page.read_text()
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 9


def test_broken_images_are_listed_with_their_error(tmp_path: Path) -> None:
    html = write(tmp_path, [result("a", 0.1), ImageResult("b.png", error="empty file: 0 bytes")], {})

    assert "<td>b.png</td><td>empty file: 0 bytes</td>" in html
    assert "1 could not be scored" in html


def test_all_broken_or_none_at_all_still_makes_a_page(tmp_path: Path) -> None:
    assert "empty file" in write(tmp_path, [ImageResult("b.png", error="empty file")], {})
    assert "0 images scored" in write(tmp_path, [], {})


def test_scores_threshold_p_value_negatives_and_note_are_shown(tmp_path: Path) -> None:
    results = [result("a", 0.0), result("b", 1.0, negatives=(Nearest("crane fly", 0.4),))]

    html = write(tmp_path, results, {}, note="not CLIP")

    assert 'class="out" style="width: 100.00%"' in html
    assert html.count('<u style="left: 50.00%">') == 2
    assert "p = 0.040" in html
    assert "crane fly 40 %" in html
    assert '<p class="note">not CLIP</p>' in html
    assert "threshold" in html.split("<svg")[1]


def test_without_a_calibration_nothing_is_called_in_or_out(tmp_path: Path) -> None:
    html = write(tmp_path, [ImageResult("a", 0.3, reason="no calibration")], {})

    assert "-distribution</span>" not in html
    assert "no decision</span>" in html


def test_a_name_that_is_not_utf_8_is_written(tmp_path: Path) -> None:
    assert "?t?.png" in write(tmp_path, [result("\udce9t\udce9.png", 0.2)], {})


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StorageError, match="can't be written"):
        write(tmp_path / "file" / "report", [result("a", 0.1)], {})


def test_equal_runs_give_equal_pages(tmp_path: Path) -> None:
    pictures = {"a": save_picture(tmp_path / "a.png", "red")}

    assert write(tmp_path / "1", [result("a", 0.1)], pictures) == write(tmp_path / "2", [result("a", 0.1)], pictures)
