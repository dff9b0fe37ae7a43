"""Equal requests are equal records, and two requests join into one pass or say why not."""

import pytest

from vlm_ood.encoders.outputs import PATCHES, POOLED, Outputs, join_all
from vlm_ood.errors import ParameterError


def test_equal_requests_are_equal_and_hash_alike() -> None:
    given = Outputs(patches=True, stages=(4, 2, 4), windows=(3, 2))
    assert given == Outputs(patches=True, stages=(2, 4), windows=(2, 3))
    assert hash(given) == hash(Outputs(patches=True, stages=(2, 4), windows=(2, 3)))


def test_what_nothing_reads_makes_no_difference() -> None:
    assert Outputs(attention="vv", vv_from=6) == POOLED
    assert Outputs(patches=True, vv_from=6) == PATCHES
    assert Outputs(patches=True, attention="vv", vv_from=6) != Outputs(patches=True, attention="vv", vv_from=7)


def test_each_field_that_is_read_makes_another_request() -> None:
    kinds = [
        POOLED,
        PATCHES,
        Outputs(stages=(1,)),
        Outputs(stages=(2,)),
        Outputs(windows=(2,)),
        Outputs(size=(8, 8)),
        Outputs(size=(8, 16)),
        Outputs(patches=True, attention="softmax"),
        Outputs(patches=True, attention="vv"),
    ]
    assert len(set(kinds)) == len(kinds)
    assert len({str(each.plain()) for each in kinds}) == len(kinds)


def test_needs_name_what_an_encoder_must_have() -> None:
    assert POOLED.needs == frozenset()
    everything = Outputs(True, (1,), "vv", 2, (8, 8), (2,))
    assert everything.needs == {"patches", "stages", "windows", "vv", "sizes"}


def test_requests_join_into_one_pass() -> None:
    assert join_all([]) == POOLED
    assert join_all([POOLED, PATCHES, Outputs(stages=(3,)), Outputs(windows=(2,))]) == Outputs(
        patches=True, stages=(3,), windows=(2,)
    )
    assert join_all([Outputs(size=(8, 8)), Outputs(stages=(1,), size=(8, 8))]) == Outputs(stages=(1,), size=(8, 8))


@pytest.mark.parametrize(
    "other",
    [
        Outputs(size=(8, 8)),
        Outputs(patches=True, size=(8, 8)),
        Outputs(stages=(1,), attention="softmax"),
        Outputs(True, (), "vv"),
    ],
)
def test_requests_of_different_kinds_do_not_join(other: Outputs) -> None:
    with pytest.raises(ParameterError, match="encode twice"):
        PATCHES.join(other)


@pytest.mark.parametrize("wrong", [{"stages": (0,)}, {"windows": (0,)}, {"size": (0, 8)}, {"vv_from": 0}])
def test_numbers_start_at_one(wrong: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ParameterError, match="at least 1"):
        Outputs(**wrong)  # type: ignore[arg-type]
