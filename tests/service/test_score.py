"""POST /v1/score: images and class names give one answer per image."""

import json

import pytest
from starlette.testclient import TestClient

from tests.service.conftest import Start
from tests.service.fakes import FakeEngine, files, in_base64, png

CLASSES = ["red thing", "blue thing"]


def test_files_are_scored_and_the_one_that_does_not_belong_scores_higher(client: TestClient) -> None:
    answer = client.post("/v1/score", files=files(png("red"), png("lime")), data={"classes": CLASSES})
    assert answer.status_code == 200, answer.text
    red, lime = answer.json()["results"]
    assert red["classes"][0]["name"] == "red thing"
    assert lime["score"] > red["score"]
    assert (red["image"], red["index"], lime["index"]) == ("0.png", 0, 1)


def test_base64_json_gives_the_same_answers_as_files(client: TestClient) -> None:
    pictures = png("red"), png("lime")
    as_files = client.post("/v1/score", files=files(*pictures), data={"classes": CLASSES})
    as_json = client.post("/v1/score", json={"images": in_base64(*pictures), "classes": CLASSES})
    assert as_json.json() == as_files.json()


def test_a_bad_image_has_an_error_and_the_others_their_answers(client: TestClient) -> None:
    good = png("red")
    alone = client.post("/v1/score", files=files(good), data={"classes": CLASSES}).json()["results"][0]
    among = client.post("/v1/score", files=files(b"no picture", good, good[:40], b""), data={"classes": CLASSES})
    assert among.status_code == 200
    results = among.json()["results"]
    assert [result["error"] and result["error"]["code"] for result in results] == ["image", None, "image", "image"]
    assert results[1]["score"] == alone["score"]
    assert results[0]["score"] is None


def test_bad_base64_and_urls_are_errors_of_their_items(client: TestClient) -> None:
    images = [{"content": "%%%"}, {"url": "https://example.org/a.png"}, *in_base64(png())]
    results = client.post("/v1/score", json={"images": images, "classes": CLASSES}).json()["results"]
    assert "base64" in results[0]["error"]["message"]
    assert "not fetched by this server" in results[1]["error"]["message"]
    assert results[2]["error"] is None


def test_form_fields_carry_every_option(client: TestClient) -> None:
    fields = {
        "classes": json.dumps(CLASSES),
        "method": "mcm",
        "parameters": '{"temperature": 0.01}',
        "templates": '["a photo of a {}.", "{}"]',
        "encoder": "other",
        "top": "1",
        "threshold": "-1000",
    }
    answer = client.post("/v1/score", files=files(png()), data=fields)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["encoder"] == "other"
    result = body["results"][0]
    assert (result["decision"], result["threshold"], len(result["classes"])) == ("out", -1000.0, 1)


def test_without_a_threshold_there_is_no_decision_and_a_reason(client: TestClient) -> None:
    result = client.post("/v1/score", files=files(png()), data={"classes": CLASSES}).json()["results"][0]
    assert result["decision"] is None
    assert "calibration" in result["reason"]


def test_the_answer_says_where_the_time_went(client: TestClient) -> None:
    timing = client.post("/v1/score", files=files(png()), data={"classes": CLASSES}).headers["Server-Timing"]
    assert [part.partition(";")[0].strip() for part in timing.split(",")] == ["queue", "decode", "encode", "score"]


def test_class_names_seen_before_are_not_encoded_again(client: TestClient, engine: FakeEngine) -> None:
    client.post("/v1/score", files=files(png()), data={"classes": CLASSES})
    seen = len(engine.encoders["fake"].prompts_seen)
    client.post("/v1/score", files=files(png("blue")), data={"classes": CLASSES})
    assert len(engine.encoders["fake"].prompts_seen) == seen


