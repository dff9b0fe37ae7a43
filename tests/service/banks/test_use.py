"""Detectors take banks by id: for classes, negatives, negated prompts and labelled images, each of the caller's own."""

import json
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

from service.detectors.spec import WORDING
from tests.fakes import FakeEncoder
from tests.service.banks.files import colours, upload, uploaded
from tests.service.conftest import Start
from tests.service.fakes import FakeEngine, files, in_base64, png
from tests.service.test_detectors import Key
from vlm_ood import TextBank, text_bank
from vlm_ood.tasks import PARTS

NAMES = ["red thing", "blue thing"]


@pytest.fixture
def classes(client: TestClient) -> str:
    return uploaded(client, text_bank(FakeEncoder(), NAMES))


@pytest.fixture
def negatives(client: TestClient) -> str:
    return uploaded(client, colours("lime", "yellow", "white"))


@pytest.fixture
def images(client: TestClient) -> str:
    answer = client.post("/v1/banks", files=files(png("red"), png("blue")), data={"labels": NAMES})
    return str(answer.json()["id"])


def score(client: TestClient, options: dict[str, Any]) -> list[dict[str, Any]]:
    body = options | {"images": in_base64(png("red"), png("lime"))}
    answer = client.post("/v1/score", json=body)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["results"])


def test_classes_by_id_score_like_their_names(client: TestClient, classes: str) -> None:
    assert score(client, {"classes": {"bank": classes}}) == score(client, {"classes": NAMES})


def test_a_form_carries_references_as_json(client: TestClient, classes: str, negatives: str) -> None:
    options = {"classes": {"bank": classes}, "method": "neglabel", "negatives": {"bank": negatives}}
    fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in options.items()}
    answer = client.post("/v1/score", files=files(png("red"), png("lime")), data=fields)
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"] == score(client, options)
    assert answer.json()["results"][1]["negatives"][0]["name"] == "lime"


def test_a_class_name_that_looks_like_json_is_a_name(client: TestClient) -> None:
    answer = client.post("/v1/score", files=files(png()), data={"classes": ["{red}", "[blue"]})
    assert answer.status_code == 200, answer.text
    assert {each["name"] for each in answer.json()["results"][0]["classes"]} == {"{red}", "[blue"}


def test_the_view_of_a_detector_shows_references(
    client: TestClient, classes: str, negatives: str, images: str, knn: str
) -> None:
    spec = {"classes": {"bank": classes}, "method": "neglabel", "negatives": {"bank": negatives}}
    view = client.post("/v1/detectors", json=spec).json()
    assert (view["classes"], view["negatives"], view["class_count"]) == (spec["classes"], spec["negatives"], 2)
    assert (view["templates"], view["no_templates"], view["no"], view["support"]) == (None, None, None, None)
    assert client.get(f"/v1/detectors/{view['id']}").json() == view
    assert client.get("/v1/detectors").json()["detectors"][0]["class_count"] == 2
    clipn = {"classes": {"bank": classes}, "method": "clipn", "no": {"bank": classes}}
    assert client.post("/v1/detectors", json=clipn).json()["no"] == {"bank": classes}
    near = {"classes": NAMES, "method": knn, "support": {"bank": images}}
    view = client.post("/v1/detectors", json=near).json()
    assert (view["support"], view["classes"]) == ({"bank": images}, NAMES)


def test_the_same_content_is_the_same_detector(client: TestClient, classes: str) -> None:
    first = client.post("/v1/detectors", json={"classes": {"bank": classes}})
    again = client.post("/v1/detectors", json={"classes": {"bank": classes}})
    by_names = client.post("/v1/detectors", json={"classes": NAMES})
    assert (first.status_code, again.status_code, by_names.status_code) == (201, 200, 201)
    assert first.json()["id"] == again.json()["id"] != by_names.json()["id"]


def test_a_bank_in_use_is_kept_and_its_users_are_named(client: TestClient, classes: str) -> None:
    detectors = [
        client.post("/v1/detectors", json={"classes": {"bank": classes}, "parameters": {"scale": row}}).json()["id"]
        for row in range(1, 7)
    ]
    refused = client.delete(f"/v1/banks/{classes}")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:vlm-ood:problem:conflict")
    assert sum(detector in refused.json()["detail"] for detector in detectors) == 5
    assert "and 1 more" in refused.json()["detail"]
    for detector in detectors:
        assert client.delete(f"/v1/detectors/{detector}").status_code == 204
    assert client.delete(f"/v1/banks/{classes}").status_code == 204
    assert client.post("/v1/detectors", json={"classes": {"bank": classes}}).status_code == 404


