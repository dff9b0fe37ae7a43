"""Labelled images: stored as vectors with a class each, or not at all."""

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.service.conftest import Start, services_of
from tests.service.fakes import FakeEngine, files, png

PICTURES = ["#ff0000", "#ee0000", "#0000ff"]
LABELS = ["red thing", "red thing", "blue thing"]


def send(client: TestClient, colours: list[str], labels: Any, **more: Any) -> Any:
    """The answer to labelled images of these colours."""
    return client.post("/v1/banks", files=files(*map(png, colours)), data={"labels": labels}, **more)


def test_labelled_images_are_counted_by_class_and_shown_without_neighbours(client: TestClient) -> None:
    answer = send(client, PICTURES, LABELS)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["kind"], made["rows"], made["state"], made["spec"]) == ("support", 3, "ready", None)
    assert made["images_per_class"] == {"red thing": 2, "blue thing": 1}
    shown = client.get(f"/v1/banks/{made['id']}").json()
    assert shown == made
    assert shown["preview"] is None


def test_labels_may_be_one_json_list_and_the_same_images_are_the_same_bank(client: TestClient) -> None:
    first = send(client, PICTURES, LABELS)
    again = send(client, PICTURES, json.dumps(LABELS))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert send(client, PICTURES, LABELS[::-1]).json()["id"] != first.json()["id"]
    assert send(client, PICTURES[::-1], LABELS).json()["id"] != first.json()["id"]


def test_a_bad_image_is_left_out_and_told(client: TestClient) -> None:
    sent = files(png("red"), b"no picture", png("blue"))
    answer = client.post("/v1/banks", files=sent, data={"labels": LABELS})
    assert answer.status_code == 201, answer.text
    assert answer.json()["images_per_class"] == {"red thing": 1, "blue thing": 1}
    assert [(failed["index"], failed["error"]["code"]) for failed in answer.json()["failed"]] == [(1, "image")]
    without = send(client, ["red", "blue"], ["red thing", "blue thing"])
    assert without.json()["id"] == answer.json()["id"], "what could not be used is no part of the content"


@pytest.mark.parametrize(
    ("pictures", "labels", "slug"),
    [
        ([png("red"), b"no picture"], ["red", "blue"], "image"),
        ([b"none", b"neither"], ["red", "blue"], "image"),
        ([png("red")], ["red", "blue"], "input"),
        ([png("red"), png("blue")], ["red"], "input"),
        ([png("red")], [" "], "class-names"),
        ([png("red")], ["a\x00b"], "invalid-request"),
        ([png("red")], ["a" * 201], "invalid-request"),
        ([png("red")], [], "invalid-request"),
    ],
)
def test_nothing_is_stored_of_what_is_incomplete(
    client: TestClient, pictures: list[bytes], labels: Any, slug: str
) -> None:
    answer = client.post("/v1/banks", files=files(*pictures), data={"labels": labels})
    assert (answer.status_code, answer.json()["type"]) == (422, f"urn:vlm-ood:problem:{slug}")
    assert client.get("/v1/banks").json()["banks"] == []
    blobs = services_of(client).blobs.folder / "banks"
    assert not blobs.exists()


def test_more_labels_than_images_cost_no_forward_pass(client: TestClient, engine: FakeEngine) -> None:
    engine.encoding.clear()
    send(client, ["red"], ["red", "blue"])
    assert not engine.encoding.is_set()


def test_the_images_of_a_request_are_bounded(start: Start) -> None:
    client = start(max_support_images=2)
    assert send(client, PICTURES, LABELS).status_code == 413
    assert send(client, PICTURES[1:], LABELS[1:]).status_code == 201


def test_urls_count_as_images_of_a_request(start: Start) -> None:
    client = start(max_support_images=2)
    urls = [f"https://example.org/{row}.png" for row in range(3)]
    answer = client.post("/v1/banks", files={"labels": (None, json.dumps(LABELS)), "urls": (None, urls[0])})
    assert answer.json()["type"].endswith(":input"), "three labels for one image"
    answer = client.post("/v1/banks", files=[("urls", (None, url)) for url in urls], data={"labels": LABELS})
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:vlm-ood:problem:body-too-large")


def test_a_full_quota_costs_no_forward_pass(start: Start, engine: FakeEngine) -> None:
    client = start(max_banks=1)
    send(client, PICTURES, LABELS)
    engine.encoding.clear()
    assert send(client, PICTURES[1:], LABELS[1:]).status_code == 409
    assert not engine.encoding.is_set()


def test_images_are_charged_and_a_file_counts_as_one(start: Start) -> None:
    client = start(images_per_minute=100)
    _, token = services_of(client).keys.create("a", ("manage",))
    key = {"Authorization": f"Bearer {token}"}
    assert send(client, PICTURES, LABELS, headers=key).headers["RateLimit-Remaining"] == "97"
    spec = {"kind": "templates", "names": ["red", "blue"]}
    assert client.post("/v1/banks", json=spec, headers=key).headers["RateLimit-Remaining"] == "96"
