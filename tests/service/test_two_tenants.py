"""Two tenants, two callers: over every route of the OpenAPI document, one sees nothing of what is the other's.

What belongs to another tenant is answered like what never existed: same status, headers and body. A key without the
access that a route needs learns nothing but that.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from service.security.access import ALL_ACCESS, OPEN_PATHS
from tests.service.fakes import files, in_base64, png

Key = Callable[..., dict[str, str]]

CLASSES: Final = ["alpha", "beta"]
OF_ONE_REQUEST: Final = {"x-request-id", "server-timing", "ratelimit-remaining", "ratelimit-reset", "content-length"}
NEVER: Final = {"detector": "det_000000000000000000000000", "bank": "bnk_000000000000000000000000"}


@dataclass(frozen=True)
class Call:
    """A request of httpx; `{detector}` and `{bank}` in its path, parameters and body stand for ids."""

    method: str
    path: str
    route: str
    sent: dict[str, Any] = field(default_factory=dict)

    def of(self, ids: dict[str, str]) -> dict[str, Any]:
        """The request with these ids."""
        text = json.dumps({"url": self.path, **self.sent})
        for noun, each in ids.items():
            text = text.replace("{" + noun + "}", each)
        return {"method": self.method, **json.loads(text)}


def spec(**more: Any) -> dict[str, Any]:
    return {"classes": CLASSES, "method": "mcm"} | more


IMAGES: Final = in_base64(png("red"), png("blue"))
FOREIGN: Final = (  # every way to name a row of a tenant: in the path, in a parameter, in a body
    Call("GET", "/v1/detectors/{detector}", "/v1/detectors/{detector_id}"),
    Call("DELETE", "/v1/detectors/{detector}", "/v1/detectors/{detector_id}"),
    Call("GET", "/v1/detectors?after={detector}", "/v1/detectors"),
    Call("POST", "/v1/detectors/{detector}/score", "/v1/detectors/{detector_id}/score", {"json": {"images": IMAGES}}),
    Call(
        "PUT",
        "/v1/detectors/{detector}/calibration",
        "/v1/detectors/{detector_id}/calibration",
        {"json": {"images": IMAGES}},
    ),
    Call("GET", "/v1/detectors/{detector}/calibration", "/v1/detectors/{detector_id}/calibration"),
    Call("DELETE", "/v1/detectors/{detector}/calibration", "/v1/detectors/{detector_id}/calibration"),
    Call("GET", "/v1/banks/{bank}", "/v1/banks/{bank_id}"),
    Call("DELETE", "/v1/banks/{bank}", "/v1/banks/{bank_id}"),
    Call("GET", "/v1/banks?after={bank}", "/v1/banks"),
    Call("GET", "/v1/banks/{own}?against={bank}", "/v1/banks/{bank_id}"),
    *(
        Call("POST", path, path, {"json": spec(**part, **images)})
        for path, images in (("/v1/detectors", {}), ("/v1/score", {"images": IMAGES}))
        for part in (
            {"classes": {"bank": "{bank}"}},
            {"method": "neglabel", "negatives": {"bank": "{bank}"}},
            {"method": "clipn", "no": {"bank": "{bank}"}},
            {"support": {"bank": "{bank}"}},
        )
    ),
    Call("POST", "/v1/banks", "/v1/banks", {"json": {"kind": "mined", "classes": {"bank": "{bank}"}}}),
)


def operations(client: TestClient) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of each route of the OpenAPI document."""
    assert isinstance(client.app, FastAPI)
    for path, described in client.app.openapi()["paths"].items():
        for method, operation in described.items():
            yield method.upper(), path, operation


def seen(answer: Any, ids: dict[str, str]) -> tuple[int, dict[str, str], str]:
    """What tells anything: status, headers, and the body with the ids that were asked for taken out."""
    text = re.sub(r'"request_id":"[^"]*"', "", answer.text)
    for noun, each in ids.items():
        text = text.replace(each, f"<{noun}>")
    return answer.status_code, {k: v for k, v in answer.headers.items() if k not in OF_ONE_REQUEST}, text


@pytest.fixture
def theirs(client: TestClient, key: Key) -> dict[str, str]:
    """Ids of what the first tenant has: a calibrated detector and a bank that another detector uses."""
    mine = key("a")
    detector = client.post("/v1/detectors", json=spec(), headers=mine).json()["id"]
    pictures = files(*map(png, ("red", "blue", "lime")))
    assert client.put(f"/v1/detectors/{detector}/calibration", files=pictures, headers=mine).status_code == 200
    asked = {"kind": "templates", "names": CLASSES, "label": "secret of the first"}
    bank = client.post("/v1/banks", json=asked, headers=mine).json()["id"]
    assert client.post("/v1/detectors", json=spec(classes={"bank": bank}), headers=mine).status_code == 201
    return {"detector": detector, "bank": bank}


def own_bank(client: TestClient, headers: dict[str, str]) -> str:
    made = client.post("/v1/banks", json={"kind": "templates", "names": ["x", "y"]}, headers=headers)
    assert made.status_code == 201
    return str(made.json()["id"])


