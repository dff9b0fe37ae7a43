"""Every query parameter does something, by default too, and is refused outside of its limits, on every route."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.service.banks.files import colours, uploaded
from tests.service.fakes import FakeEngine

DOCUMENT: Final = create_app(Settings(), FakeEngine()).openapi()
COUNT: Final = 23  # rows to page through: more than a page holds by default
PAGE: Final = 20  # by default
NAMES: Final = [f"name {row}" for row in range(COUNT)]

Listed = list[str]


@dataclass(frozen=True)
class Shown:
    """A route that gives a number of things.

    Args:
        path: with `{id}` for the id of a row.
        most: the largest `limit`.
        listed: of an answer.
    """

    path: str
    most: int
    listed: Callable[[Any], Listed]


DETECTORS: Final = Shown("/v1/detectors", 100, lambda answer: [each["id"] for each in answer["detectors"]])
BANKS: Final = Shown("/v1/banks", 100, lambda answer: [each["id"] for each in answer["banks"]])
BANK: Final = Shown("/v1/banks/{id}", 200, lambda answer: [each["name"] for each in answer["preview"]])
PAGES: Final = (DETECTORS, BANKS)
TRIED: Final = {
    ("/v1/detectors", "limit"),
    ("/v1/detectors", "after"),
    ("/v1/banks", "limit"),
    ("/v1/banks", "after"),
    ("/v1/banks/{bank_id}", "limit"),
    ("/v1/banks/{bank_id}", "against"),
}
pages = pytest.mark.parametrize("shown", PAGES, ids=lambda shown: shown.path)
limited = pytest.mark.parametrize("shown", [*PAGES, BANK], ids=lambda shown: shown.path)


def documented() -> Iterator[tuple[str, str]]:
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            yield from (
                (path, each["name"]) for each in operation.get("parameters", []) if each["in"] not in {"path", "header"}
            )


def test_each_query_parameter_is_tried_here() -> None:
    assert set(documented()) == TRIED


def filled(client: TestClient, shown: Shown) -> tuple[str, Listed]:
    """The path, and all that can be shown, in its order."""
    if shown is BANK:
        bank = uploaded(client, colours(*NAMES))
        return shown.path.format(id=bank), NAMES
    made = []
    for row in range(COUNT):
        if shown is BANKS:
            body: dict[str, Any] = {"kind": "templates", "names": [f"a {row}", "b"]}
        else:
            body = {"classes": [f"a {row}", "b"], "method": "mcm"}
        made.append(client.post(shown.path, json=body).json()["id"])
    return shown.path, made[::-1]


@limited
def test_a_limit_is_kept_and_has_a_default(client: TestClient, shown: Shown) -> None:
    path, everything = filled(client, shown)
    assert shown.listed(client.get(path).json()) == everything[:PAGE]
    for limit in (1, 2, COUNT - 1, COUNT, COUNT + 1, shown.most):
        assert shown.listed(client.get(path, params={"limit": limit}).json()) == everything[:limit], limit


@limited
def test_a_limit_outside_of_its_range_is_refused_by_name(client: TestClient, shown: Shown) -> None:
    path = shown.path.format(id=uploaded(client, colours("red")))
    for limit in (-1, 0, shown.most + 1, "1.5", "", "two", "1e1"):
        answer = client.get(path, params={"limit": limit})
        assert answer.status_code == 422, (limit, answer.text)
        assert "limit" in answer.text


@pages
def test_pages_hold_each_row_once_whatever_their_size_and_begin_after_any_row(client: TestClient, shown: Shown) -> None:
    path, everything = filled(client, shown)
    for limit in (1, 2, PAGE, COUNT - 1, COUNT):
        assert list(walked(client, shown, path, limit)) == everything, limit
    for place, row in enumerate(everything):
        answer = client.get(path, params={"limit": 2, "after": row}).json()
        assert shown.listed(answer) == everything[place + 1 : place + 3]


def walked(client: TestClient, shown: Shown, path: str, limit: int) -> Iterator[str]:
    """What the pages hold, to the last one."""
    following: dict[str, Any] = {}
    while True:
        answer = client.get(path, params=following | {"limit": limit}).json()
        assert 0 < len(shown.listed(answer)) <= limit
        yield from shown.listed(answer)
        if answer["next"] is None:
            return
        following = {"after": answer["next"]}


@pytest.mark.parametrize("name", ["after", "against"])
def test_an_id_that_is_too_long_or_that_nobody_has_is_refused(client: TestClient, name: str) -> None:
    paths = [each.path for each in PAGES] if name == "after" else [f"/v1/banks/{uploaded(client, colours('red'))}"]
    for path in paths:
        for unknown in ("bnk_0", "det_0", "x" * 64, ""):
            answer = client.get(path, params={name: unknown})
            assert answer.status_code == 404, (path, unknown)
        answer = client.get(path, params={name: "x" * 65})
        assert answer.status_code == 422, path
        assert name in answer.text


def test_the_nearest_names_are_those_of_the_bank_that_is_named(client: TestClient) -> None:
    mine, theirs = (uploaded(client, colours(*names)) for names in (("red", "blue"), ("crimson", "navy")))
    near = [
        [row["nearest"][0]["name"] for row in client.get(f"/v1/banks/{mine}", params=asked).json()["preview"]]
        for asked in ({}, {"against": mine}, {"against": theirs})
    ]
    assert near == [["blue", "red"], ["red", "blue"], ["crimson", "navy"]]
