"""The names of the package, which are imported when they are first used."""

import importlib
import subprocess
import sys

import pytest

import vlm_ood as vo
from tests.conftest import ROOT


def test_every_public_name_is_that_of_its_module() -> None:
    homes = {name: home for home, names in vo._HOMES.items() for name in names}
    assert set(vo.__all__) == {*homes, "metrics"}
    assert set(vo.__all__) <= set(dir(vo))
    for name, home in homes.items():
        assert getattr(vo, name) is getattr(importlib.import_module(f"vlm_ood.{home}"), name)
    assert vo.metrics is importlib.import_module("vlm_ood.metrics")


def test_no_other_name_is_found() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vo.nothing  # noqa: B018


def test_a_name_is_found_at_its_first_use() -> None:
    code = "import vlm_ood as vo, sys; print('torch' in sys.modules, vo.Task.__name__, vo.metrics.auroc.__name__)"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "Task", "auroc"]
