"""Stored detectors and their calibrations; each tenant sees only its own."""

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.fakes import FakeEncoder
from tests.service.conftest import Start, services_of
from tests.service.fakes import FakeEngine, files, in_base64, png
from tests.service.storage import old
from vlm_ood.calibration import Calibration

SPEC: dict[str, object] = {"classes": ["red thing", "blue thing"], "method": "mcm"}
REDS = ["#ff0000", "#ee0000", "#dd0000", "#ff1111", "#ee1111", "#dd1111", "#0000ff", "#0000ee", "#1111ff", "#1111dd"]

Key = Callable[..., dict[str, str]]


def create(client: TestClient, spec: dict[str, object] = SPEC, **more: object) -> str:
    answer = client.post("/v1/detectors", json=spec, **more)  # type: ignore[arg-type]
    assert answer.status_code in {200, 201}, answer.text
    return str(answer.json()["id"])


def calibrate(client: TestClient, detector: str, **fields: str) -> dict[str, object]:
    pictures = files(*map(png, REDS))
    answer = client.put(f"/v1/detectors/{detector}/calibration", files=pictures, data={"keep": "0.8"} | fields)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_the_same_content_has_the_same_id(client: TestClient) -> None:
    first = client.post("/v1/detectors", json=SPEC)
    again = client.post("/v1/detectors", json=SPEC | {"classes": [" red thing", "blue thing"], "encoder": "fake"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert first.headers["Location"] == f"/v1/detectors/{first.json()['id']}"


def test_a_detector_shows_all_that_its_scores_depend_on(client: TestClient) -> None:
    view = client.get(f"/v1/detectors/{create(client)}").json()
    assert (view["classes"], view["method"], view["encoder"]) == (SPEC["classes"], "mcm", "fake")
    assert view["parameters"] == {"temperature": 1.0}
    assert (view["state"], view["calibration"]) == ("ready", None)


def test_what_cannot_be_made_is_not_stored(client: TestClient) -> None:
    assert client.post("/v1/detectors", json=SPEC | {"method": "neglabel"}).status_code == 422
    assert client.post("/v1/detectors", json=SPEC | {"method": "nothing"}).status_code == 422
    assert client.get("/v1/detectors").json()["detectors"] == []


def test_pages_follow_each_other_and_end(client: TestClient) -> None:
    made = {create(client, SPEC | {"classes": ["red", f"blue {row}"]}) for row in range(5)}
    seen: list[str] = []
    after = None
    for _ in range(3):
        page = client.get("/v1/detectors", params={"limit": 2} | ({"after": after} if after else {})).json()
        seen += [detector["id"] for detector in page["detectors"]]
        after = page["next"]
    assert after is None
    assert len(seen) == 5
    assert set(seen) == made


def test_a_deleted_detector_is_gone(client: TestClient) -> None:
    detector = create(client)
    assert client.delete(f"/v1/detectors/{detector}").status_code == 204
    assert client.get(f"/v1/detectors/{detector}").status_code == 404
    assert client.delete(f"/v1/detectors/{detector}").status_code == 404


def test_a_calibrated_detector_decides_and_gives_p_values(client: TestClient) -> None:
    detector = create(client)
    made = calibrate(client, detector)
    assert made["images"] == len(REDS)
    answer = client.post(f"/v1/detectors/{detector}/score", files=files(png("red"), png("lime")))
    inside, outside = answer.json()["results"]
    assert (inside["decision"], outside["decision"]) == ("in", "out")
    assert inside["threshold"] == made["threshold"]
    assert 0 < outside["p_value"] < inside["p_value"] <= 1
    assert "Server-Timing" in answer.headers


def test_a_calibration_says_its_rule_and_how_many_images_a_guarantee_needs(client: TestClient) -> None:
    detector = create(client)
    enough = calibrate(client, detector)
    assert (enough["rule"], enough["note"]) == ("conformal", None)
    few = calibrate(client, detector, keep="0.95")
    assert few["rule"] == "empirical"
    assert "10 ID images are too few" in str(few["note"])
    assert "needs 19 images" in str(few["note"])
    shown = client.get(f"/v1/detectors/{detector}/calibration").json()
    assert {key: shown[key] for key in ("rule", "note", "tolerance", "threshold", "images")} == {
        key: few[key] for key in ("rule", "note", "tolerance", "threshold", "images")
    }
    assert calibrate(client, detector, rule="empirical")["rule"] == "empirical"


def test_a_threshold_equal_to_the_score_lets_the_image_in_whatever_its_batch(client: TestClient) -> None:
    """The caller's own threshold has a tolerance, of the calibration where there is one, else of its own size."""
    detector = create(client)
    for calibrated in (False, True):
        made = calibrate(client, detector) if calibrated else {}
        path, pictures = f"/v1/detectors/{detector}/score", files(png("#ff2222"))
        score = client.post(path, files=pictures).json()["results"][0]["score"]
        nudge = max(float(str(made.get("tolerance", 0))), abs(score) * 2**-20)
        for threshold, decision in ((score, "in"), (score - 0.9 * nudge, "in"), (score - 1.1 * nudge, "out")):
            answer = client.post(path, files=pictures, data={"threshold": repr(threshold)}).json()["results"][0]
            assert answer["decision"] == decision
            assert "the threshold" in answer["reason"]
            assert answer["reason"].endswith("you gave")


def test_json_calibrates_and_scores_like_files(client: TestClient) -> None:
    detector = create(client)
    by_files = calibrate(client, detector)
    body = {"images": in_base64(*map(png, REDS)), "keep": 0.8}
    assert client.put(f"/v1/detectors/{detector}/calibration", json=body).json() == by_files
    answer = client.post(f"/v1/detectors/{detector}/score", json={"images": in_base64(png())})
    assert answer.json()["results"][0]["decision"] == "in"


def test_a_calibration_replaces_or_adds_as_asked(client: TestClient) -> None:
    detector = create(client)
    assert calibrate(client, detector)["images"] == 10
    assert calibrate(client, detector)["images"] == 10
    assert calibrate(client, detector, append="true")["images"] == 20
    assert client.get(f"/v1/detectors/{detector}/calibration").json()["images"] == 20


def test_a_calibration_leaves_bad_images_out_and_says_so(client: TestClient) -> None:
    detector = create(client)
    pictures = files(png("red"), b"no picture", png("blue"), *map(png, REDS))
    made = client.put(f"/v1/detectors/{detector}/calibration", files=pictures).json()
    assert made["images"] == 12
    assert [(failed["index"], failed["error"]["code"]) for failed in made["failed"]] == [(1, "image")]


def test_a_calibration_of_bad_images_alone_changes_nothing(client: TestClient) -> None:
    detector = create(client)
    before = calibrate(client, detector)
    assert client.put(f"/v1/detectors/{detector}/calibration", files=files(b"none")).status_code == 422
    assert client.get(f"/v1/detectors/{detector}/calibration").json()["threshold"] == before["threshold"]


def test_a_deleted_calibration_leaves_no_file_and_no_decision(client: TestClient, tmp_path: Path) -> None:
    detector = create(client)
    calibrate(client, detector)
    assert len(list((tmp_path / "calibrations").iterdir())) == 1
    assert client.delete(f"/v1/detectors/{detector}/calibration").status_code == 204
    assert client.delete(f"/v1/detectors/{detector}/calibration").status_code == 404
    assert client.portal is not None
    client.portal.call(replace(services_of(client).blobs, grace_s=0).sweep)
    assert list((tmp_path / "calibrations").iterdir()) == []
    result = client.post(f"/v1/detectors/{detector}/score", files=files(png())).json()["results"][0]
    assert result["decision"] is None


def test_another_class_list_is_told_that_the_calibration_does_not_carry_over(client: TestClient) -> None:
    old = create(client)
    calibrate(client, old)
    new = client.post("/v1/detectors", json=SPEC | {"classes": ["red thing", "green thing"]}).json()
    assert new["id"] != old
    assert old in new["note"]
    assert "is not valid here" in new["note"]
    other_method = client.post("/v1/detectors", json=SPEC | {"method": "max_cosine"})
    assert other_method.status_code == 201
    assert old not in (other_method.json()["note"] or "")


def test_tenants_see_only_their_own(client: TestClient, key: Key) -> None:
    mine, theirs = key("a"), key("b")
    detector = create(client, headers=mine)
    path = f"/v1/detectors/{detector}"
    assert client.get("/v1/detectors", headers=theirs).json()["detectors"] == []
    assert client.get("/v1/detectors", params={"after": detector}, headers=theirs).status_code == 404
    assert client.get(path, headers=theirs).status_code == 404
    assert client.delete(path, headers=theirs).status_code == 404
    assert client.post(f"{path}/score", files=files(png()), headers=theirs).status_code == 404
    assert client.put(f"{path}/calibration", files=files(png()), headers=theirs).status_code == 404
    assert create(client, headers=theirs) != detector
    assert client.get(path, headers=mine).status_code == 200


def test_detectors_and_calibrations_survive_a_restart(start: Start) -> None:
    first = start()
    detector = create(first)
    before = calibrate(first, detector)
    second = start()
    assert second.get(f"/v1/detectors/{detector}").json()["state"] == "cold"
    result = second.post(f"/v1/detectors/{detector}/score", files=files(png("lime"))).json()["results"][0]
    assert (result["decision"], result["threshold"]) == ("out", before["threshold"])


def test_other_weights_under_the_same_name_void_the_calibration(start: Start, engine: FakeEngine) -> None:
    detector = create(start())
    calibrate(start(), detector)
    engine.encoders["fake"] = type(engine.encoders["fake"])(name="retrained")
    answer = start().post(f"/v1/detectors/{detector}/score", files=files(png()))
    assert answer.status_code == 422
    assert answer.json()["type"].endswith(":task")


def test_a_full_disk_is_507_and_leaves_the_old_calibration(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = create(client)
    before = calibrate(client, detector)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("service.storage.blobs.os.fsync", full)
    answer = client.put(f"/v1/detectors/{detector}/calibration", files=files(*map(png, REDS)), data={"keep": "0.5"})
    assert answer.status_code == 507
    assert client.get(f"/v1/detectors/{detector}/calibration").json()["threshold"] == before["threshold"]
    assert len(list((tmp_path / "calibrations").iterdir())) == 1


def test_a_tenant_has_no_more_detectors_than_allowed(start: Start) -> None:
    client = start(max_detectors=1)
    create(client)
    assert client.post("/v1/detectors", json=SPEC | {"classes": ["red", "green"]}).status_code == 409
    create(client)


def test_a_detector_that_takes_long_is_accepted_and_ready_later(start: Start, engine: FakeEngine) -> None:
    client = start(prepare_wait_s=1e-9)
    answer = client.post("/v1/detectors", json=SPEC)
    assert (answer.status_code, answer.json()["state"]) in {(202, "preparing"), (202, "ready")}
    detector = answer.json()["id"]
    while client.get(f"/v1/detectors/{detector}").json()["state"] == "preparing":
        pass
    assert client.post(f"/v1/detectors/{detector}/score", files=files(png())).status_code == 200


def test_nothing_outlives_a_detector_in_the_database(client: TestClient) -> None:
    detector = create(client)
    calibrate(client, detector)
    client.delete(f"/v1/detectors/{detector}")
    from service.detectors.rows import CalibrationRow

    assert services_of(client).database.now(lambda session: session.query(CalibrationRow).count()) == 0


def test_a_server_decides_with_the_calibrations_of_an_old_data_folder(start: Start, tmp_path: Path) -> None:
    old.make(f"sqlite:///{tmp_path / 'vlm-ood.sqlite3'}")
    scores = np.linspace(-0.9, -0.6, 40)
    Calibration(scores).save(tmp_path / "calibrations" / str(old.CALIBRATION["artefact"]))
    client = start(encoders=("embedded",))
    services_of(client).engine.encoders["embedded"] = FakeEncoder(name="embedded")
    key = services_of(client).keys.create("acme", ["score", "manage"])[1]
    header = {"Authorization": f"Bearer {key}"}
    listed = client.get("/v1/detectors", headers=header).json()["detectors"]
    assert {detector["id"] for detector in listed} == old.SPECS.keys()
    answer = client.post(f"/v1/detectors/{old.CALIBRATED}/score", files=files(png()), headers=header)
    assert answer.json()["results"][0]["decision"] in {"in", "out"}
    assert answer.json()["results"][0]["threshold"] == Calibration(scores).threshold
