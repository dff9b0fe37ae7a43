"""NegPrompt's joint softmax by hand, and beside MCM and NegLabel."""

import math

import pytest
import torch

import vlm_ood as vo
from vlm_ood.detectors.mcm import mcm
from vlm_ood.detectors.negprompt import joint_softmax
from vlm_ood.errors import TaskError


def test_by_hand() -> None:
    """Weights 4 and 2 for the classes, 1 and 3 for the negatives: the best class has 4 of 10."""
    score = joint_softmax(
        torch.tensor([[math.log(4), math.log(2)]]), torch.tensor([[math.log(1), math.log(3)]]), temperature=1.0
    )

    assert score.shape == (1,)
    assert score.item() == pytest.approx(math.log(10 / 4), rel=1e-6)


def test_with_negatives_far_away_it_is_mcm() -> None:
    classes = torch.linspace(-0.4, 0.4, 30).reshape(3, 10)
    largest = classes.softmax(dim=1).amax(dim=1)

    score = joint_softmax(classes, torch.full((3, 5), -1e4), temperature=1.0)

    assert torch.allclose(score, -largest.log(), atol=1e-6)
    assert torch.equal(score.argsort(), mcm(classes, 1.0).argsort())


def test_with_one_class_it_orders_as_neglabel_in_one_group() -> None:
    draw = torch.Generator().manual_seed(0)
    task = vo.Task(
        classes=vo.TextBank(("one",), torch.randn(1, 8, generator=draw)),
        negatives=vo.TextBank(("x", "y", "z"), torch.randn(3, 8, generator=draw)),
    )
    images = vo.ImageFeatures(torch.randn(20, 8, generator=draw))

    joint = vo.create_detector("negprompt", temperature=0.1).fit(task)
    summed = vo.create_detector("neglabel", groups=1, temperature=0.1).fit(task)

    assert torch.equal(joint.score(images).argsort(), summed.score(images).argsort())
    assert joint.pulled_out_by(images, 2) == summed.pulled_out_by(images, 2)


def test_needs_negatives() -> None:
    with pytest.raises(TaskError, match="mine_negatives"):
        vo.create_detector("negprompt").fit(vo.Task(classes=vo.TextBank(("a",), torch.ones(1, 4))))
