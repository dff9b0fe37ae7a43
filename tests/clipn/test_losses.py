import math

import pytest
import torch

from vlm_ood.clipn.losses import clipn_loss, no_wins, semantic_opposite, yes_wins

GAP = torch.tensor([[2.0, -1.0], [0.5, 3.0]], dtype=torch.float64)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_yes_wins_by_hand() -> None:
    expected = (-math.log(sigmoid(2.0)) - math.log(sigmoid(3.0))) / 2
    assert yes_wins(GAP).item() == pytest.approx(expected, abs=1e-12)


def test_no_wins_by_hand() -> None:
    expected = (-math.log(1 - sigmoid(-1.0)) - math.log(1 - sigmoid(0.5))) / 2
    assert no_wins(GAP).item() == pytest.approx(expected, abs=1e-12)


def test_semantic_opposite_by_hand() -> None:
    """Equal, orthogonal and opposite texts lie at distance 0, sqrt(2) and 2."""
    yes = torch.eye(2, dtype=torch.float64)
    assert semantic_opposite(yes, yes).item() == pytest.approx(2 - math.sqrt(1e-4))
    assert semantic_opposite(yes, yes.flip(0)).item() == pytest.approx(2 - math.sqrt(2 + 1e-4))
    assert semantic_opposite(yes, -yes).item() == pytest.approx(2 - math.sqrt(4 + 1e-4))


def test_the_whole_loss_by_hand() -> None:
    """Images on their captions, negated prompts orthogonal to both: every matching gap is 10, every other one 0."""
    images = torch.eye(4)[:2]
    loss = clipn_loss(images, images, torch.eye(4)[2:], scale=10.0)
    yes, no, opposite = math.log1p(math.exp(-10)), math.log(2), 2 - math.sqrt(2 + 1e-4)
    assert loss.total.shape == ()
    assert [loss.yes.item(), loss.no.item(), loss.opposite.item()] == pytest.approx([yes, no, opposite], abs=1e-6)
    assert loss.total.item() == pytest.approx(0.5 * (yes + no + opposite), abs=1e-6)


def test_a_negated_prompt_equal_to_its_prompt_leaves_every_probability_at_one_half() -> None:
    images, texts = torch.nn.functional.normalize(
        torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    loss = clipn_loss(images, texts, texts, scale=100.0)
    assert loss.yes.item() == pytest.approx(math.log(2))
    assert loss.no.item() == pytest.approx(math.log(2))


def test_the_loss_and_its_gradient_stay_finite_where_probabilities_round_to_one() -> None:
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    no = images.clone().requires_grad_()
    loss = clipn_loss(images, -images, no, scale=1e4)
    assert loss.yes.item() == pytest.approx(2e4)
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert no.grad is not None
    assert no.grad.isfinite().all()


def test_one_pair_has_no_unmatched_captions() -> None:
    one = torch.tensor([[1.0, 0.0]])
    assert clipn_loss(one, one, -one, scale=1.0).no.item() == 0
