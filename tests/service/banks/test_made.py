"""Banks that the server makes from a spec: stored as the spec, made once, ready when they say so."""

import asyncio
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

from service.banks.rows import BankRow
from service.banks.store import BankStore
from tests.fakes import FakeEncoder
from tests.service.banks.files import colours, upload, uploaded
from tests.service.conftest import Start, services_of
from tests.service.fakes import FakeEngine
from vlm_ood import TextBank, mine_negatives, text_bank

NAMES = ["red thing", "blue thing"]
WORDS = ["lime", "yellow", "white", "sofa"]
TEMPLATES: dict[str, Any] = {"kind": "templates", "names": NAMES, "templates": ["a photo of a {}.", "{}"]}
MINED: dict[str, Any] = {"kind": "mined", "classes": NAMES, "words": WORDS, "keep": 0.5}


def made(client: TestClient, spec: dict[str, Any]) -> Any:
    answer = client.post("/v1/banks", json=spec)
    assert answer.status_code in {200, 201}, answer.text
    return answer.json()


def nearest(client: TestClient, bank: str, against: str) -> list[tuple[str, str, float]]:
    """(name, the nearest in the other bank, the cosine)."""
    rows = client.get(f"/v1/banks/{bank}", params={"against": against}).json()["preview"]
    return [(row["name"], row["nearest"][0]["name"], row["nearest"][0]["cosine"]) for row in rows]


def test_a_bank_of_templates_is_the_one_that_the_library_makes(client: TestClient) -> None:
    answer = client.post("/v1/banks", json=TEMPLATES | {"label": "mine"})
    assert answer.status_code == 201, answer.text
    bank = answer.json()
    assert (bank["rows"], bank["dim"], bank["state"], bank["label"]) == (2, 16, "ready", "mine")
    assert bank["spec"] == TEMPLATES
    library = uploaded(client, text_bank(FakeEncoder(), NAMES, templates=TEMPLATES["templates"]))
    assert [cosine for *_, cosine in nearest(client, bank["id"], library)] == pytest.approx([1.0, 1.0], abs=1e-6)


def test_a_mined_bank_is_the_one_that_the_library_mines(client: TestClient) -> None:
    bank = made(client, MINED)
    library = mine_negatives(FakeEncoder(), text_bank(FakeEncoder(), NAMES), lexicon=WORDS, keep=0.5)
    shown = nearest(client, bank["id"], uploaded(client, library))
    assert [name for name, *_ in shown] == list(library.names)
    assert [(name, near) for name, near, _ in shown] == [(name, name) for name in library.names]
    assert [cosine for *_, cosine in shown] == pytest.approx([1.0] * len(library), abs=1e-6)
    assert bank["rows"] == len(library) == 2


def test_words_are_mined_against_a_bank_by_its_id(client: TestClient) -> None:
    classes = uploaded(client, text_bank(FakeEncoder(), NAMES))
    by_id = made(client, MINED | {"classes": {"bank": classes}})
    assert by_id["spec"]["classes"] == {"bank": classes}
    by_name = made(client, MINED)
    assert by_id["id"] != by_name["id"]
    assert [name for name, *_ in nearest(client, by_id["id"], by_name["id"])] == [
        name for name, *_ in nearest(client, by_name["id"], by_id["id"])
    ]


def test_a_bank_that_another_is_made_from_is_kept(client: TestClient) -> None:
    classes = uploaded(client, text_bank(FakeEncoder(), NAMES))
    mined = made(client, MINED | {"classes": {"bank": classes}})["id"]
    refused = client.delete(f"/v1/banks/{classes}")
    assert refused.status_code == 409
    assert mined in refused.json()["detail"]
    assert client.delete(f"/v1/banks/{mined}").status_code == 204
    assert client.delete(f"/v1/banks/{classes}").status_code == 204


def test_the_same_spec_is_the_same_bank(client: TestClient) -> None:
    first = made(client, TEMPLATES)
    assert client.post("/v1/banks", json=TEMPLATES).status_code == 200
    assert made(client, TEMPLATES)["id"] == first["id"]
    assert made(client, TEMPLATES | {"names": NAMES[::-1]})["id"] != first["id"]
    assert made(client, TEMPLATES | {"encoder": "other"})["id"] != first["id"]


