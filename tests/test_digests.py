"""Digests: what counts, what doesn't, and that what is stored under one is found again by a later version."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import vlm_ood as vo
from vlm_ood.digests import Plain, digest_of, digest_of_weights
from vlm_ood.encoders.outputs import Outputs

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def test_stored_digests_are_found_again() -> None:
    """Files and rows of earlier versions are named by these: a change here makes every one of them unreachable."""
    assert digest_of() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    parts: list[Plain | bytes | Tensor] = ["a", 1, None, [1.5, True], {"b": 1, "a": "ß"}, b"x", torch.eye(2)]
    assert digest_of(*parts) == "7d931c1e7c279053d68bcbf72c4f6e104fb1120be4173b34cb88bcb6fa07ead1"
    weights = {"b": torch.zeros(1), "a": torch.ones(2, dtype=torch.float16)}
    assert digest_of_weights(weights) == "56f63faea444e702755350e9dd30722ab153f5c3c632ddd04f59fd3f7c8259d2"


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("clipn", "6562cd445168fd42"),
        ("energy", "c8a139c38448f3d1"),
        ("entropy", "9983b8c84fa474d0"),
        ("gen", "68cfafa92bf27e88"),
        ("gl_mcm", "5c1b32c443ba06cc"),
        ("l_mcm", "d0a81575477eaf06"),
        ("logit_gap", "b68b4f47422f3330"),
        ("margin", "6c1ec3857efe2ee7"),
        ("max_cosine", "169ad872a78cf720"),
        ("mcm", "74db75f2fe519077"),
        ("msp", "f74ef2eebac05884"),
        ("neglabel", "c05ba9349ceb118c"),
        ("negprompt", "5639c31e50ef0597"),
    ],
)
def test_a_calibration_of_an_earlier_version_holds(name: str, start: str) -> None:
    """A default that changes, a parameter or a part that is added without care, would refuse all of them."""
    rows = torch.eye(3)
    support = vo.Support(vo.ImageFeatures(rows), torch.tensor([0, 1, 1]))
    negatives, no = vo.TextBank(("c", "d"), rows[1:]), vo.TextBank(("no a", "no b"), rows[1:])
    task = vo.Task(vo.TextBank(("a", "b"), rows[:2]), negatives, no, support)
    assert vo.create_detector(name).fit(task).digest.startswith(start)


def test_an_ordinary_request_of_an_encoder_is_what_it_was() -> None:
    asked = Outputs()
    assert (asked.patches, asked.stages, asked.attention, asked.size, asked.windows) == (False, (), "value", None, ())
    assert asked.vv_from == 1


@given(plain, plain)
def test_different_values_have_different_digests_and_equal_ones_the_same(one: Plain, other: Plain) -> None:
    assert (digest_of(one) == digest_of(other)) == (repr(sorted_keys(one)) == repr(sorted_keys(other)))


def sorted_keys(value: Plain) -> Plain:
    """The value with the keys of its dictionaries in order: 1, 1.0 and True are equal in Python, and not here."""
    if isinstance(value, dict):
        return {key: sorted_keys(value[key]) for key in sorted(value)}
    return [sorted_keys(each) for each in value] if isinstance(value, list | tuple) else value


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_where_a_part_ends_counts(one: list[bytes], other: list[bytes]) -> None:
    assert (digest_of(*one) == digest_of(*other)) == (one == other)
    assert digest_of(b"".join(one), b"") != digest_of(b"", b"".join(one)) or not any(one)


def test_a_tensor_is_its_dtype_shape_and_values() -> None:
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    others = [
        rows,
        rows.T,
        rows.flatten(),
        rows[None],
        rows.double(),
        rows.half(),
        rows.bfloat16(),
        rows.to(torch.int32),
        rows.view(torch.int32),  # the same bytes
        torch.nextafter(rows, rows + 1),
        torch.empty(0, 2),
        torch.empty(2, 0),
    ]
    assert len({digest_of(each) for each in others}) == len(others)


@pytest.mark.parametrize(
    "copy",
    [
        torch.clone,
        lambda rows: rows.T.contiguous().T,
        lambda rows: rows.requires_grad_(),
        lambda rows: rows.expand(2, 2),
    ],
    ids=["clone", "layout", "gradient", "view"],
)
def test_where_a_tensor_lies_in_memory_does_not_count(copy: Callable[[Tensor], Tensor]) -> None:
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert digest_of(copy(rows.clone())) == digest_of(rows)


def test_weights_are_names_and_tensors_in_any_order() -> None:
    one, other = torch.arange(4.0), torch.arange(4.0) + 1
    state = {"layer.weight": one, "layer.bias": other}
    same: list[Any] = [state, dict(reversed(state.items())), list(state.items()), iter(state.items())]
    assert len({digest_of_weights(each) for each in same}) == 1
    different = [
        state,
        {"layer.weight": other, "layer.bias": one},  # under exchanged names
        {"layer.weight": one},
        {"layer.weight": one, "layer.bias2": other},
        {"layer.weight": one, "layer.bias": other.half()},
        {"layer.weight": one, "layer.bias": other[None]},
        {"layer.weight": one, "layer.bias": torch.nextafter(other, other + 1)},
        {**state, "layer.scale": torch.ones(())},
        {},
    ]
    assert len({digest_of_weights(each) for each in different}) == len(different)
