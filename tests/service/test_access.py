"""Open paths are listed here; every other path needs a key with the right access."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from service.run import check_reach
from service.settings import Settings, SettingsError
from tests.service.conftest import Start, services_of
from tests.service.fakes import files, png
from vlm_ood.errors import InputError, UnknownNameError

OPEN = {"/", "/livez", "/readyz", "/docs", "/docs/style.css", "/openapi.json"}
BODY = {"classes": ["red", "blue"]}

Key = Callable[..., dict[str, str]]


def routes(client: TestClient) -> Iterator[tuple[str, str]]:
    """Every method and path of the application, the parameters filled in."""
    assert isinstance(client.app, FastAPI)
    for path, operations in client.app.openapi()["paths"].items():
        for method in operations:
            yield method.upper(), path.format(detector_id="det_0", bank_id="bnk_0", name="mcm")
    for path in ("/", "/docs", "/docs/style.css", "/openapi.json", "/nothing", "/v1", "/v1/nothing", "/redoc"):
        yield "GET", path


def test_without_a_key_only_the_open_paths_answer(start: Start) -> None:
    client = start(host="0.0.0.0")
    answers = {(method, path): client.request(method, path).status_code for method, path in routes(client)}
    assert {path for (_, path), status in answers.items() if status != 401} == OPEN
    assert len(answers) > 20


def test_a_key_without_access_may_do_nothing(client: TestClient, key: Key) -> None:
    nothing = key("a", "metrics")
    for method, path in routes(client):
        if path.startswith("/v1/") and path != "/v1/nothing":
            assert client.request(method, path, headers=nothing, json=BODY).status_code == 403, (method, path)


def test_each_access_opens_its_own_routes(client: TestClient, key: Key) -> None:
    score, manage = key("a", "score"), key("a", "manage")
    assert client.post("/v1/score", files=files(png()), data=BODY, headers=score).status_code == 200
    assert client.post("/v1/score", files=files(png()), data=BODY, headers=manage).status_code == 403
    assert client.post("/v1/detectors", json=BODY, headers=score).status_code == 403
    assert client.post("/v1/detectors", json=BODY, headers=manage).status_code == 201
    assert client.get("/metrics", headers=manage).status_code == 403
    assert client.get("/metrics", headers=key("a", "metrics")).status_code == 200


def test_the_local_user_is_let_in_until_there_is_a_key(client: TestClient, key: Key) -> None:
    assert client.get("/v1/methods").status_code == 200
    assert client.get("/v1/methods", headers=key()).status_code == 200
    assert client.get("/v1/methods").status_code == 401


@pytest.mark.parametrize("wrong", ["", "x", "vo_", "vo_000000000000_x", "vo__", "vo_%00_x", "é"])
def test_an_unknown_key_is_401_even_for_the_local_user(client: TestClient, wrong: str) -> None:
    answer = client.get("/v1/methods", headers=[(b"Authorization", f"Bearer {wrong or '?'}".encode("latin-1"))])
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_the_right_id_with_another_secret_is_401(client: TestClient, key: Key) -> None:
    header = key()["Authorization"]
    assert client.get("/v1/methods", headers={"Authorization": header[:-1] + "?"}).status_code == 401


def test_a_revoked_key_stops_at_once(client: TestClient, key: Key) -> None:
    header = key()
    keys = services_of(client).keys
    assert client.get("/v1/methods", headers=header).status_code == 200
    keys.revoke(keys.all()[0].id)
    assert client.get("/v1/methods", headers=header).status_code == 401
    assert client.get("/v1/methods").status_code == 401, "revoking the last key must not open the server"


def test_a_token_is_stored_nowhere(client: TestClient, key: Key, tmp_path: Path) -> None:
    secret = key()["Authorization"].split("_", 2)[2].encode()
    services_of(client).database.close()
    assert all(secret not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_keys_are_checked_when_they_are_made(client: TestClient) -> None:
    keys = services_of(client).keys
    with pytest.raises(UnknownNameError, match="did you mean 'score'"):
        keys.create("a", ["scores"])
    with pytest.raises(InputError, match="tenant"):
        keys.create("a/b", ["score"])
    with pytest.raises(InputError, match="at least 1"):
        keys.create("a", ["score"], images_per_minute=0)
    with pytest.raises(UnknownNameError):
        keys.revoke("nothing")


def test_images_count_against_the_rate_limit(client: TestClient, key: Key) -> None:
    header = key("a", images_per_minute=5)

    def send(count: int) -> tuple[int, str | None]:
        answer = client.post("/v1/score", files=files(*[png()] * count), data=BODY, headers=header)
        return answer.status_code, answer.headers.get("RateLimit-Remaining")

    assert send(3) == (200, "2")
    refused = client.post("/v1/score", files=files(*[png()] * 3), data=BODY, headers=header)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.headers["RateLimit-Remaining"] == "1", "a refused request costs one image"
    assert send(1) == (200, "0")
    assert client.get("/v1/methods", headers=header).status_code == 429
    assert client.get("/v1/methods", headers=key("a")).status_code == 200, "another key has its own account"


def test_other_machines_need_keys_unless_the_server_is_insecure(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--insecure"):
        check_reach(Settings(host="0.0.0.0", data=tmp_path))
    check_reach(Settings(host="0.0.0.0", data=tmp_path, insecure=True))
    check_reach(Settings(host="::1", data=tmp_path))


def test_a_key_lets_the_server_listen(start: Start, tmp_path: Path) -> None:
    services_of(start()).keys.create("a", ["score"])
    check_reach(Settings(host="0.0.0.0", data=tmp_path))


def test_an_insecure_server_needs_no_keys(start: Start) -> None:
    client = start(host="0.0.0.0", insecure=True)
    services_of(client).keys.create("a", ["score"])
    assert client.get("/v1/methods").status_code == 200


def test_other_host_names_are_not_served_on_loopback(client: TestClient) -> None:
    assert client.get("/livez", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/livez", headers={"host": "localhost:8000"}).status_code == 200


def test_a_page_of_another_site_may_not_write(client: TestClient, start: Start) -> None:
    foreign = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}
    assert client.post("/v1/detectors", json=BODY, headers=foreign).status_code == 403
    assert client.post("/v1/detectors", json=BODY, headers={"sec-fetch-site": "same-origin"}).status_code == 201
    allowed = start(cors_origins=("https://good.example",))
    good = {"sec-fetch-site": "cross-site", "origin": "https://good.example"}
    answer = allowed.post("/v1/detectors", json=BODY, headers=good)
    assert answer.headers["access-control-allow-origin"] == "https://good.example"
    assert allowed.post("/v1/detectors", json=BODY, headers=foreign).status_code == 403


def test_answers_carry_the_security_headers(client: TestClient) -> None:
    for path in ("/livez", "/docs", "/v1/methods", "/v1/nothing"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'"), path
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
    assert client.get("/v1/methods").headers["cache-control"] == "no-store"
