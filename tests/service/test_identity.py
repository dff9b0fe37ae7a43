"""A precision or a preprocessing of its own makes other vectors: what was stored under the same name is not used."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from starlette.testclient import TestClient

from service.app import create_app
from service.engine import EncodedImage, EncoderInfo, LocalEngine
from service.engine.image_cache import ImageCache
from service.settings import Settings
from tests.encoders.tiny import openclip_folder, openclip_model
from tests.service.banks.files import uploaded
from tests.service.conftest import services_of
from tests.service.fakes import files, png
from vlm_ood.types import ImageFeatures, TextBank

Restart = Callable[..., TestClient]
Change = Callable[[Path], dict[str, Any]]

DIM: Final = 24  # of the tiny model
CLASSES: Final = ["cat", "dog"]
PICTURES: Final = [png(colour) for colour in ("red", "blue", "lime")]


def precision(_: Path) -> dict[str, Any]:
    """The settings of a server that differs in its precision alone."""
    return {"dtype": "bf16"}


def preprocessing(key: str, value: Any) -> Change:
    """A change of one number or word of the preprocessing that ships with the weights."""

    def change(folder: Path) -> dict[str, Any]:
        path = folder / "open_clip_config.json"
        config = json.loads(path.read_text())
        assert config["preprocess_cfg"][key] != value
        config["preprocess_cfg"][key] = value
        path.write_text(json.dumps(config))
        return {}

    return change


CHANGES: Final[dict[str, Change]] = {
    "precision": precision,
    "mean": preprocessing("mean", [0.5, 0.4, 0.4]),
    "interpolation": preprocessing("interpolation", "bicubic"),
    "resize mode": preprocessing("resize_mode", "shortest"),
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return openclip_folder(tmp_path / "checkpoint", openclip_model())


@pytest.fixture
def restart(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Restart]:
    """Start a server with a real network on the same data folder; the one before it is stopped."""
    monkeypatch.setenv("VLM_OOD_CACHE", str(tmp_path / "cache"))
    running = ExitStack()

    def begin(**more: Any) -> TestClient:
        running.close()
        own: dict[str, Any] = {"dtype": "fp32", "device": "cpu", "workers": "inline"} | more
        settings = Settings(data=tmp_path / "data", encoders=(str(checkpoint),), **own)
        app = create_app(settings, LocalEngine(replace(settings.engine(), drain_s=1.0)))
        return running.enter_context(TestClient(app, base_url="http://127.0.0.1:8000"))

    yield begin
    running.close()


def calibrated(client: TestClient) -> str:
    made = client.post("/v1/detectors", json={"classes": CLASSES, "method": "mcm"})
    path = f"/v1/detectors/{made.json()['id']}"
    assert client.put(f"{path}/calibration", files=files(*PICTURES), data={"keep": "0.5"}).status_code == 200
    return path


def stored_vectors(client: TestClient) -> list[str]:
    """Ids of banks whose vectors were made once, and are not made again: uploaded ones and those of images."""
    text = uploaded(client, TextBank(tuple(CLASSES), torch.eye(DIM)[:2]))
    labelled = client.post("/v1/banks", files=files(*PICTURES[:2]), data={"labels": CLASSES})
    assert labelled.status_code == 201, labelled.text
    return [text, labelled.json()["id"]]


def info_of(client: TestClient, checkpoint: Path) -> EncoderInfo:
    assert client.portal is not None
    info: EncoderInfo = client.portal.call(services_of(client).engine.encoder, str(checkpoint))
    return info


def test_a_restart_without_a_change_uses_all_that_was_stored(restart: Restart) -> None:
    """Or the refusals below prove nothing."""
    client = restart()
    path, (text, support) = calibrated(client), stored_vectors(client)
    client = restart()
    result = client.post(f"{path}/score", files=files(PICTURES[0])).json()["results"][0]
    assert result["decision"] in {"in", "out"}
    again = client.put(f"{path}/calibration", files=files(*PICTURES), data={"append": "true", "keep": "0.5"})
    assert (again.status_code, again.json()["images"]) == (200, 6)
    assert client.post("/v1/detectors", json={"classes": {"bank": text}, "method": "mcm"}).status_code == 201
    assert client.get(f"/v1/banks/{text}", params={"against": text}).status_code == 200
    assert client.get(f"/v1/banks/{support}").json()["images_per_class"] is not None


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_was_stored_before_a_change_is_refused_or_made_again(
    restart: Restart, checkpoint: Path, change: Change
) -> None:
    client = restart()
    path, banks, before = calibrated(client), stored_vectors(client), info_of(client, checkpoint)
    client = restart(**change(checkpoint))
    after = info_of(client, checkpoint)
    assert after.name == before.name
    assert after.digest != before.digest
    check_cache(before, after)
    check_calibration(client, path)
    check_banks(client, *banks)


def check_cache(before: EncoderInfo, after: EncoderInfo) -> None:
    """Features of the one are none of the other."""
    cache = ImageCache(2**20)
    cache.put("a", before, "sha256", None, EncodedImage(ImageFeatures(torch.ones(1, DIM))))
    assert cache.get("a", before, "sha256", None) is not None
    assert cache.get("a", after, "sha256", None) is None


def check_calibration(client: TestClient, path: str) -> None:
    score = client.post(f"{path}/score", files=files(PICTURES[0]))
    append = client.put(f"{path}/calibration", files=files(*PICTURES), data={"append": "true", "keep": "0.5"})
    for answer in (score, append):
        assert answer.status_code == 422, answer.text
        assert "calibrate again" in answer.json()["detail"]
    anew = client.put(f"{path}/calibration", files=files(*PICTURES), data={"keep": "0.5"})
    assert anew.status_code == 200, "the remedy"
    assert client.post(f"{path}/score", files=files(PICTURES[0])).status_code == 200


def check_banks(client: TestClient, text: str, support: str) -> None:
    asked: list[dict[str, Any]] = [
        {"classes": {"bank": text}, "method": "mcm"},
        {"classes": CLASSES, "method": "neglabel", "negatives": {"bank": text}},
        {"classes": CLASSES, "support": {"bank": support}},
    ]
    for fields in asked:
        answer = client.post("/v1/detectors", json=fields)
        assert answer.status_code == 422, (fields, answer.text)
        assert answer.json()["type"].endswith(":vectors"), answer.text
    assert client.get(f"/v1/banks/{text}", params={"against": text}).status_code == 422
    assert not {*stored_vectors(client)} & {text, support}, "the same file is another bank"
