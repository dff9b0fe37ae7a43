"""k-th neighbour and mean of the first k: by hand, against fp64, against pytorch-ood, and in bounded memory."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import vlm_ood as vo
from tests.detectors.reference import auroc
from tests.detectors.world import World, parts_of
from vlm_ood.detectors import neighbours
from vlm_ood.detectors.neighbours import largest_products
from vlm_ood.errors import TaskError

ROWS = torch.tensor([[1.0, 0, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
TASK = vo.Task(
    vo.TextBank(("a", "b"), torch.eye(3)[:2]), support=vo.Support(vo.ImageFeatures(ROWS), torch.tensor([0, 0, 1]))
)
IMAGE = vo.ImageFeatures(torch.tensor([[0.8, 0.6, 0]]))  # its cosines are 0.8, 0.96 and 0


@pytest.mark.parametrize(
    ("k", "average", "expected"),
    [(1, False, -0.96), (2, False, -0.8), (3, False, 0), (1, True, -0.96), (2, True, -0.88), (3, True, -1.76 / 3)],
)
def test_three_images_by_hand(k: int, average: bool, expected: float) -> None:
    fitted = vo.create_detector("knn", k=k, average=average).fit(TASK)

    assert fitted.score(IMAGE).tolist() == pytest.approx([expected], abs=1e-7)


@pytest.mark.parametrize("k", [1, 5, 48])
def test_is_the_sorted_cosine_in_fp64(k: int, world: World) -> None:
    known = parts_of(world.task)[2].features.pooled.double()
    ordered = (world.ood_images.pooled.double() @ known.T).sort(dim=1, descending=True).values

    kth, average = (
        vo.create_detector("knn", k=k, average=each).fit(world.task).score(world.ood_images) for each in (False, True)
    )

    assert kth.tolist() == pytest.approx((-ordered[:, k - 1]).tolist(), abs=1e-6)
    assert average.tolist() == pytest.approx((-ordered[:, :k].mean(dim=1)).tolist(), abs=1e-6)


def test_ranks_as_pytorch_ood_does(world: World) -> None:
    """Their score is the Euclidean distance of unit vectors, sqrt(2 - 2 cos)."""
    theirs = pytest.importorskip("pytorch_ood.detector").KNN(encoder=None, k=3)
    support = parts_of(world.task)[2]
    distance = theirs.fit_features(support.features.pooled, support.labels).predict_features(world.ood_images.pooled)

    score = vo.create_detector("knn", k=3).fit(world.task).score(world.ood_images).double()

    assert (2 + 2 * score).sqrt().tolist() == pytest.approx(distance.tolist(), abs=1e-5)


def test_fewer_images_than_neighbours_are_refused_with_a_remedy() -> None:
    with pytest.raises(TaskError, match=r"knn needs at least 4 labelled images, got 3: .* a smaller k"):
        vo.create_detector("knn", k=4).fit(TASK)


def test_the_labelled_images_are_not_copied(world: World) -> None:
    assert vo.create_detector("knn").fit(world.task).state is parts_of(world.task)[2].features.pooled


@pytest.mark.parametrize("cells", [1, 7, 64, 1000])
@pytest.mark.parametrize("k", [1, 3, 20])
def test_blocks_give_what_one_matrix_gives(cells: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    images, rows = (functional.normalize(torch.randn(n, 8, generator=draw), dim=1) for n in (11, 50))
    monkeypatch.setattr(neighbours, "CELLS", cells)

    found = largest_products(images, rows, k)

    assert torch.allclose(found, (images @ rows.T).topk(k, dim=1).values, atol=1e-6)


class Sizes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers how many numbers each tensor had that an operation returned."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = func(*args, **(kwargs or {}))
        self.seen += [each.numel() for each in tree_leaves(returned) if isinstance(each, Tensor)]
        return returned


@pytest.mark.parametrize("k", [1, 10, 1000])
@pytest.mark.parametrize("n", [1, 3, 300])
def test_no_tensor_is_larger_than_two_blocks(n: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "CELLS", 4096)
    images, rows = torch.ones(n, 1), torch.ones(20_000, 1)

    with Sizes() as sizes:
        largest_products(images, rows, k)

    assert max(sizes.seen) <= max(2 * 4096, n * k)  # the answer itself has n k numbers


@pytest.mark.parametrize(("k", "expected"), [(1, 0.822), (5, 0.838)])
def test_known_figures_on_real_clip_vectors(
    k: int,
    expected: float,
    clip_vectors: dict[str, vo.ImageFeatures],
    imagenet: vo.TextBank,
    clip_support: vo.Support,
) -> None:
    """AUROC against SUN397, as it was computed without this project."""
    fitted = vo.create_detector("knn", k=k).fit(vo.Task(imagenet, support=clip_support))

    figure = auroc(fitted.score(clip_vectors["imagenet"]), fitted.score(clip_vectors["sun"]))

    assert figure == pytest.approx(expected, abs=6e-4)
