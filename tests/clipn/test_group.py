import pytest
import torch
from torch import distributed

from vlm_ood.clipn.group import Group, process_group


def test_one_process_gathers_its_own_rows_with_their_gradient() -> None:
    rows = torch.ones(2, 3, requires_grad=True)
    assert Group().gather(rows) is rows


def test_without_torchrun_there_is_one_process_and_no_group() -> None:
    with process_group("cpu") as (group, device):
        assert (group, device) == (Group(0, 1), "cpu")
        assert not distributed.is_initialized()


def test_the_group_of_torchrun_is_closed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    with process_group("cpu") as (group, _):
        assert distributed.is_initialized()
        assert group == Group.current() == Group(0, 1)
    assert not distributed.is_initialized()
