"""A method that reads patches: the same scores from the library, over HTTP, and from a worker process."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import vlm_ood as vo
from service.app import create_app
from service.engine import LocalEngine
from service.settings import Settings
from tests.fakes import FakeEncoder
from tests.service.fakes import files, png
from vlm_ood.encoders.device import Precision
from vlm_ood.encoders.outputs import PATCHES
from vlm_ood.images import load_image
from vlm_ood.results import judge

CLASSES = ["red thing", "blue thing", "lime thing"]
COLOURS = ["red", "lime", "blue", "white", "yellow", "black", "orange", "navy"]


def load(name: str, device: str, dtype: Precision) -> FakeEncoder:
    """What the worker process imports."""
    return FakeEncoder(name=name)


@pytest.fixture(scope="module", params=["inline", pytest.param("process", marks=pytest.mark.slow)])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder: Path = tmp_path_factory.mktemp("server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLM_OOD_CACHE", str(folder / "cache"))
        settings = Settings(data=folder, workers=request.param, encoders=("fake",), device="cpu", image_cache_bytes=0)
        app = create_app(settings, LocalEngine(replace(settings.engine(), load=load)))
        with TestClient(app, base_url="http://127.0.0.1:8000") as client:
            yield client


@pytest.mark.parametrize("method", ["gl_mcm", "mcm"])
def test_scores_are_those_of_the_library_alone_and_in_a_batch(client: TestClient, method: str) -> None:
    pictures = [png(colour) for colour in COLOURS]
    encoder = FakeEncoder()
    fitted = vo.create_detector(method).fit(vo.Task(classes=vo.text_bank(encoder, CLASSES)))
    images = encoder.encode_images([load_image(picture) for picture in pictures], PATCHES)
    library = judge(fitted, COLOURS, images, scale=encoder.scale)
    fields = {"classes": CLASSES, "method": method}
    together = client.post("/v1/score", files=files(*pictures), data=fields).json()["results"]
    for picture, answer, expected in zip(pictures, together, library, strict=True):
        (alone,) = client.post("/v1/score", files=files(picture), data=fields).json()["results"]
        assert [alone["score"], answer["score"]] == pytest.approx([expected.score] * 2, abs=1e-6)
        assert [each["name"] for each in answer["classes"]] == [each.name for each in expected.classes]


def test_a_calibration_is_of_the_scores_that_the_worker_gives(client: TestClient) -> None:
    made = client.post("/v1/detectors", json={"classes": CLASSES, "method": "gl_mcm"})
    path = f"/v1/detectors/{made.json()['id']}"
    pictures = [png(colour) for colour in COLOURS]
    calibration = client.put(f"{path}/calibration", files=files(*pictures), data={"keep": "0.5"})
    assert calibration.status_code in {200, 201}, calibration.text
    results = client.post(f"{path}/score", files=files(*pictures)).json()["results"]
    scores = [result["score"] for result in results]
    assert calibration.json()["threshold"] == pytest.approx(vo.calibrate(scores, keep=0.5).threshold, abs=1e-6)
    assert {result["decision"] for result in results} == {"in", "out"}
