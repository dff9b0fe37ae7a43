"""The note of a detector names a calibrated sibling: the tenant's own, of the same family, the newest."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pytest
from starlette.testclient import TestClient

from tests.service.fakes import files, png

Key = Callable[..., dict[str, str]]


@dataclass(frozen=True)
class Made:
    """A detector of a test; those of one tenant and method differ in their classes alone."""

    tenant: str
    method: str
    word: str
    calibrated: bool = False


A1, A2, A3 = (Made("a", "mcm", word, calibrated=word != "three") for word in ("one", "two", "three"))
B1, B3 = Made("b", "mcm", "one", calibrated=True), Made("b", "mcm", "three")
OF_ANOTHER_METHOD: Final = Made("a", "max_cosine", "one", calibrated=True)
B_PLAIN: Final = Made("b", "max_cosine", "two")
ORDERS: Final = {
    "the stranger's is newer": (A1, A2, A3, B1, B3, OF_ANOTHER_METHOD, B_PLAIN),
    "the stranger's is older": (OF_ANOTHER_METHOD, B1, A1, A2, B_PLAIN, A3, B3),
    "the stranger has none": (A1, A2, B3, A3, OF_ANOTHER_METHOD, B_PLAIN),
    "the plain ones are first": (B_PLAIN, B3, A3, B1, A1, A2, OF_ANOTHER_METHOD),
}


def sibling(made: Made, before: list[Made]) -> Made | None:
    """Which of those made before the note of this one must name."""
    own = [each for each in before if (each.tenant, each.method) == (made.tenant, made.method) and each != made]
    return None if made.calibrated else next((each for each in reversed(own) if each.calibrated), None)


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_note_names_the_newest_calibrated_sibling_of_the_same_tenant(
    client: TestClient, key: Key, order: tuple[Made, ...]
) -> None:
    ids: dict[str, Made] = {}
    keys = {tenant: key(tenant) for tenant in ("a", "b")}

    def named(note: str | None) -> Made | None:
        found = [made for each, made in ids.items() if each in (note or "")]
        assert len(found) <= 1, note
        return found[0] if found else None

    for made in order:
        body = {"classes": ["red", made.word], "method": made.method}
        answer = client.post("/v1/detectors", json=body, headers=keys[made.tenant])
        assert answer.status_code == 201, answer.text
        assert named(answer.json()["note"]) == sibling(Made(made.tenant, made.method, made.word), list(ids.values()))
        path = f"/v1/detectors/{answer.json()['id']}"
        ids[answer.json()["id"]] = made
        if made.calibrated:
            put = client.put(f"{path}/calibration", files=files(png("red")), headers=keys[made.tenant])
            assert put.status_code == 200, put.text
    for each, made in ids.items():
        headers = keys[made.tenant]
        body = {"classes": ["red", made.word], "method": made.method}
        shown = client.get(f"/v1/detectors/{each}", headers=headers).json()
        again = client.post("/v1/detectors", json=body, headers=headers).json()
        assert shown["note"] == again["note"]
        assert named(shown["note"]) == sibling(made, list(ids.values())), made


def test_a_note_ends_with_the_calibration_of_the_sibling(client: TestClient, key: Key) -> None:
    """And the one of another tenant takes its place at no time."""
    mine, theirs = key("a"), key("b")
    for headers in (theirs, mine):
        old = client.post("/v1/detectors", json={"classes": ["red", "one"]}, headers=headers).json()["id"]
        assert client.put(f"/v1/detectors/{old}/calibration", files=files(png()), headers=headers).status_code == 200
    new = client.post("/v1/detectors", json={"classes": ["red", "two"]}, headers=mine).json()
    assert old in new["note"]
    assert client.delete(f"/v1/detectors/{old}/calibration", headers=mine).status_code == 204
    note = client.get(f"/v1/detectors/{new['id']}", headers=mine).json()["note"]
    assert note == "no calibration yet: without one, decisions are null"
