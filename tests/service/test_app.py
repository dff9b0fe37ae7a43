"""Problems, request ids, health, metrics, the catalogue and the OpenAPI document."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema_rs import Draft202012Validator
from starlette.testclient import TestClient

from service.app import create_app
from service.engine import DeadlineExceeded, Draining, EngineError, NotReady, QueueFull, WorkerLost
from service.errors import RetryableError, ServiceError
from service.problems import PROBLEM_TYPES, problem_type_of
from service.settings import Settings
from tests.service.conftest import Start, services_of
from tests.service.fakes import FakeEngine, files, png
from vlm_ood.detectors import registry
from vlm_ood.detectors.mcm import MCM
from vlm_ood.errors import ServerError, VlmOodError
from vlm_ood.text.templates import template_sets

BODY = {"classes": ["red", "blue"]}


def every(cls: type[VlmOodError]) -> Iterator[type[VlmOodError]]:
    """The class and all below it."""
    yield cls
    for below in cls.__subclasses__():
        yield from every(below)


def test_every_error_has_a_kind_and_none_says_500_but_the_root() -> None:
    for cls in {each for each in every(VlmOodError) if not each.__module__.startswith("tests")}:
        problem = problem_type_of(cls.__new__(cls))
        assert 400 <= problem.status < 600
        if cls not in {VlmOodError, ServiceError, RetryableError, ServerError}:  # the last is raised by clients alone
            assert problem.status != 500, cls
    assert len({problem.slug for problem in PROBLEM_TYPES.values()}) == len(PROBLEM_TYPES)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (QueueFull("full", 7), 503),
        (Draining("stopping", 7), 503),
        (NotReady("not yet", 7), 503),
        (WorkerLost("gone", 7), 503),
        (DeadlineExceeded("late"), 504),
    ],
)
def test_what_the_engine_refuses_is_told_with_when_to_come_back(
    client: TestClient, engine: FakeEngine, error: EngineError, status: int
) -> None:
    engine.failure = error
    answer = client.post("/v1/score", files=files(png()), data=BODY)
    assert answer.status_code == status
    assert answer.headers.get("Retry-After") == (None if error.retry_after_s is None else "7")
    assert client.get("/readyz").status_code == status
    assert client.get("/livez").status_code == 200


def test_a_bug_is_a_500_that_tells_nothing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("service.routes.score.checked_spec", bug)
    answer = client.post("/v1/score", files=files(png()), data=BODY)
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert "secret" not in answer.text


def test_unknown_paths_and_methods_are_problems(client: TestClient) -> None:
    for answer in (client.get("/v1/nothing"), client.get("/v1/score"), client.get("/v1/methods/nothing")):
        assert answer.status_code in {404, 405}
        assert answer.json()["type"].startswith("urn:vlm-ood:problem:")
    assert client.get("/v1/score").headers["allow"] == "POST"


def test_a_harmless_request_id_is_kept_and_another_replaced(client: TestClient) -> None:
    assert client.get("/livez", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"
    assert client.get("/livez", headers={"X-Request-ID": "a b\x7f"}).headers["X-Request-ID"] != "a b\x7f"


def test_ready_is_proved_by_a_probe_but_not_by_one_a_request(client: TestClient, engine: FakeEngine) -> None:
    assert [client.get("/readyz").status_code for _ in range(20)] == [200] * 20
    assert 1 <= engine.probes < 20


def test_figures_are_by_route_and_outcome(client: TestClient) -> None:
    client.post("/v1/score", files=files(png(), b"bad"), data=BODY)
    client.get("/v1/detectors/det_secret")
    client.get("/v1/whatever")
    text = client.get("/metrics").text
    assert 'vlm_ood_http_requests_total{method="POST",route="/v1/score",status="200"} 1.0' in text
    assert 'route="/v1/detectors/{detector_id}",status="404"' in text
    assert 'route="unmatched",status="404"' in text
    assert 'vlm_ood_images_total{outcome="scored"} 1.0' in text
    assert 'vlm_ood_images_total{outcome="image"} 1.0' in text
    assert "det_secret" not in text
    assert "whatever" not in text


def test_logs_name_the_request_and_never_its_content(client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    fields = {"classes": ["my secret class", "blue"]}
    client.post("/v1/score", files=files(png()), data=fields, headers={"X-Request-ID": "r-1"})
    logged = capsys.readouterr().out
    assert "r-1" in logged
    assert "/v1/score" in logged
    assert "secret" not in logged


def test_the_catalogue_is_what_is_registered(client: TestClient) -> None:
    methods = {method["name"]: method for method in client.get("/v1/methods").json()["methods"]}
    assert sorted(methods) == registry.names()
    assert methods["mcm"]["parameters"]["properties"]["temperature"]["default"] == 1.0
    assert methods["neglabel"]["needs"] == ["negatives"]
    assert client.get("/v1/methods/mcm").json() == methods["mcm"]


def test_a_newly_registered_method_needs_no_other_change(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_classes", dict(registry._discovered))
    monkeypatch.setitem(registry.__dict__, "_discovered", registry._classes)

    @registry.register("brand_new")
    @dataclasses.dataclass(frozen=True)
    class BrandNew(MCM):
        """A method of this test."""

        strength: int = 3

    assert "strength" in client.get("/v1/methods/brand_new").json()["parameters"]["properties"]
    fields = {"classes": BODY["classes"], "method": "brand_new", "parameters": '{"strength": 4}'}
    answer = client.post("/v1/score", files=files(png()), data=fields)
    assert answer.json()["method"] == "brand_new"
    MCM.name = "mcm"


def test_encoders_templates_and_lexicons_are_listed(client: TestClient) -> None:
    first, second = client.get("/v1/encoders").json()["encoders"]
    assert (first["name"], first["state"], first["default"], first["dim"]) == ("fake", "ready", True, 16)
    assert (second["name"], second["state"], second["default"], second["dim"]) == ("other", "cold", False, None)
    listed = client.get("/v1/templates").json()["templates"]
    assert [templates["name"] for templates in listed] == list(template_sets())
    lexicons = client.get("/v1/lexicons").json()["lexicons"]
    assert {lexicon["name"] for lexicon in lexicons} == {"wordnet-full", "wordnet-paper"}
    assert all(lexicon["words"] > 10_000 for lexicon in lexicons)


def test_every_route_is_documented_with_problems(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    text = json.dumps(document)
    for name in text.split('"#/components/schemas/')[1:]:
        assert name.partition('"')[0] in document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"]
            assert operation["description"]
            if path.startswith("/v1/"):
                assert "401" in operation["responses"], path
                assert operation["security"], path


def test_a_form_that_is_sent_fits_the_document(client: TestClient) -> None:
    components = client.get("/openapi.json").json()
    sent = {"classes": ["cat", "dog"], "method": "mcm", "images": ["one", "two"], "negatives": {"bank": "bnk_0"}}
    body = components["paths"]["/v1/score"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    fits = Draft202012Validator(body | {"components": components["components"]}).is_valid
    assert fits(sent)
    assert not fits(sent | {"unheard": "of"})


def test_the_page_of_docs_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs")
    assert "POST /v1/score" in page.text
    assert "<script" not in page.text
    assert 'src="http' not in page.text
    assert client.get("/docs/style.css").headers["content-type"].startswith("text/css")


def test_the_engine_runs_as_long_as_the_server(tmp_path: Path, engine: FakeEngine) -> None:
    app = create_app(Settings(data=tmp_path, encoders=engine.encoder_names()), engine)
    states = [engine.running]
    with TestClient(app):
        states.append(engine.running)
    assert [*states, engine.running] == [False, True, False]


def test_a_detector_larger_than_the_cache_is_used_and_forgotten(start: Start) -> None:
    client = start(detector_cache_bytes=1)
    assert client.post("/v1/score", files=files(png()), data=BODY).status_code == 200
    assert services_of(client).prepared.nbytes == 0


def test_tracing_without_the_extra_says_what_to_install(start: Start) -> None:
    from importlib.util import find_spec

    from vlm_ood.errors import InputError

    if find_spec("opentelemetry") is not None:
        pytest.skip("the extra is installed")
    with pytest.raises(InputError, match=r"vlm-ood\[otel\]"):
        start(otlp_endpoint="http://127.0.0.1:4318/v1/traces")


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
def test_the_document_is_made_once(client: TestClient, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = client.get(path).content
    monkeypatch.setattr(client.app, "openapi", None)
    monkeypatch.setattr("service.routes.docs.json", None)
    assert client.get(path).content == first
