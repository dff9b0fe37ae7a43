"""More files than a request holds: several requests, smaller ones where the server asks for it, one result per file."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from tests.client.transports import FakeClock, client_of, parts_of
from tests.service.fakes import FakeEngine, png
from tests.service.running import running
from vlm_ood.client import Client
from vlm_ood.client.files import File
from vlm_ood.errors import ImageError, ServerError

CLASSES = ["red", "lime"]
Images = list[bytes]


class SmallServer:
    """Answers 413 beyond so many images or bytes, and else the number that is each image's content.

    Attributes:
        taken: the contents of the images of every request that was answered.
        refused: how many requests were not.
        appends: the field `append` of every calibration that was answered.
    """

    def __init__(self, max_images: int = 10**9, max_bytes: int = 10**9) -> None:
        self.max_images, self.max_bytes = max_images, max_bytes
        self.taken: list[Images] = []
        self.refused = 0
        self.appends: list[bytes] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        parts = parts_of(request)
        images = parts["images"]
        if len(images) > self.max_images or sum(map(len, images)) > self.max_bytes:
            self.refused += 1
            return httpx.Response(413, json={"title": "The body is too large", "detail": "send less", "status": 413})
        self.taken.append(images)
        bad = [row for row, image in enumerate(images) if not image.isdigit()]
        failed = [{"index": row, "image": str(row), "error": {"code": "image", "message": "no number"}} for row in bad]
        if request.url.path.endswith("calibration"):
            self.appends += parts["append"]
            seen = sum(map(len, self.taken))
            return httpx.Response(200, json=calibration(seen) | {"failed": failed})
        scored = [
            {"index": row, "image": str(row), "score": float(image), "reason": "because"}
            for row, image in enumerate(images)
            if row not in bad
        ]
        headers = {"Server-Timing": "encode;dur=2"}
        answer = {"method": "mcm", "encoder": "fake", "detector": None, "results": failed + scored}
        return httpx.Response(200, json=answer, headers=headers)


def calibration(images: int) -> dict[str, object]:
    return {"threshold": 1.0, "tolerance": 0.1, "keep": 0.9, "rule": "empirical", "images": images, "note": None}


def numbered(count: int) -> list[File]:
    return [(f"file {row}", str(row).encode()) for row in range(count)]


@pytest.mark.parametrize("max_images", [1, 2, 3, 7, 32, 64])
@pytest.mark.parametrize("count", [1, 63, 64, 65, 131])
def test_every_file_has_its_own_score_whatever_the_server_takes(clock: FakeClock, count: int, max_images: int) -> None:
    server = SmallServer(max_images)
    with client_of(server, clock) as client:
        answer = client.score(numbered(count), classes=CLASSES)
    assert [result.image for result in answer.results] == [f"file {row}" for row in range(count)]
    assert [result.score for result in answer.results] == [float(row) for row in range(count)]
    assert [image for images in server.taken for image in images] == [str(row).encode() for row in range(count)]
    assert (answer.method, answer.encoder) == ("mcm", "fake")
    assert answer.timings == {"encode": pytest.approx(0.002 * len(server.taken))}
    assert clock.pauses == []  # a refusal for size is no reason to wait


def test_a_file_too_large_alone_is_its_own_error_and_the_others_are_scored(clock: FakeClock, tmp_path: Path) -> None:
    files = numbered(5)
    files[2] = ("large", b"1" * 100)
    with client_of(SmallServer(max_bytes=50), clock) as client:
        answer = client.score([*files, tmp_path / "none", ("broken", b"?")], classes=CLASSES)
    assert [result.score for result in answer.results] == [0.0, 1.0, None, 3.0, 4.0, None, None]
    assert answer.results[2].error == "send less"
    assert "no such file" in (answer.results[5].error or "")
    assert answer.results[6].error == "no number"
    assert [result.image for result in answer.results][4:] == ["file 4", str(tmp_path / "none"), "broken"]


@pytest.mark.parametrize("append", [False, True])
def test_the_first_answered_request_of_a_calibration_replaces_and_the_others_append(
    clock: FakeClock, append: bool
) -> None:
    server = SmallServer(max_images=100)
    with client_of(server, clock) as client:
        answer = client.calibrate("det_1", [*numbered(300), ("bad", b"?")], keep=0.9, append=append)
    assert server.refused == 3  # all of them, and both halves
    assert server.appends == [b"true" if append else b"false"] + [b"true"] * 3
    assert answer.images == 301  # what the last answer says
    assert [(each.image, each.error) for each in answer.failed] == [("bad", "no number")]


def test_a_calibration_of_files_that_are_all_too_large_says_so(clock: FakeClock) -> None:
    with client_of(SmallServer(max_bytes=0), clock) as client, pytest.raises(ImageError, match=r"2 files .* send less"):
        client.calibrate("det_1", numbered(2))


def test_other_refusals_are_not_sent_in_halves(clock: FakeClock) -> None:
    seen: list[httpx.Request] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(422, json={"title": "no", "detail": "no such method", "status": 422})

    with client_of(refuse, clock) as client, pytest.raises(ServerError, match="no such method"):
        client.score(numbered(4), classes=CLASSES)
    assert len(seen) == 1


@pytest.mark.parametrize("limits", [{"max_images": 3, "max_calibration_images": 2}, {"max_body_bytes": 6_000}])
def test_a_server_with_small_limits_gets_all_of_it(tmp_path: Path, limits: dict[str, Any]) -> None:
    settings = Settings(data=tmp_path, encoders=("fake",), **limits)
    pictures: list[File] = [(f"{row}", png("red" if row % 2 else "lime")) for row in range(8)]
    pictures[5] = ("large", bytes(8_000)) if "max_body_bytes" in limits else ("large", b"no picture")
    with running(create_app(settings, FakeEngine(["fake"])), settings) as url, Client(url) as client:
        answer = client.score(pictures, classes=CLASSES, top=1)
        made = client.create_detector(CLASSES)
        calibrated = client.calibrate(made.id, pictures, keep=0.5)
        assert client.get(made.id).calibration is not None
    named = [result.classes[0].name if result.classes else result.error for result in answer.results]
    assert named[:5] + named[6:] == ["lime", "red", "lime", "red", "lime", "lime", "red"]
    assert answer.results[5].error
    assert calibrated.images == 7
    assert [failure.image for failure in calibrated.failed] == ["large"]
