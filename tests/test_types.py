"""The records check what they are given, once."""

import pytest
import torch

import vlm_ood as vo
from vlm_ood.errors import TaskError, VectorError


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
    with pytest.raises(VectorError, match="1 no-prompts for 2 classes"):
        vo.Task(classes=classes, no=vo.TextBank(("x",), torch.ones(1, 2)))
    support = vo.Support(vo.ImageFeatures(torch.eye(2)), torch.tensor([0, 2]))
    with pytest.raises(VectorError, match="support labels"):
        vo.Task(classes=classes, support=support)


def test_a_missing_part_is_named_with_its_remedy() -> None:
    task = vo.Task(classes=vo.TextBank(("a", "b"), torch.eye(2)))
    with pytest.raises(TaskError, match=r"needs negatives: .*mine_negatives"):
        task.require("neglabel", frozenset({"negatives"}))


def test_a_task_digest_follows_every_part() -> None:
    classes = vo.TextBank(("a", "b"), torch.eye(2))
    plain = vo.Task(classes=classes)
    assert plain.digest == vo.Task(classes=classes).digest
    assert plain.digest != vo.Task(classes=classes, negatives=classes).digest
    assert vo.Task(classes=classes, no=classes).digest != vo.Task(classes=classes, negatives=classes).digest
