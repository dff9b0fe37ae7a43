"""The rule on vectors alone, against numpy in double precision."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

import vlm_ood as vo
from vlm_ood.errors import LexiconError, ParameterError, VectorError
from vlm_ood.io.vectors import load_bank
from vlm_ood.negatives import select, select_negatives
from vlm_ood.negatives.select import affinities, least_similar


def bank(rows: Tensor, prefix: str = "word") -> vo.TextBank:
    return vo.TextBank(tuple(f"{prefix} {row:05}" for row in range(len(rows))), rows)


def angles(*degrees: float) -> Tensor:
    turns = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([turns.cos(), turns.sin()], dim=1)


def reference(classes: vo.TextBank, candidates: vo.TextBank, quantile: float, keep: float) -> tuple[str, ...]:
    cosine = candidates.embeddings.double().numpy() @ classes.embeddings.double().numpy().T
    affinity = np.quantile(cosine, quantile, axis=1)
    order = sorted(range(len(candidates)), key=lambda row: (affinity[row], candidates.names[row]))
    return tuple(candidates.names[row] for row in order[: int(keep * len(candidates))])


def test_with_one_class_the_rule_is_the_cosine() -> None:
    candidates = vo.TextBank(("near", "far", "opposite", "square"), angles(10, 120, 180, 90))

    kept = select_negatives(bank(angles(0), "class"), candidates, keep=0.75)

    assert kept.names == ("opposite", "far", "square")


def test_quantile_of_two_classes_by_hand() -> None:
    """Cosines (1, 0) and (0.6, 0.8): at the median 0.5 and 0.7, at quantile 1 they are 1 and 0.8."""
    classes = vo.TextBank(("x", "y"), torch.eye(2))
    candidates = vo.TextBank(("x", "between"), torch.tensor([[1.0, 0.0], [0.6, 0.8]]))

    assert select_negatives(classes, candidates, quantile=0.5, keep=0.5).names == ("x",)
    assert select_negatives(classes, candidates, quantile=1.0, keep=0.5).names == ("between",)


def test_max_cosine_counts_in_the_share_and_is_never_kept() -> None:
    """As in CSP: 3 of 4 are asked for, but one is too near a class."""
    classes = bank(angles(0), "class")
    candidates = vo.TextBank(("same", "near", "far", "opposite"), angles(1, 40, 120, 180))

    assert select_negatives(classes, candidates, keep=1.0, max_cosine=0.95).names == ("opposite", "far", "near")
    assert select_negatives(classes, candidates, keep=0.5, max_cosine=0.95).names == ("opposite", "far")


def test_shares_are_taken_of_each_group() -> None:
    candidates = vo.TextBank(("a1", "b1", "a2", "b2"), angles(170, 80, 160, 100))

    kept = select_negatives(bank(angles(0), "class"), candidates, keep=0.5, groups=["noun", "adj", "noun", "adj"])

    assert kept.names == ("a1", "b2")


def test_equal_candidates_are_kept_in_the_order_of_their_names() -> None:
    candidates = vo.TextBank(("c", "a", "b"), torch.ones(3, 4))

    assert select_negatives(bank(torch.eye(4), "class"), candidates, keep=0.7).names == ("a", "b")


@settings(deadline=None, max_examples=25)
@given(
    c=st.integers(1, 40),
    m=st.integers(2, 60),
    quantile=st.floats(0, 1),
    keep=st.floats(0.5, 1),
    seed=st.integers(0, 2**16),
)
def test_agrees_with_numpy_for_any_sizes(c: int, m: int, quantile: float, keep: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    classes = bank(torch.randn(c, 8, generator=draw), "class")
    candidates = bank(torch.randn(m, 8, generator=draw))

    assert select_negatives(classes, candidates, quantile, keep).names == reference(classes, candidates, quantile, keep)


@settings(deadline=None, max_examples=10)
@given(size=st.integers(20, 300), at_once=st.integers(400, 4000), count=st.integers(1, 299))
def test_chunks_of_any_size_keep_the_same(size: int, at_once: int, count: int) -> None:
    vectors = torch.nn.functional.normalize(torch.randn(300, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    classes, candidates = vectors[:20], vectors.flip(0)

    def chunks() -> Iterator[Float[Tensor, "_ d"]]:
        yield from (candidates[start : start + size] for start in range(0, 300, size))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select, "COSINES_AT_ONCE", at_once)
        kept = least_similar(chunks(), classes, count, 0.95)

    whole = least_similar([candidates], classes, count, 0.95)
    assert kept.positions.tolist() == whole.positions.tolist()
    assert torch.equal(kept.embeddings, whole.embeddings)


def test_never_holds_all_cosines_or_all_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best come last: what was held before must go."""
    classes = torch.eye(64)[:1]
    turn = torch.linspace(0.1, 3, 2_000)
    candidates = torch.stack([turn.cos(), turn.sin(), *torch.zeros(62, 2_000)], dim=1)
    held: list[int] = []
    join = select.Kept.join

    def watched(parts: list[select.Kept]) -> select.Kept:
        held.append(sum(map(len, parts)))
        return join(parts)

    monkeypatch.setattr(select.Kept, "join", watched)

    kept = least_similar((candidates[start : start + 50] for start in range(0, 2_000, 50)), classes, 25, 0.95)

    assert kept.positions.tolist() == list(range(1_999, 1_974, -1))
    assert max(held) <= 100


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"quantile": 1.5}, ParameterError, "quantile=1.5 must lie in"),
        ({"keep": 0.0}, ParameterError, "keep=0.0 must lie in"),
        ({"keep": 0.1}, LexiconError, "keeps none"),
        ({"groups": ["noun"]}, VectorError, "1 group labels for 3 candidates"),
    ],
)
def test_what_is_wrong_is_said(arguments: dict[str, object], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        select_negatives(bank(torch.eye(3), "class"), bank(torch.eye(3)), **arguments)  # type: ignore[arg-type]


def test_other_dimension_is_refused() -> None:
    with pytest.raises(VectorError, match="candidates have dimension 4, classes 3"):
        select_negatives(bank(torch.eye(3), "class"), bank(torch.eye(4)))


def test_clip_vectors_agree_with_double_precision(shared_data: Path) -> None:
    folder = shared_data / "clip-vit-b32-features"
    classes, candidates = load_bank(folder / "imagenet-text.safetensors"), load_bank(folder / "lvis-text.safetensors")
    exact = candidates.embeddings.double() @ classes.embeddings.double().T

    affinity, nearest = affinities(candidates.embeddings, classes.embeddings, 0.95)
    kept = select_negatives(classes, candidates)

    assert (affinity - exact.quantile(0.95, dim=1)).abs().max() < 1e-6
    assert (nearest - exact.amax(dim=1)).abs().max() < 1e-6
    assert kept.names == reference(classes, candidates, 0.95, 0.15)
    assert len(kept) == 180


def test_score_over_mined_clip_vectors_agrees_with_double_precision(shared_data: Path) -> None:
    folder = shared_data / "clip-vit-b32-features"
    classes, candidates = load_bank(folder / "imagenet-text.safetensors"), load_bank(folder / "lvis-text.safetensors")
    with safe_open(folder / "sun397-val.safetensors", framework="pt") as file:
        images = vo.ImageFeatures(file.get_tensor("features")[:500])
    negatives = select_negatives(classes, candidates)

    fitted = vo.create_detector("neglabel", groups=1).fit(vo.Task(classes=classes, negatives=negatives))

    pooled = images.pooled.double()
    in_favour = (100 * pooled @ classes.embeddings.double().T).exp().sum(1)
    against = (100 * pooled @ negatives.embeddings.double().T).exp().sum(1)
    belongs = in_favour / (in_favour + against)
    assert (torch.sigmoid(-fitted.score(images).double()) - belongs).abs().max() < 1e-6
