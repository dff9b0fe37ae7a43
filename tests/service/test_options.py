"""Every field does something, on every route, as a form and as JSON: a field without a case fails the test."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.service.banks.files import colours, uploaded
from tests.service.conftest import Start
from tests.service.fakes import FakeEngine, files, png
from tests.service.options import BANKS, CASES, NAMES, NEEDED, PICTURES, ask, resolved
from vlm_ood.types import TextBank

FORM: Final = "multipart/form-data"
BODIES: Final = {FORM: "form", "application/json": "json"}
DOCUMENT: Final = create_app(Settings(), FakeEngine()).openapi()


def schema(part: Any) -> Any:
    """A part of the document, with its reference followed."""
    return DOCUMENT["components"]["schemas"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part


def variants(part: Any) -> list[Any]:
    """The records that a body may be."""
    found = schema(part)
    return [schema(each) for each in found.get("oneOf", [found])]


def name_of(path: str, fields: set[str]) -> str:
    """The name of a body in `CASES`: several kinds of banks share a path."""
    if path != "/v1/banks":
        return path
    return f"{path} " + next(name for mark, name in MARKS.items() if mark in fields)


MARKS: Final = {"file": "file", "labels": "images", "names": "templates", "recipe": "mined"}


def documented() -> Iterator[tuple[str, str, str, str]]:
    """(method, name of the body, kind, field) of each field of each body of the API."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            for media, content in operation.get("requestBody", {}).get("content", {}).items():
                for record in variants(content["schema"]):
                    fields = set(record["properties"])
                    for field in sorted(fields):
                        yield method.upper(), name_of(path, fields), BODIES[media], field


FIELDS: Final = list(documented())
INNER_FIELDS: Final = [
    (method, name, kind, field)
    for (method, name), cases in CASES.items()
    for field in cases
    if "." in field
    for kind in ("form", "json")
    if any(each[:3] == (method, name, kind) for each in FIELDS)
]


def test_each_field_has_a_case_and_each_case_a_field() -> None:
    for (method, name), cases in CASES.items():
        fields = {field for *operation, _, field in FIELDS if operation == [method, name]}
        assert {field for field in cases if "." not in field} == fields - ({"urls"} if "urls" not in cases else set())
    assert {(method, name) for method, name, *_ in FIELDS} == set(CASES)
    negatives = set(schema(DOCUMENT["components"]["schemas"]["Negatives"])["properties"])
    inner = {field.partition(".")[2] for field in CASES["POST", "/v1/score"] if field.startswith("negatives.")}
    slow = {"lexicon"}  # has a test of its own, because mining WordNet takes long
    assert inner == negatives - slow | {"bank"}


@pytest.fixture
def client(start: Start) -> TestClient:
    """A server whose callers wait until a detector is made, however busy this machine is."""
    return start(prepare_wait_s=600)


@pytest.fixture
def ids(client: TestClient, knn: str) -> dict[str, str]:
    """{name in a case: id} of stored banks."""
    made = {name: uploaded(client, TextBank(tuple(NAMES), colours(*words).embeddings)) for name, words in BANKS.items()}
    for name, pictures in {"@support": ("red", "blue"), "@others": ("lime", "white")}.items():
        answer = client.post("/v1/banks", files=files(*map(png, pictures)), data={"labels": NAMES})
        made[name] = answer.json()["id"]
    return made


@pytest.mark.parametrize(("method", "name", "kind", "field"), FIELDS + INNER_FIELDS)
def test_a_field_changes_the_answer(
    client: TestClient, ids: dict[str, str], method: str, name: str, kind: str, field: str
) -> None:
    case = CASES[method, name][field]
    detector = client.post("/v1/detectors", json={"classes": NAMES}).json()["id"]
    path = name.partition(" ")[0].format(detector_id=detector)
    if "costs" in case.second:
        calibrated = client.put(f"/v1/detectors/{detector}/calibration", files=files(*map(png, NAMES)))
        assert calibrated.status_code == 200, calibrated.text
    answers = []
    for row, own in enumerate((case.first, case.second)):
        fields = resolved(NEEDED.get(name, {}) | case.base | own, ids)
        pictures = case.pictures if row and case.pictures is not None else PICTURES
        if "labels" in fields:
            fields["labels"] = fields["labels"][: len(pictures)]
        answer = ask(client, method, path, kind, fields, pictures)
        assert answer.status_code in {200, 201}, answer.text
        answers.append(seen(client, path, field, answer.json()))
        if path == "/v1/banks":
            client.delete(f"{path}/{answer.json()['id']}")
    assert answers[0] != answers[1]


def seen(client: TestClient, path: str, field: str, answer: Any) -> Any:
    """The part of an answer that a field may change; for a bank its content, because any field may change its id."""
    if path != "/v1/banks":
        return answer
    if field in {"label", "encoder"}:
        return answer[field]
    if answer["kind"] == "support":
        return answer["images_per_class"] if field == "labels" else answer["digest"]
    fields = {
        "classes": NAMES,
        "method": "neglabel",
        "parameters": {"temperature": 1.0, "groups": 1},
        "negatives": {"bank": answer["id"]},
    }
    scored = ask(client, "POST", "/v1/score", "json", fields, PICTURES)
    assert scored.status_code == 200, scored.text
    return scored.json()["results"]


@pytest.mark.parametrize("path", ["/v1/score", "/v1/detectors"])
def test_the_lexicon_of_negatives_is_read(client: TestClient, path: str) -> None:
    fields = {"classes": NAMES, "method": "neglabel", "negatives": {"lexicon": "nothing"}}
    answer = ask(client, "POST", path, "json", fields, PICTURES)
    assert answer.status_code == 422
    assert "unknown lexicon 'nothing'" in answer.json()["detail"]
