"""Two servers on one database and one folder: what one does the other sees, and what one uses the other keeps."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.service.banks.files import colours, upload
from tests.service.fakes import FakeEngine, files, png

DETECTOR = {"classes": ["red thing", "blue thing"]}
PICTURES = [png(colour) for colour in ("red", "blue", "darkred", "navy")]


@pytest.fixture
def servers(url: str, tmp_path: Path) -> Iterator[tuple[TestClient, TestClient]]:
    with ExitStack() as running:

        def begin() -> TestClient:
            engine = FakeEngine()
            settings = Settings(data=tmp_path / "data", database_url=url, encoders=engine.encoder_names())
            return running.enter_context(TestClient(create_app(settings, engine), base_url="http://127.0.0.1:8000"))

        yield begin(), begin()


def scores(client: TestClient, detector: str) -> Any:
    answer = client.post(f"/v1/detectors/{detector}/score", files=files(*PICTURES))
    assert answer.status_code == 200, answer.text
    return [(each["score"], each["threshold"]) for each in answer.json()["results"]]


def test_both_create_one_detector_and_share_its_calibration(servers: tuple[TestClient, TestClient]) -> None:
    one, two = servers
    made, again = (client.post("/v1/detectors", json=DETECTOR) for client in servers)
    assert (made.status_code, again.status_code) == (201, 200)
    detector = made.json()["id"]
    assert again.json()["id"] == detector
    for calibrating in servers:
        answer = calibrating.put(f"/v1/detectors/{detector}/calibration", files=files(*PICTURES))
        assert answer.status_code == 200, answer.text
        assert scores(one, detector) == scores(two, detector)
        assert scores(one, detector)[0][1] is not None


def test_what_one_deletes_the_other_does_not_find(servers: tuple[TestClient, TestClient]) -> None:
    one, two = servers
    detector = one.post("/v1/detectors", json=DETECTOR).json()["id"]
    assert scores(two, detector)
    assert one.delete(f"/v1/detectors/{detector}").status_code == 204
    for answer in (
        two.post(f"/v1/detectors/{detector}/score", files=files(*PICTURES)),
        two.put(f"/v1/detectors/{detector}/calibration", files=files(*PICTURES)),
        two.delete(f"/v1/detectors/{detector}"),
    ):
        assert answer.status_code == 404
    assert two.post("/v1/detectors", json=DETECTOR).status_code == 201


def test_a_bank_that_the_other_uses_is_not_deleted(servers: tuple[TestClient, TestClient]) -> None:
    one, two = servers
    bank = upload(one, colours("red", "lime")).json()["id"]
    detector = two.post("/v1/detectors", json={"classes": {"bank": bank}}).json()["id"]
    assert one.delete(f"/v1/banks/{bank}").status_code == 409
    assert two.delete(f"/v1/detectors/{detector}").status_code == 204
    assert one.delete(f"/v1/banks/{bank}").status_code == 204
    gone = two.post("/v1/detectors", json={"classes": {"bank": bank}})
    assert gone.status_code in {404, 422}, gone.text


def test_scores_and_calibrations_are_the_same_after_a_restart(url: str, tmp_path: Path) -> None:
    seen: list[Any] = []
    for _ in range(2):
        engine = FakeEngine()
        settings = Settings(data=tmp_path / "data", database_url=url, encoders=engine.encoder_names())
        with TestClient(create_app(settings, engine), base_url="http://127.0.0.1:8000") as client:
            detector = client.post("/v1/detectors", json=DETECTOR).json()["id"]
            if not seen:
                client.put(f"/v1/detectors/{detector}/calibration", files=files(*PICTURES))
            seen.append(scores(client, detector))
    assert seen[0] == seen[1]
    assert seen[0][0][1] is not None
