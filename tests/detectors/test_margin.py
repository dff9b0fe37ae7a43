"""The margin between the two nearest classes."""

import pytest
import torch

from vlm_ood.detectors.margin import margin


def test_two_images_by_hand() -> None:
    scores = margin(torch.tensor([[0.1, 0.35, 0.3], [-0.5, 0.25, 0.25]]))

    assert scores.tolist() == pytest.approx([-0.05, 0.0], abs=1e-7)


def test_is_the_log_odds_of_the_two_best_at_any_scale() -> None:
    cosine = 0.2 + 0.03 * torch.randn(50, 7, generator=torch.Generator().manual_seed(3))

    for scale in (1.0, 100.0):
        first, second = (scale * cosine.double()).softmax(dim=-1).topk(2, dim=-1).values.unbind(dim=-1)
        assert torch.allclose(scale * margin(cosine).double(), (second / first).log(), atol=1e-5)
