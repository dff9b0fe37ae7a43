"""Every route charges the caller's key: at least one image, each image, and the text that is encoded."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.security.charges import PROMPTS_PER_IMAGE
from service.settings import Settings
from tests.service.conftest import Start, services_of
from tests.service.fakes import FakeEngine, files, in_base64, png

LIMIT = 1000
CLASSES = ["red", "blue"]
MANY = [f"class {number}" for number in range(30)]
TEMPLATES = ["a {}", "the {}"]
Key = Callable[..., dict[str, str]]


def operations() -> list[tuple[str, str]]:
    """(method, path) of every route of the API."""
    document = create_app(Settings(), FakeEngine()).openapi()
    return [
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods
        if path.startswith("/v1/")
    ]


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands still for the limit: a minute that ends within a test would give images back."""
    monkeypatch.setattr("limits.aio.storage.memory.time", SimpleNamespace(time=lambda: 1_000_000_020.0))
    monkeypatch.setattr("service.security.rate_limit.time", SimpleNamespace(time=lambda: 1_000_000_020.0))


@pytest.fixture
def client(start: Start) -> TestClient:
    """A server whose callers wait until a detector is made, however busy this machine is."""
    return start(prepare_wait_s=600)


def left(answer: Any) -> int:
    """How many of `LIMIT` an answer says are left."""
    assert answer.headers["RateLimit-Limit"] == str(LIMIT), answer.text
    assert int(answer.headers["RateLimit-Reset"]) >= 1
    return int(answer.headers["RateLimit-Remaining"])


@pytest.fixture
def header(key: Key) -> dict[str, str]:
    return key("a", images_per_minute=LIMIT)


@pytest.fixture
def detector(client: TestClient, key: Key) -> str:
    """Id of a detector that another key of the tenant has made."""
    answer = client.post("/v1/detectors", json={"classes": CLASSES}, headers=key("a"))
    found: str = answer.json()["id"]
    return found


ROUTES = operations()


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=lambda part: part)
def test_every_request_costs_one_image_however_it_is_answered(
    client: TestClient, header: dict[str, str], method: str, path: str
) -> None:
    url = path.format(detector_id="det_0", bank_id="bnk_0", name="mcm")
    kind = {"Content-Type": "application/json"}
    statuses = set()
    for row, content in enumerate([b"", b"{", b'{"classes": 1}'], start=1):
        answer = client.request(method, url, content=content, headers=header | kind)
        statuses.add(answer.status_code)
        assert left(answer) == LIMIT - row
    assert statuses <= {200, 404, 422}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_unknown_paths_cost_too(client: TestClient, header: dict[str, str], method: str) -> None:
    answer = client.request(method, "/v1/nothing", headers=header)
    assert (answer.status_code, left(answer)) == (404, LIMIT - 1)


def test_a_body_that_is_refused_by_its_length_costs(start: Start, key: Key) -> None:
    client = start(max_json_bytes=100)
    answer = client.post("/v1/score", json={"classes": ["x" * 200]}, headers=key("a", images_per_minute=LIMIT))
    assert (answer.status_code, left(answer)) == (413, LIMIT - 1)


def test_a_key_without_the_access_pays(client: TestClient, key: Key) -> None:
    answer = client.get("/v1/detectors", headers=key("a", "score", images_per_minute=LIMIT))
    assert (answer.status_code, left(answer)) == (403, LIMIT - 1)


@pytest.mark.parametrize("kind", ["form", "json"])
@pytest.mark.parametrize("path", ["/v1/score", "/v1/detectors/{}/score", "/v1/detectors/{}/calibration", "/v1/banks"])
def test_each_image_is_charged(client: TestClient, header: dict[str, str], detector: str, kind: str, path: str) -> None:
    if (path, kind) == ("/v1/banks", "json"):
        pytest.skip("labelled images are sent as a form")
    fields: dict[str, Any] = {"/v1/score": {"classes": CLASSES}, "/v1/banks": {"labels": ["a", "a", "b"]}}.get(path, {})
    body: dict[str, Any] = (
        {"files": files(*[png()] * 3), "data": fields}
        if kind == "form"
        else {"json": {"images": in_base64(*[png()] * 3), **fields}}
    )
    method = "PUT" if path.endswith("calibration") else "POST"
    answer = client.request(method, path.format(detector), headers=header, **body)
    assert answer.status_code in {200, 201}, answer.text
    assert left(answer) == LIMIT - 3


