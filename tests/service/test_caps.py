"""Each limit of the settings on what a request holds: at it a request passes, one above is refused and told why."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest
from starlette.testclient import TestClient

from service.settings import Settings
from tests.service.banks.files import bank_file, colours, uploaded
from tests.service.conftest import Start
from tests.service.fakes import files, in_base64, png

NAMES: Final = ["red", "blue", "white"]
WORDS: Final = ["lime", "yellow", "sofa", "lamp"]
IMAGES: Final = [png("red"), png("blue"), png("white")]
FILE: Final = bank_file(colours(*NAMES))
ELSEWHERE: Final = {
    "max_bytes_in_flight": "test_bodies.py",
    "max_banks_bytes": "banks/test_upload.py",
    "max_connections": "test_connections.py",
    "max_connections_per_address": "test_connections.py",
    "max_preparing": "test_prepared.py",
    "max_waiting": "security/test_waits.py",
    "max_waiting_per_tenant": "security/test_waits.py",
    "max_urls_at_once": "test_fetch_slots.py",
    "max_wait_s": "not of a request",
    "max_queue_items": "engine/test_admission.py",
    "max_queue_bytes": "engine/test_admission.py",
    "max_image_bytes": "below",
    "max_image_pixels": "below",
}

Sent = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A request that needs a limit of at least `need`.

    Args:
        setting: the limit.
        need: the least value for which the request passes.
        slug: the problem of the request below it.
        sent: how httpx sends the request.
        path: where.
        method: of HTTP.
    """

    setting: str
    need: int
    slug: str
    sent: Sent
    path: str = "/v1/score"
    method: str = "POST"


def as_form(pictures: list[bytes] = IMAGES[:1], **fields: Any) -> Sent:
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    return {"files": files(*pictures), "data": texts}


def as_json(pictures: list[bytes] = IMAGES[:1], **fields: Any) -> Sent:
    return {"json": {"images": in_base64(*pictures), **fields}}


def size(sent: Sent) -> int:
    """Bytes of a body; a boundary has always the same length."""
    return len(httpx.Request("POST", "http://a", **sent).read())


def scored(setting: str, need: int, slug: str, **fields: Any) -> list[Case]:
    """The case for every route that takes the content of a detector."""
    fields = {"classes": NAMES} | fields
    return [
        Case(setting, need, slug, as_form(**fields)),
        Case(setting, need, slug, as_json(**fields)),
        Case(setting, need, slug, {"json": fields}, "/v1/detectors"),
    ]


def bank(setting: str, need: int, slug: str, **fields: Any) -> Case:
    return Case(setting, need, slug, {"json": fields}, "/v1/banks")


MINED: Final[Sent] = {"kind": "mined", "classes": NAMES, "words": WORDS, "keep": 1.0}
SCORE, CALIBRATION = "/v1/detectors/{}/score", "/v1/detectors/{}/calibration"
LABELLED: Final[Sent] = {"files": files(*IMAGES), "data": {"labels": NAMES}}
CASES: Final = [
    *(
        Case("max_images", 3, "body-too-large", make(IMAGES, **fields), path)
        for make in (as_form, as_json)
        for path, fields in {"/v1/score": {"classes": NAMES}, SCORE: {}}.items()
    ),
    *(
        Case("max_calibration_images", 3, "body-too-large", make(IMAGES), CALIBRATION, "PUT")
        for make in (as_form, as_json)
    ),
    Case("max_support_images", 3, "body-too-large", LABELLED, "/v1/banks"),
    *scored("max_classes", 3, "class-names"),
    bank("max_classes", 3, "class-names", kind="templates", names=NAMES),
    bank("max_classes", 3, "class-names", **MINED),
    *scored("max_templates", 2, "templates", templates=["{}", "a {}"]),
    *scored("max_templates", 2, "templates", method="clipn", no_templates=["no {}", "not {}"]),
    bank("max_templates", 2, "templates", kind="templates", names=NAMES, templates=["{}", "a {}"]),
    bank("max_templates", 2, "templates", **MINED, templates=["{}", "a {}"]),
    bank("max_templates", 2, "templates", **MINED, negative_templates=["{}", "a {}"]),
    *scored("max_prompts", 6, "class-names", templates=["{}", "a {}"]),
    *scored("max_prompts", 9, "class-names", method="clipn", no_templates=["no {}", "not {}"]),
    *scored("max_prompts", 4, "lexicon", method="neglabel", negatives={"words": WORDS, "keep": 1.0}),
    bank("max_prompts", 6, "class-names", kind="templates", names=NAMES, templates=["{}", "a {}"]),
    bank("max_prompts", 6, "class-names", **MINED, templates=["{}", "a {}"]),
    bank("max_prompts", 8, "lexicon", **MINED, negative_templates=["{}", "a {}"]),
    *scored("max_words", 4, "lexicon", method="neglabel", negatives={"words": WORDS, "keep": 1.0}),
    bank("max_words", 4, "lexicon", **MINED),
    Case("max_bank_bytes", len(FILE), "body-too-large", {"files": {"file": ("a", FILE)}}, "/v1/banks"),
    Case("max_bank_rows", 3, "vectors", {"files": {"file": ("a", FILE)}}, "/v1/banks"),
    Case("max_json_bytes", size(as_json(classes=NAMES)), "body-too-large", as_json(classes=NAMES)),
    Case("max_body_bytes", size(as_form(classes=NAMES)), "body-too-large", as_form(classes=NAMES)),
    Case("max_detectors", 2, "conflict", {"json": {"classes": NAMES}}, "/v1/detectors"),
    Case("max_banks", 2, "conflict", {"files": {"file": ("a", FILE)}}, "/v1/banks"),
]


def test_each_limit_has_a_case() -> None:
    limits = {name for name in Settings.model_fields if name.startswith("max_")}
    assert limits == {case.setting for case in CASES} | set(ELSEWHERE)


def ask(start: Callable[..., TestClient], case: Case, limit: int) -> Any:
    """The answer of a server with this limit, which has a detector and a bank already."""
    client = start(prepare_wait_s=600)
    made = client.post("/v1/detectors", json={"classes": ["green", "grey"]}).json()["id"]
    uploaded(client, colours("green"))
    limited = start(prepare_wait_s=600, **{case.setting: limit})
    return limited.request(case.method, case.path.format(made), **case.sent)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.setting}-{case.path}")
def test_at_a_limit_a_request_passes_and_above_it_is_refused(start: Start, case: Case) -> None:
    refused = ask(start, case, case.need - 1)
    assert refused.json()["type"] == f"urn:vlm-ood:problem:{case.slug}", refused.text
    passed = ask(start, case, case.need)
    assert passed.status_code in {200, 201}, passed.text
    if case.setting not in {"max_bank_bytes", "max_json_bytes", "max_body_bytes"}:
        assert str(case.need - 1) in refused.json()["detail"]


def test_limits_of_images_are_those_of_the_engine() -> None:
    limits = Settings(max_image_bytes=5, max_image_pixels=7).engine().image_limits
    assert (limits.max_bytes, limits.max_pixels) == (5, 7)