@pytest.mark.parametrize("part", ["classes", "negatives", "no", "support"])
def test_every_use_keeps_a_bank(
    client: TestClient, classes: str, negatives: str, images: str, knn: str, part: str
) -> None:
    banks = {"classes": classes, "negatives": negatives, "no": classes, "support": images}
    method = {"classes": "mcm", "negatives": "neglabel", "no": "clipn", "support": knn}[part]
    spec = {"classes": NAMES, "method": method} | {part: {"bank": banks[part]}}
    assert client.post("/v1/detectors", json=spec).status_code == 201
    assert client.delete(f"/v1/banks/{banks[part]}").status_code == 409


def test_tenants_see_and_use_only_their_own_banks(client: TestClient, key: Key) -> None:
    mine, theirs = key("a"), key("b")
    bank = text_bank(FakeEncoder(), NAMES)
    made = upload(client, bank, key=mine).json()["id"]
    path = f"/v1/banks/{made}"
    assert client.get("/v1/banks", headers=theirs).json()["banks"] == []
    assert client.get("/v1/banks", params={"after": made}, headers=theirs).status_code == 404
    assert client.get(path, headers=theirs).status_code == 404
    assert client.delete(path, headers=theirs).status_code == 404
    own = upload(client, bank, key=theirs)
    assert own.status_code == 201
    assert own.json()["id"] != made
    own_path = f"/v1/banks/{own.json()['id']}"
    assert client.get(own_path, params={"against": made}, headers=theirs).status_code == 404
    for part in ("classes", "negatives", "no", "support"):
        spec = {"classes": NAMES} | {part: {"bank": made}}
        assert client.post("/v1/detectors", json=spec, headers=theirs).status_code == 404
        body = spec | {"images": in_base64(png())}
        assert client.post("/v1/score", json=body, headers=theirs).status_code == 404
    mined = {"kind": "mined", "classes": {"bank": made}, "words": ["lime", "sofa"], "keep": 1.0}
    assert client.post("/v1/banks", json=mined, headers=theirs).status_code == 404
    assert client.post("/v1/detectors", json={"classes": {"bank": made}}, headers=mine).status_code == 201
    assert client.delete(own_path, headers=theirs).status_code == 204, "the other tenant's use of the same content"
    assert client.get(path, headers=mine).status_code == 200


def test_an_error_that_names_a_bank_is_for_its_tenant_alone(
    start: Start, key: Key, client: TestClient, engine: FakeEngine
) -> None:
    mine, theirs = key("a"), key("b")
    banks, detectors = {}, {}
    for tenant, headers in (("a", mine), ("b", theirs)):
        banks[tenant] = upload(client, colours("red", "blue"), key=headers).json()["id"]
        made = client.post("/v1/detectors", json={"classes": {"bank": banks[tenant]}}, headers=headers)
        detectors[tenant] = made.json()["id"]
    engine.encoders["fake"] = type(engine.encoders["fake"])(name="retrained")
    restarted = start()
    refused = restarted.post(f"/v1/detectors/{detectors['a']}/score", files=files(png()), headers=mine)
    assert banks["a"] in refused.json()["detail"]
    shown = restarted.get(f"/v1/detectors/{detectors['b']}", headers=theirs).json()
    assert (shown["state"], shown["error"]) == ("cold", None)
    refused = restarted.post(f"/v1/detectors/{detectors['b']}/score", files=files(png()), headers=theirs)
    assert refused.status_code == 422
    assert banks["b"] in refused.json()["detail"]
    assert banks["a"] not in refused.json()["detail"]


def test_a_quota_is_of_one_tenant(start: Start, key: Key, client: TestClient) -> None:
    bounded = start(max_banks=1)
    for headers in (key("a"), key("b")):
        assert upload(bounded, colours("red"), key=headers).status_code == 201
        assert upload(bounded, colours("blue"), key=headers).status_code == 409