@pytest.mark.parametrize(
    ("fields", "slug"),
    [
        ({"classes": ["cat", "cat"]}, "class-names"),
        ({"classes": ["cat", " "]}, "class-names"),
        ({"classes": ["cat"], "method": "mcm"}, "class-names"),
        ({"classes": CLASSES, "method": "mcmm"}, "unknown-name"),
        ({"classes": CLASSES, "encoder": "/etc/passwd"}, "unknown-name"),
        ({"classes": CLASSES, "templates": "no placeholder"}, "unknown-name"),
        ({"classes": CLASSES, "templates": '["none"]'}, "templates"),
        ({"classes": CLASSES, "parameters": '{"temperature": -1}'}, "parameters"),
        ({"classes": CLASSES, "parameters": '{"nothing": 1}'}, "parameters"),
        ({"classes": CLASSES, "parameters": '{"\\ud800": 1}'}, "parameters"),
        ({"classes": CLASSES, "method": "neglabel"}, "task"),
        ({"classes": CLASSES, "top": "0"}, "invalid-request"),
        ({"classes": CLASSES, "threshold": "nan"}, "invalid-request"),
        ({"classes": CLASSES, "parameters": "NaN"}, "invalid-request"),
        ({"classes": CLASSES, "unheard": "of"}, "invalid-request"),
        ({"classes": "a\x00b"}, "invalid-request"),
        ({}, "invalid-request"),
    ],
)
def test_what_cannot_be_used_is_a_problem_with_a_type(client: TestClient, fields: dict[str, str], slug: str) -> None:
    answer = client.post("/v1/score", files=files(png()), data=fields)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["type"] == f"urn:vlm-ood:problem:{slug}"
    assert problem["request_id"] == answer.headers["X-Request-ID"]


def test_negatives_are_mined_from_words_of_the_caller(client: TestClient) -> None:
    negatives = json.dumps({"words": ["lime", "yellow", "white"], "keep": 1.0})
    fields = {"classes": CLASSES, "method": "neglabel", "negatives": negatives}
    answer = client.post("/v1/score", files=files(png("red"), png("lime")), data=fields)
    assert answer.status_code == 200, answer.text
    red, lime = answer.json()["results"]
    assert lime["score"] > red["score"]
    assert "lime" in lime["negatives"][0]["name"]


def test_methods_that_read_patches_get_them(client: TestClient) -> None:
    answer = client.post("/v1/score", files=files(png("red")), data={"classes": CLASSES, "method": "gl_mcm"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"][0]["error"] is None


def test_neither_form_nor_json_is_415(client: TestClient) -> None:
    assert client.post("/v1/score", content=b"x", headers={"content-type": "text/plain"}).status_code == 415
    assert client.post("/v1/score").status_code == 415


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"not multipart", "multipart/form-data; boundary=x", 400),
        (b"--x\r\n", "multipart/form-data", 400),
        (b"{", "application/json", 422),
        (b'{"images": [{"content": "AA=="}], "classes": ["a", "\\ud800"]}', "application/json", 422),
        (b"[" * 100_000, "application/json", 422),
    ],
)
def test_a_body_that_cannot_be_parsed_is_a_problem(client: TestClient, content: bytes, kind: str, status: int) -> None:
    answer = client.post("/v1/score", content=content, headers={"content-type": kind})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_more_images_than_allowed_are_413_and_none_400(start: Start) -> None:
    client = start(max_images=2)
    fields = {"classes": CLASSES}

    def statuses(count: int) -> list[int]:
        pictures = [png()] * count
        urls = [f"https://example.org/{row}" for row in range(count)]
        return [
            client.post("/v1/score", files=files(*pictures), data=fields).status_code,
            client.post("/v1/score", json={"images": in_base64(*pictures)} | fields).status_code,
            client.post("/v1/score", files=[("urls", (None, url)) for url in urls], data=fields).status_code,
        ]

    assert statuses(2) == [200, 200, 200]
    assert statuses(3) == [413, 413, 413]
    assert statuses(9) == [413, 413, 413]
    assert client.post("/v1/score", files=[("classes", (None, name)) for name in CLASSES]).status_code == 400
    assert client.post("/v1/score", json={"images": []} | fields).status_code == 422
