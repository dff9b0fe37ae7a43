"""What the engine is told of who asks, and what tenants share: nothing whose presence the time of an answer tells."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from starlette.testclient import TestClient

from service.banks.building import _mined
from service.banks.cache import MemoryBanks
from tests.fakes import FakeEncoder
from tests.service.fakes import FakeEngine, files, png
from vlm_ood.io.cache import DiskCache
from vlm_ood.lexicons import Lexicon, lexicon_from_words
from vlm_ood.negatives import MiningPlan, recipe_named
from vlm_ood.text import text_bank

Key = Callable[..., dict[str, str]]
CLASSES = ["a secret of one tenant", "another"]


@pytest.fixture(autouse=True)
def _own_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests left on disk is not found."""
    monkeypatch.setenv("VLM_OOD_CACHE", str(tmp_path / "cache"))


def requests(client: TestClient, headers: dict[str, str]) -> Iterator[None]:
    """One request of each kind that encodes images or text."""
    pictures = files(png("red"), png("blue"))
    made = client.post("/v1/detectors", json={"classes": CLASSES}, headers=headers)
    assert made.status_code == 201
    yield
    for path in ("/v1/score", f"/v1/detectors/{made.json()['id']}/score"):
        data = {"classes": CLASSES} if path == "/v1/score" else {}
        assert client.post(path, files=pictures, data=data, headers=headers).status_code == 200
        yield
    path = f"/v1/detectors/{made.json()['id']}/calibration"
    assert client.put(path, files=pictures, headers=headers).status_code == 200
    yield
    labelled = client.post("/v1/banks", files=pictures, data={"labels": ["red", "blue"]}, headers=headers)
    assert labelled.status_code == 201
    yield
    bank = {"kind": "templates", "names": ["only in a bank", *CLASSES]}
    assert client.post("/v1/banks", json=bank, headers=headers).status_code == 201
    yield


def test_every_route_that_encodes_tells_the_engine_for_whom(client: TestClient, engine: FakeEngine, key: Key) -> None:
    asked: dict[str, list[set[str]]] = {}
    for tenant in ("a", "b"):  # the second finds nothing that was made for the first
        asked[tenant] = []
        for _ in requests(client, key(tenant)):
            asked[tenant].append(set(engine.tenants) - {""})  # the background is the server's own work, for all
            engine.tenants.clear()
    assert asked == {tenant: [{tenant}] * 6 for tenant in ("a", "b")}


def test_the_class_names_of_one_tenant_are_encoded_again_for_another(
    client: TestClient, engine: FakeEngine, key: Key
) -> None:
    engine.tenants.clear()  # of the background, which is made at the start
    for tenant in ("a", "b", "b"):
        client.post("/v1/detectors", json={"classes": CLASSES, "method": "mcm"}, headers=key(tenant))
    assert engine.tenants == ["a", "b"]


def test_the_background_is_made_once_for_all_tenants(client: TestClient, engine: FakeEngine, key: Key) -> None:
    assert engine.tenants == [""] * 4  # at the start: words and photographs, for each of two encoders
    for tenant in ("a", "b"):
        client.post("/v1/detectors", json={"classes": CLASSES, "method": "adjusted_energy"}, headers=key(tenant))
    assert engine.tenants.count("") == 4


def test_banks_in_memory_and_on_disk_are_those_of_a_tenant(tmp_path: Path) -> None:
    banks = MemoryBanks(DiskCache(tmp_path), 2**20)
    encoder = Counting()
    for tenant in ("a", "b", "a"):
        text_bank(encoder, CLASSES, cache=banks.of(tenant))
        text_bank(encoder, CLASSES, cache=MemoryBanks(DiskCache(tmp_path), 2**20).of(tenant))
    assert encoder.calls == 2


@pytest.mark.parametrize(("ships", "calls"), [(True, 1), (False, 2)])
def test_only_the_vectors_of_a_lexicon_that_ships_are_shared(tmp_path: Path, ships: bool, calls: int) -> None:
    words = ["sofa", "lamp", "tree"]
    lexicon = Lexicon("wordnet", {"noun.artifact": tuple(words)}, "WordNet") if ships else lexicon_from_words(words)
    plan = MiningPlan(recipe_named("neglabel"), lexicon, 0.95, 1.0, False, 0, "by_word", "noun", 0)
    encoder = Counting()
    bank = text_bank(encoder, CLASSES, cache=DiskCache(tmp_path / "banks"))
    encoder.calls = 0
    for tenant in ("a", "b", "a", "b"):
        mined = _mined(DiskCache(tmp_path / "words"), tenant, encoder, bank, plan, progress=None)
        assert sorted(mined.negatives.names) == sorted(words)
    assert encoder.calls == calls


class Counting(FakeEncoder):
    """Counts its calls."""

    calls = 0

    def encode_text(self, *args: object, **kwargs: object) -> torch.Tensor:
        self.calls += 1
        return super().encode_text(*args, **kwargs)  # type: ignore[arg-type]