def test_a_bank_is_cold_after_a_restart_and_made_when_it_is_used(start: Start) -> None:
    bank = made(start(), MINED)["id"]
    client = start()
    cold = client.get(f"/v1/banks/{bank}").json()
    assert (cold["state"], cold["preview"]) == ("cold", None)
    classes = {"classes": NAMES, "method": "neglabel", "negatives": {"bank": bank}}
    assert client.post("/v1/detectors", json=classes).json()["state"] == "ready"
    warm = client.get(f"/v1/banks/{bank}").json()
    assert (warm["state"], warm["rows"]) == ("ready", 2)
    assert warm["preview"]


def test_a_bank_that_takes_long_is_accepted_and_ready_later(start: Start) -> None:
    client = start(prepare_wait_s=1e-9)
    answer = client.post("/v1/banks", json=MINED)
    assert answer.status_code == 202, answer.text
    bank = answer.json()["id"]
    while (shown := client.get(f"/v1/banks/{bank}").json())["state"] == "preparing":
        pass
    assert (shown["state"], shown["rows"], shown["error"]) == ("ready", 2, None)


def test_a_list_shows_how_many_rows_a_bank_has_that_was_made_after_it_was_stored(start: Start) -> None:
    spec = MINED | {"classes": ["seen in", "this test alone"]}
    bank = start(prepare_wait_s=1e-9).post("/v1/banks", json=spec).json()["id"]
    client = start()
    detector = {"classes": ["a", "b"], "method": "neglabel", "negatives": {"bank": bank}}
    assert client.post("/v1/detectors", json=detector).status_code == 201
    assert client.get("/v1/banks").json()["banks"][0]["rows"] == 2


