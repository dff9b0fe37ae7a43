"""The equation by hand."""

import torch

from tests.plugins.knn import kth_nearest


def test_two_images_by_hand() -> None:
    cosine = torch.tensor([[0.1, 0.3, 0.2], [0.5, 0.5, 0.0]])
    assert kth_nearest(cosine, 1).tolist() == torch.tensor([-0.3, -0.5]).tolist()
    assert kth_nearest(cosine, 2).tolist() == torch.tensor([-0.2, -0.5]).tolist()