NAMES = {"classes": MANY, "templates": TEMPLATES}
WORDS = [f"word {number}" for number in range(100)]
COSTS: list[tuple[str, dict[str, Any], int]] = [
    ("/v1/detectors", NAMES, 60),
    ("/v1/detectors", NAMES | {"method": "clipn", "no_templates": ["no {}"]}, 90),
    ("/v1/detectors", {"classes": CLASSES, "method": "neglabel", "negatives": {"words": WORDS}}, 102),
    ("/v1/banks", {"kind": "templates", "names": MANY, "templates": TEMPLATES}, 60),
    ("/v1/banks", {"kind": "mined", "classes": MANY, "words": WORDS, "negative_templates": TEMPLATES}, 230),
]


@pytest.mark.parametrize(("path", "body", "prompts"), COSTS)
def test_text_is_charged_when_it_is_encoded(
    client: TestClient, header: dict[str, str], path: str, body: dict[str, Any], prompts: int
) -> None:
    made = client.post(path, json=body, headers=header)
    assert made.status_code == 201, made.text
    cost = prompts // PROMPTS_PER_IMAGE
    assert left(made) == LIMIT - cost
    again = client.post(path, json=body, headers=header)
    assert (again.status_code, left(again)) == (200, LIMIT - cost - 1)


def test_text_is_charged_beside_the_images(client: TestClient, header: dict[str, str]) -> None:
    def score() -> int:
        fields = {"classes": MANY, "templates": json.dumps(TEMPLATES)}
        return left(client.post("/v1/score", files=files(png(), png()), data=fields, headers=header))

    assert [score(), score()] == [LIMIT - 8, LIMIT - 10]


def test_a_stored_detector_that_was_forgotten_is_charged_again(start: Start, key: Key) -> None:
    client = start(detector_cache_bytes=1)
    header = key("a", images_per_minute=LIMIT)
    path = f"/v1/detectors/{client.post('/v1/detectors', json=NAMES, headers=key('a')).json()['id']}"
    assert left(client.post(f"{path}/score", files=files(png()), headers=header)) == LIMIT - 7
    assert left(client.put(f"{path}/calibration", files=files(png()), headers=header)) == LIMIT - 14


def test_a_large_detector_costs_half_a_minute_at_most(client: TestClient, key: Key) -> None:
    header = key("a", images_per_minute=10)

    def make(name: str) -> tuple[int, str]:
        names = [f"{name} {number}" for number in range(300)]
        answer = client.post("/v1/detectors", json={"classes": names}, headers=header)
        return answer.status_code, answer.headers["RateLimit-Remaining"]

    assert make("one") == (201, "5")
    assert make("two") == (201, "0")
    assert make("three") == (429, "0")


def test_too_few_left_is_429_with_what_is_left_and_when(client: TestClient, key: Key) -> None:
    header = key("a", images_per_minute=3)
    refused = client.post("/v1/score", files=files(*[png()] * 5), data={"classes": CLASSES}, headers=header)
    assert refused.status_code == 429
    assert "5 images, 3 of 3 per minute were left" in refused.json()["detail"]
    assert refused.headers["RateLimit-Remaining"] == "2"
    assert 1 <= int(refused.headers["Retry-After"]) <= 120


def test_nothing_is_encoded_for_a_key_that_cannot_pay(client: TestClient, key: Key, engine: FakeEngine) -> None:
    header = key("a", images_per_minute=4)
    for _ in range(3):
        client.get("/v1/methods", headers=header)
    answer = client.post("/v1/detectors", json={"classes": MANY}, headers=header)
    assert answer.status_code == 429
    assert engine.encoders["fake"].prompts_seen == []


def test_a_server_without_keys_has_no_limit(client: TestClient) -> None:
    assert "RateLimit-Limit" not in client.get("/v1/methods").headers


@pytest.mark.parametrize(("memory", "cost"), [(2**20, 1), (1, len(MANY) * len(TEMPLATES) // PROMPTS_PER_IMAGE)])
def test_a_bank_that_was_forgotten_is_charged_to_the_one_who_has_it_made_again(
    start: Start, memory: int, cost: int
) -> None:
    client = start(prepare_wait_s=600, bank_cache_bytes=memory)
    asked = {"kind": "templates", "names": MANY, "templates": TEMPLATES}
    keys = services_of(client).keys
    keyed = {"Authorization": f"Bearer {keys.create('a', ('score', 'manage'), images_per_minute=LIMIT)[1]}"}
    made = client.post("/v1/banks", json=asked, headers=keyed)
    before = left(made)
    answer = client.post("/v1/detectors", json={"classes": {"bank": made.json()["id"]}}, headers=keyed)
    assert answer.status_code == 201, answer.text
    assert before - left(answer) == cost