def test_a_list_shows_how_many_rows_a_bank_has_that_was_made_just_before_it_was_stored(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start(prepare_wait_s=1e-9)
    create = BankStore.create

    async def late(store: BankStore, row: BankRow, *more: Any) -> Any:
        while services_of(client).banks.state(row)[0] == "preparing":
            await asyncio.sleep(0.01)
        return await create(store, row, *more)

    monkeypatch.setattr(BankStore, "create", late)
    assert client.post("/v1/banks", json=MINED | {"classes": ["seen", "here alone"]}).status_code == 202
    assert client.get("/v1/banks").json()["banks"][0]["rows"] == 2


def test_a_look_at_a_bank_that_is_not_made_makes_no_other_bank(start: Start, engine: FakeEngine) -> None:
    client = start()
    bank, other = made(client, MINED), made(client, TEMPLATES)
    client = start()
    shown = client.get(f"/v1/banks/{bank['id']}", params={"against": other["id"]}).json()
    assert (shown["state"], shown["preview"]) == ("cold", None)
    assert client.get(f"/v1/banks/{other['id']}").json()["state"] == "cold"


def test_a_detector_waits_for_its_bank_and_is_ready_with_it(start: Start) -> None:
    client = start(prepare_wait_s=1e-9)
    bank = client.post("/v1/banks", json=MINED).json()["id"]
    spec = {"classes": NAMES, "method": "neglabel", "negatives": {"bank": bank}}
    answer = client.post("/v1/detectors", json=spec)
    assert answer.status_code == 202, answer.text
    while (shown := client.get(f"/v1/detectors/{answer.json()['id']}").json())["state"] == "preparing":
        pass
    assert (shown["state"], shown["error"]) == ("ready", None)


@pytest.mark.parametrize(
    ("spec", "slug"),
    [
        ({"kind": "no-tower", "tower": "/etc/passwd"}, "invalid-request"),
        ({"kind": "stored", "source": "/etc/passwd"}, "invalid-request"),
        ({"names": NAMES}, "invalid-request"),
        (TEMPLATES | {"names": []}, "invalid-request"),
        (TEMPLATES | {"names": ["red", " red"]}, "class-names"),
        (TEMPLATES | {"names": ["a\x00"]}, "invalid-request"),
        (TEMPLATES | {"templates": "/etc/passwd"}, "unknown-name"),
        (TEMPLATES | {"templates": ["none"]}, "templates"),
        (TEMPLATES | {"encoder": "/etc/passwd"}, "unknown-name"),
        (TEMPLATES | {"unheard": "of"}, "invalid-request"),
        (MINED | {"words": ["red thing"]}, "lexicon"),
        (MINED | {"recipe": "nothing"}, "unknown-name"),
        (MINED | {"words": None, "lexicon": "../../etc/passwd"}, "unknown-name"),
        (MINED | {"keep": 2}, "invalid-request"),
        (MINED | {"draw": "nothing"}, "unknown-name"),
        (MINED | {"overlap": "nothing"}, "unknown-name"),
        (MINED | {"only": ["noun.nothing"]}, "unknown-name"),
        (MINED | {"negative_templates": ["none"]}, "templates"),
        (MINED | {"classes": {"bank": 3}}, "invalid-request"),
    ],
)
def test_what_cannot_be_made_is_a_problem_and_not_stored(client: TestClient, spec: dict[str, Any], slug: str) -> None:
    answer = client.post("/v1/banks", json=spec)
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"] == f"urn:vlm-ood:problem:{slug}"
    assert client.get("/v1/banks").json()["banks"] == []


def test_a_bank_of_a_tower_is_made_elsewhere_and_the_error_says_how(client: TestClient) -> None:
    told = client.post("/v1/banks", json={"kind": "no-tower"}).json()["detail"]
    assert told.startswith("the server can't make a bank of a CLIPN text tower")
    assert "vlm-ood clipn-bank" in told
    assert "upload" in told


def test_a_word_list_that_cannot_be_used_costs_no_prompt(client: TestClient, engine: FakeEngine) -> None:
    for names in (NAMES, ["never seen before", "nor this"]):  # a bank that was made before is in the cache of the run
        answer = client.post("/v1/banks", json=MINED | {"classes": names, "words": None, "lexicon": "nothing"})
        assert answer.json()["type"].endswith(":unknown-name")
    assert engine.encoders["fake"].prompts_seen == []


def test_classes_by_id_are_banks_of_names_of_the_same_encoder(client: TestClient) -> None:
    other = uploaded(client, colours(*NAMES, encoder="other"), encoder="other")
    refused = client.post("/v1/banks", json=MINED | {"classes": {"bank": other}})
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:vlm-ood:problem:vectors")
    assert "ask for the encoder other" in refused.json()["detail"]
    assert client.post("/v1/banks", json=MINED | {"classes": {"bank": "bnk_0"}}).status_code == 404


@pytest.mark.parametrize(
    ("settings", "spec"),
    [
        ({"max_classes": 1}, TEMPLATES),
        ({"max_classes": 1}, MINED),
        ({"max_templates": 1}, TEMPLATES),
        ({"max_prompts": 3}, TEMPLATES),
        ({"max_words": 3}, MINED),
    ],
)
def test_every_limit_is_told(start: Start, settings: dict[str, int], spec: dict[str, Any]) -> None:
    answer = start(**settings).post("/v1/banks", json=spec)
    assert answer.status_code == 422
    assert f"the limit is {next(iter(settings.values()))}" in answer.json()["detail"]


def test_a_quota_holds_for_specs_before_anything_is_encoded(start: Start, engine: FakeEngine) -> None:
    client = start(max_banks=1)
    upload(client, TextBank(("red",), torch.eye(16)[:1]))
    assert client.post("/v1/banks", json=MINED | {"classes": ["one more", "another"]}).status_code == 409
    assert engine.encoders["fake"].prompts_seen == []


def test_banks_in_memory_are_bounded(start: Start) -> None:
    client = start(bank_cache_bytes=1)
    bank = made(client, TEMPLATES)
    assert bank["state"] == "cold", "it was made, and is made again when it is used"
    detector = client.post("/v1/detectors", json={"classes": {"bank": bank["id"]}})
    assert detector.status_code == 201, detector.text


def test_what_the_cache_counts_is_what_a_bank_takes() -> None:
    from service.caching.sizes import bytes_of

    bank = colours(*map(str, range(100)))
    assert torch.finfo(bank.embeddings.dtype).bits == 32
    assert bytes_of(bank) >= 100 * 16 * 4
