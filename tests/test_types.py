"""The records check what they are given, once."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vlm_ood as vo
from vlm_ood.errors import TaskError, VectorError
from vlm_ood.types import unit_rows


def test_pooled_features_are_brought_to_unit_length_in_fp32() -> None:
    features = vo.ImageFeatures(pooled=torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=torch.float16))
    assert features.pooled.dtype == torch.float32
    assert torch.allclose(features.pooled, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0])
def test_rows_without_direction_are_named(bad: float) -> None:
    vectors = torch.eye(3)
    vectors[1] = bad
    with pytest.raises(VectorError, match=r"1 of 3 rows .* \(rows 1\)"):
        vo.ImageFeatures(pooled=vectors)
    with pytest.raises(VectorError, match="text bank: 1 of 3 rows"):
        vo.TextBank(("a", "b", "c"), vectors)


def test_patches_must_fill_their_grid() -> None:
    with pytest.raises(VectorError, match="grid"):
        vo.ImageFeatures(torch.eye(2), torch.ones(2, 6, 2), (2, 2))
    with pytest.raises(VectorError, match="patches must have the axes"):
        vo.ImageFeatures(torch.eye(2), torch.ones(3, 4, 2), (2, 2))


def test_rows_are_taken_with_everything_that_belongs_to_them() -> None:
    patches = torch.arange(1, 17.0).view(2, 4, 2)
    features = vo.ImageFeatures(torch.eye(2), patches, (2, 2), {1: patches})
    second = features[[1]]
    assert len(second) == 1
    assert second.patches is not None
    assert features.patches is not None
    assert torch.equal(second.patches[0], features.patches[1])
    assert torch.equal(second.stages[1], patches[1:])


def test_batches_join_in_order() -> None:
    joined = vo.ImageFeatures.concatenate([vo.ImageFeatures(torch.eye(2)[:1]), vo.ImageFeatures(torch.eye(2)[1:])])
    assert torch.equal(joined.pooled, torch.eye(2))
    with pytest.raises(VectorError, match="no features"):
        vo.ImageFeatures.concatenate([])


def test_a_bank_digest_follows_names_and_values() -> None:
    bank = vo.TextBank(("a", "b"), torch.eye(2))
    assert bank.digest == vo.TextBank(("a", "b"), torch.eye(2)).digest
    assert bank.digest != vo.TextBank(("a", "c"), torch.eye(2)).digest
    assert bank.digest != vo.TextBank(("a", "b"), torch.eye(2).flip(0)).digest


def test_names_and_rows_must_agree() -> None:
    with pytest.raises(VectorError, match="3 names for 2 embeddings"):
        vo.TextBank(("a", "b", "c"), torch.eye(2))


def test_a_task_refuses_parts_of_another_dimension() -> None:
    classes = vo.TextBank(("a", "b"), torch.eye(2))
    with pytest.raises(VectorError, match="negatives have dimension 3, classes 2"):
        vo.Task(classes=classes, negatives=vo.TextBank(("x",), torch.ones(1, 3)))
    with pytest.raises(VectorError, match="negated prompts have dimension 3, classes 2"):
        vo.Task(classes=classes, no=vo.TextBank(("x", "y"), torch.ones(2, 3)))
    with pytest.raises(VectorError, match="1 negated prompts for 2 classes"):
        vo.Task(classes=classes, no=vo.TextBank(("x",), torch.ones(1, 2)))
    support = vo.Support(vo.ImageFeatures(torch.eye(2)), torch.tensor([0, 2]))
    with pytest.raises(VectorError, match="support labels"):
        vo.Task(classes=classes, support=support)


def test_a_missing_part_is_named_with_its_remedy() -> None:
    task = vo.Task(classes=vo.TextBank(("a", "b"), torch.eye(2)))
    with pytest.raises(TaskError, match=r"needs negatives: .*mine_negatives"):
        task.require("neglabel", frozenset({"negatives"}))
    with pytest.raises(TaskError, match=r"^clipn needs negated prompts: vo.Task\(classes=\.\.\., no=vo.no_bank"):
        task.require("clipn", frozenset({"no"}))


def test_a_task_digest_follows_every_part() -> None:
    classes = vo.TextBank(("a", "b"), torch.eye(2))
    plain = vo.Task(classes=classes)
    assert plain.digest == vo.Task(classes=classes).digest
    assert plain.digest != vo.Task(classes=classes, negatives=classes).digest
    assert vo.Task(classes=classes, no=classes).digest != vo.Task(classes=classes, negatives=classes).digest
    assert plain.digest != vo.Task(classes=classes, negatives=vo.TextBank((), torch.empty(0, 2))).digest
    assert plain.digest != vo.Task(classes=vo.TextBank(("a", "c"), torch.eye(2))).digest
    images = vo.ImageFeatures(torch.eye(2))
    support = vo.Support(images, torch.tensor([0, 1]))
    patched = replace(images, patches=torch.ones(2, 1, 2), grid=(1, 1))
    supports = [
        support,
        vo.Support(images, torch.tensor([1, 0])),
        vo.Support(vo.ImageFeatures(torch.eye(2).flip(0)), support.labels),
        vo.Support(patched, support.labels),
    ]
    digests = {vo.Task(classes=classes, support=each).digest for each in (None, *supports)}
    assert len(digests) == 5, "images, their patches and their labels are parts too"
    assert vo.Task(classes=classes, support=vo.Support(images, torch.tensor([0, 1]))).digest in digests


def everything(n: int = 64) -> vo.ImageFeatures:
    """Features of every kind, with random values; stage 2 has a grid of its own, as in a convolutional network."""
    generator = torch.Generator().manual_seed(0)

    def noise(cells: int, width: int) -> torch.Tensor:
        return torch.randn(n, cells, width, generator=generator)

    return vo.ImageFeatures(
        torch.randn(n, 24, generator=generator),
        noise(6, 24),
        (3, 2),
        {1: noise(6, 10), 2: noise(4, 16)},
        {2: noise(2, 24)},
        {2: (2, 2)},
    )


def tensors_of(features: vo.ImageFeatures) -> list[torch.Tensor]:
    assert features.patches is not None
    return [features.pooled, features.patches, *features.stages.values(), *features.windows.values()]


def assert_same_bits(one: vo.ImageFeatures, other: vo.ImageFeatures) -> None:
    assert (one.grid, one.stage_grids) == (other.grid, other.stage_grids)
    assert (list(one.stages), list(one.windows)) == (list(other.stages), list(other.windows))
    assert all(torch.equal(*pair) for pair in zip(tensors_of(one), tensors_of(other), strict=True))


def test_slicing_and_joining_change_no_bit() -> None:
    features = everything()
    assert_same_bits(features[:], features)
    assert_same_bits(vo.ImageFeatures.concatenate([features[:10], features[[10]], features[11:]]), features)
    assert_same_bits(features[torch.arange(64) % 2 == 0], features[::2])


@given(
    dim=st.integers(1, 600),
    exponent=st.floats(-17, 17),
    dtype=st.sampled_from([torch.bfloat16, torch.float32, torch.float64]),
)
@settings(max_examples=60, deadline=None)
def test_unit_rows_stay_as_they_are(dim: int, exponent: float, dtype: torch.dtype) -> None:
    noise = 0.1 + torch.rand(50, dim, generator=torch.Generator().manual_seed(dim))
    once = unit_rows((noise * 10.0**exponent).to(dtype), "rows")
    assert (once.double().norm(dim=1) - 1).abs().max() < 1e-6
    assert torch.equal(unit_rows(once, "rows"), once)
    assert torch.equal(unit_rows(once.T.contiguous().T, "rows"), once)  # whatever the layout of the memory


def test_records_hold_memory_of_their_own() -> None:
    vectors = torch.eye(3)
    features = vo.ImageFeatures(vectors)
    vectors[0] = 7
    assert torch.equal(features.pooled, torch.eye(3))


def test_stages_and_windows_must_fill_their_grids() -> None:
    with pytest.raises(VectorError, match=r"the grid \(2, 2\) of stage 3 doesn't hold the 6 vectors"):
        vo.ImageFeatures(torch.eye(2), None, (2, 2), {3: torch.ones(2, 6, 5)})
    with pytest.raises(VectorError, match=r"the grid None of stage 3"):
        vo.ImageFeatures(torch.eye(2), stages={3: torch.ones(2, 6, 5)})
    with pytest.raises(VectorError, match=r"the grid \(2, 1\) of windows of 2 doesn't hold the 3 vectors"):
        vo.ImageFeatures(torch.eye(2), None, (3, 2), windows={2: torch.ones(2, 3, 2)})
    with pytest.raises(VectorError, match=r"windows of 2 must have the axes \(2, p, 2\)"):
        vo.ImageFeatures(torch.eye(2), None, (3, 2), windows={2: torch.ones(2, 2, 3)})


def test_features_of_different_kinds_do_not_join() -> None:
    features = everything(2)
    others = [
        replace(features, patches=None),
        replace(features, stages={1: features.stages[1]}, stage_grids={}),
        replace(features, windows={}),
        replace(features, stage_grids={2: (4, 1)}),
    ]
    for other in others:
        with pytest.raises(VectorError, match="can't be joined"):
            vo.ImageFeatures.concatenate([features, other])


def test_a_digest_of_support_follows_all_that_it_holds() -> None:
    features, labels = everything(3), torch.tensor([0, 1, 1])
    assert features.patches is not None
    other = everything(4)[1:]
    changed = [
        replace(features, pooled=other.pooled),
        replace(features, patches=other.patches),
        replace(features, patches=None),
        replace(features, stages={**features.stages, 1: other.stages[1]}),
        replace(features, stages={2: features.stages[2]}),
        replace(features, windows=other.windows),
        replace(features, windows={}),
        replace(features, stage_grids={2: (1, 4)}),
    ]
    supports = [vo.Support(each, labels) for each in (features, *changed)] + [vo.Support(features, labels.flip(0))]
    assert len({support.digest for support in supports}) == len(supports)
    assert vo.Support(features[:], labels.clone()).digest == supports[0].digest