@pytest.mark.parametrize("call", FOREIGN, ids=lambda call: f"{call.method} {call.path} {json.dumps(call.sent)[:60]}")
def test_what_is_another_tenants_is_answered_like_what_never_existed(
    client: TestClient, key: Key, theirs: dict[str, str], call: Call
) -> None:
    stranger = key("b")
    own = {"own": own_bank(client, stranger)} if "{own}" in call.path else {}
    foreign = client.request(**call.of(theirs | own), headers=stranger)
    never = client.request(**call.of(NEVER | own), headers=stranger)
    assert foreign.status_code == 404, foreign.text
    assert seen(foreign, theirs) == seen(never, NEVER)
    found = client.request(**call.of(theirs | {"own": theirs["bank"]}), headers=key("a"))
    assert found.status_code != 404, "the request must find it for its owner, or this test proves nothing"


def test_each_route_with_a_row_of_a_tenant_is_among_the_calls_above(client: TestClient) -> None:
    """A new route that takes an id must be added to them."""
    tried = {(call.method, call.route) for call in FOREIGN}
    for method, path, operation in operations(client):
        names = {each["name"] for each in operation.get("parameters", [])}
        takes_id = any(name.endswith("_id") or name in {"after", "against"} for name in names)
        if takes_id or (operation.get("requestBody") and "{" not in path):
            assert (method, path) in tried, (method, path)


def test_what_is_listed_or_shown_to_one_tenant_is_its_own(client: TestClient, key: Key, theirs: dict[str, str]) -> None:
    stranger, nobody = key("b"), key("c")
    client.post("/v1/detectors", json=spec(classes=["alpha", "gamma"]), headers=stranger)
    own_bank(client, stranger)
    for method, path, _ in operations(client):
        if method != "GET" or "{" in path or path == "/metrics":
            continue
        text = client.get(path, headers=stranger).text
        assert not [each for each in (*theirs.values(), "secret of the first") if each in text], path
    for noun in ("detectors", "banks"):
        assert client.get(f"/v1/{noun}", headers=nobody).json()[noun] == []
        assert len(client.get(f"/v1/{noun}", headers=stranger).json()[noun]) == 1


def test_the_same_detector_of_two_tenants_has_two_ids_and_no_shared_note(
    client: TestClient, key: Key, theirs: dict[str, str]
) -> None:
    stranger = key("b")
    same = client.post("/v1/detectors", json=spec(), headers=stranger)
    assert same.status_code == 201, "200 would tell that it exists"
    assert same.json()["id"] != theirs["detector"]
    assert same.json()["calibration"] is None
    other = client.post("/v1/detectors", json=spec(classes=["alpha", "delta"]), headers=stranger).json()
    assert theirs["detector"] not in json.dumps(other), "a calibrated sibling is one's own"
    assert client.delete(f"/v1/detectors/{same.json()['id']}", headers=stranger).status_code == 204
    assert client.get(f"/v1/detectors/{theirs['detector']}", headers=key("a")).status_code == 200


def test_the_metrics_of_all_tenants_name_none(client: TestClient, key: Key, theirs: dict[str, str]) -> None:
    text = client.get("/metrics", headers=key("b")).text
    assert not [each for each in (*theirs.values(), "secret of the first", "alpha", 'tenant="') if each in text]


def test_one_access_opens_each_route_and_a_key_without_it_learns_nothing(
    client: TestClient, key: Key, theirs: dict[str, str]
) -> None:
    """Refused before the body is read and before anything is looked up: what exists is answered like what does not."""
    keys = {access: key("a", access) for access in ALL_ACCESS}
    for method, path, operation in operations(client):
        if path in OPEN_PATHS:
            continue
        needed = {scope for each in operation["security"] for scope in each["HTTPBearer"]}
        assert len(needed) == 1, (method, path)
        for access in ALL_ACCESS - needed:
            answers = []
            for ids in (theirs, NEVER):
                url = path.format(detector_id=ids["detector"], bank_id=ids["bank"], name="mcm")
                for content in (b"", b"{", b"[" * 1000):
                    headers = keys[access] | {"content-type": "application/json"}
                    answer = client.request(method, url, content=content, headers=headers)
                    assert answer.status_code == 403, (method, path, access)
                    assert answer.json()["type"] == "urn:vlm-ood:problem:forbidden"
                    answers.append(seen(answer, ids))
            assert all(answer == answers[0] for answer in answers), (method, path, access)
    assert client.get(f"/v1/detectors/{theirs['detector']}", headers=key("a")).status_code == 200


def test_what_one_key_uses_up_is_not_taken_from_another_tenant(client: TestClient, key: Key) -> None:
    """RateLimit headers and 429 are of one key."""
    fast, slow = key("a", images_per_minute=3), key("b", images_per_minute=3)
    for _ in range(3):
        client.get("/v1/methods", headers=fast)
    assert client.get("/v1/methods", headers=fast).status_code == 429
    answer = client.post("/v1/score", files=files(png()), data={"classes": CLASSES}, headers=slow)
    assert answer.headers["RateLimit-Remaining"] == "2"