def test_a_key_that_may_only_score_cannot_make_banks(client: TestClient, key: Key) -> None:
    scores = key("a", "score")
    assert upload(client, colours("red"), key=scores).status_code == 403
    assert client.get("/v1/banks", headers=scores).status_code == 403


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"negatives": {"bank": "N"}}, "task", "mcm does not read negatives"),
    ({"no": {"bank": "C"}}, "task", "mcm does not read negated prompts"),
    ({"support": {"bank": "S"}}, "task", "mcm does not read labelled images"),
    ({"no_templates": "clipn_no_training_free"}, "task", "mcm does not read negated prompts"),
    ({"method": "clipn", "no": {"bank": "C"}, "no_templates": ["no {}"]}, "input", "leave one out"),
    ({"method": "clipn", "no": {"bank": "N"}}, "task", "other names than the classes"),
    ({"method": "neglabel", "negatives": {"bank": "S"}}, "input", "labelled images"),
    ({"method": "KNN", "support": {"bank": "C"}}, "input", "give a bank of labelled images"),
    ({"method": "KNN"}, "task", 'the field "support"'),
    ({"parameters": {"name": "mcm"}}, "parameters", "name='mcm': Unexpected keyword argument"),
    ({"classes": ["red thing", "lime"], "method": "KNN", "support": {"bank": "S"}}, "class-names", "'blue thing'"),
    ({"classes": {"bank": "S"}}, "input", "classes: bank"),
    ({"classes": {"bank": "DOUBLE"}}, "class-names", "given twice"),
    ({"classes": {"bank": "ONE"}}, "class-names", "at least 2"),
    ({"classes": {"bank": "C"}, "templates": "nice"}, "input", "a bank has its vectors"),
    ({"classes": {"bank": "C"}, "method": "clipn", "no_templates": ["no {}"]}, "input", "give it as no"),
    ({"classes": {"bank": "C"}, "encoder": "other"}, "vectors", "ask for the encoder fake"),
    ({"negatives": {"bank": "N"}, "method": "neglabel", "encoder": "other"}, "vectors", "give a bank of other"),
    ({"classes": {"bank": "C", "more": 1}}, "invalid-request", "more"),
    ({"classes": {"bank": 1}}, "invalid-request", "bank"),
    ({"support": ["a"]}, "invalid-request", "support"),
]


@pytest.mark.parametrize(("options", "slug", "told"), REFUSED)
def test_what_does_not_go_together_is_refused_before_any_work(
    client: TestClient,
    engine: FakeEngine,
    classes: str,
    negatives: str,
    images: str,
    knn: str,
    options: dict[str, Any],
    slug: str,
    told: str,
) -> None:
    ids = {
        "C": classes,
        "N": negatives,
        "S": images,
        "DOUBLE": uploaded(client, TextBank(("a", "a"), torch.eye(16)[:2])),
        "ONE": uploaded(client, TextBank(("a",), torch.eye(16)[:1])),
    }
    spec: dict[str, Any] = {"classes": NAMES, "method": "mcm"}
    for name, value in options.items():
        by_id = isinstance(value, dict) and value.get("bank") in ids
        spec[name] = value | {"bank": ids[value["bank"]]} if by_id else knn if value == "KNN" else value
    for path, body in (("/v1/detectors", spec), ("/v1/score", spec | {"images": in_base64(png())})):
        answer = client.post(path, json=body)
        assert (answer.status_code, answer.json()["type"]) == (422, f"urn:vlm-ood:problem:{slug}"), answer.text
        assert told in answer.json()["detail"]
    assert client.get("/v1/detectors").json()["detectors"] == []
    assert all(fake.prompts_seen == [] for fake in engine.encoders.values())


def test_wordnet_is_not_mined_for_a_method_that_reads_no_negatives(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(name: str) -> None:
        raise AssertionError(f"{name} was read")

    monkeypatch.setattr("vlm_ood.tasks.banks.lexicon_named", read)
    answer = client.post("/v1/detectors", json={"classes": NAMES, "method": "mcm", "negatives": {}})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("mcm does not read negatives")
    assert "needs" not in answer.json()["title"]


def test_remedies_are_worded_in_fields_of_rest() -> None:
    assert WORDING.keys() == set(PARTS)
    assert all("vo." not in wording and "--" not in wording for wording in WORDING.values())


def test_class_names_of_a_bank_are_as_many_as_a_detector_may_have(start: Start) -> None:
    client = start(max_classes=2)
    bank = uploaded(client, colours("red", "blue", "lime"))
    answer = client.post("/v1/detectors", json={"classes": {"bank": bank}})
    assert answer.status_code == 422
    assert "the limit is 2" in answer.json()["detail"]
    body = {"classes": ["a", "b"], "method": "neglabel", "negatives": {"bank": bank}, "images": in_base64(png())}
    assert client.post("/v1/score", json=body).status_code == 200, "words are not class names"


def test_another_class_bank_is_told_that_the_calibration_does_not_carry_over(client: TestClient, classes: str) -> None:
    old = client.post("/v1/detectors", json={"classes": {"bank": classes}}).json()["id"]
    client.put(f"/v1/detectors/{old}/calibration", files=files(*[png("red")] * 10), data={"keep": "0.8"})
    other = uploaded(client, colours("red", "lime"))
    note = client.post("/v1/detectors", json={"classes": {"bank": other}}).json()["note"]
    assert old in note
