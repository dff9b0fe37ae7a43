"""What every test may ask for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.plugins import KthNeighbour
from vlm_ood.detectors import registry

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache folder for the whole run, and never the user's."""
    monkeypatch.setenv("VLM_OOD_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _same_random_state() -> Iterator[None]:
    """A test that moves the global generators moves them for itself alone."""
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture
def knn(monkeypatch: pytest.MonkeyPatch) -> str:
    """A method that needs labelled images, registered for one test; its name."""
    monkeypatch.setitem(registry._classes, KthNeighbour.name, KthNeighbour)
    return KthNeighbour.name


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real vectors and photographs beside the checkout; they are not part of the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: the real data beside the checkout is absent")
    return folder
