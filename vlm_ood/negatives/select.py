"""NegLabel's rule for negatives, on vectors alone: keep the candidates that are least like the classes.

Paper: Jiang et al., "Negative Label Guided OOD Detection with Pretrained Vision-Language Models" (NegLabel), ICLR 2024,
arXiv 2403.20078. A candidate's affinity is a high quantile of its cosines to the classes, and a share of the
candidates with the lowest affinity is kept. Their eta = 0.05 on distances is our quantile = 0.95 on cosines.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vlm_ood.errors import LexiconError, ParameterError, VectorError
from vlm_ood.types import TextBank

COSINES_AT_ONCE = 2**22  # 16 MB, whatever the sizes of lexicon and class list
ROUNDING = 1e-5  # far above what single precision errs in a cosine, far below what tells two words apart


def select_negatives(
    bank: TextBank,
    candidates: TextBank,
    quantile: float = 0.95,
    keep: float = 0.15,
    *,
    groups: Sequence[str] | None = None,
    max_cosine: float = float("inf"),
) -> TextBank:
    """The candidates least like the classes, least like first.

    Names play no part but to break ties: a candidate that is a class by name is judged by its vector, as any other.

    Args:
        bank: the classes.
        candidates: words that may become negatives.
        quantile: in [0, 1], over a candidate's cosines to the classes, between neighbours linearly. With c classes it
            passes over the (1 - quantile)(c - 1) nearest: 50 of 1000, and none when there are fewer than 21.
        keep: share of the candidates of each group, in (0, 1]; rounded down.
        groups: one label a candidate, such as its part of speech; shares are taken of each, in order of appearance.
        max_cosine: a candidate with a larger cosine to any class counts in the share but is never kept; CSP's 0.95.

    Raises:
        VectorError: classes and candidates of different dimension, or other labels than candidates.
        ParameterError: quantile or keep out of range.
        LexiconError: a share of less than one candidate.
    """
    check_shares(quantile, keep)
    if bank.dim != candidates.dim:
        raise VectorError(
            f"candidates have dimension {candidates.dim}, classes {bank.dim}: encode both with one encoder"
        )
    labels = ["all"] * len(candidates) if groups is None else list(groups)
    if len(labels) != len(candidates):
        raise VectorError(f"{len(labels)} group labels for {len(candidates)} candidates: give one a candidate")
    rows: list[int] = []
    for group in dict.fromkeys(labels):
        members = sorted(
            (row for row, label in enumerate(labels) if label == group), key=lambda row: candidates.names[row]
        )
        vectors = candidates.embeddings[torch.tensor(members, device=candidates.embeddings.device)]
        kept = least_similar([vectors], bank.embeddings, floor(keep * len(members)), quantile, max_cosine)
        rows += [members[position] for position in kept.positions.tolist()]
    if not rows:
        raise LexiconError(f"a share of {keep:g} of {len(candidates)} candidates keeps none: give more, or raise keep")
    return candidates.take(rows)


@dataclass(frozen=True)
class Kept:
    """The candidates chosen so far, least similar first.

    Args:
        positions: in the order in which the candidates came.
        affinity: the quantile of each one's cosines to the classes, in [-1, 1].
        embeddings: of each, at length 1.
    """

    positions: Int[Tensor, " m"]
    affinity: Float[Tensor, " m"]
    embeddings: Float[Tensor, "m d"]

    def __getitem__(self, rows: Tensor) -> "Kept":
        return Kept(self.positions[rows], self.affinity[rows], self.embeddings[rows])

    def __len__(self) -> int:
        return len(self.positions)

    @staticmethod
    def join(parts: "Sequence[Kept]") -> "Kept":
        """All of them, in order."""
        return Kept(
            torch.cat([part.positions for part in parts]),
            torch.cat([part.affinity for part in parts]),
            torch.cat([part.embeddings for part in parts]),
        )


def least_similar(
    chunks: Iterable[Float[Tensor, "_ d"]],
    classes: Float[Tensor, "c d"],
    count: int,
    quantile: float,
    max_cosine: float = float("inf"),
) -> Kept:
    """The `count` candidates with the lowest affinity; of equals the first to come.

    Single precision sorts out what can't be among them, and the order of the rest is found in double precision: the
    size of a chunk or of a batch then can't change who is kept. Memory is that of a chunk and of what is kept.
    """
    held = [Kept(classes.new_empty(0, dtype=torch.long), classes.new_empty(0), classes[:0])]
    bound, seen = float("inf"), 0
    for chunk in chunks:
        vectors = chunk.to(classes.device)
        affinity, nearest = affinities(vectors, classes, quantile, bound)
        positions = torch.arange(seen, seen + len(chunk), device=classes.device)
        seen += len(chunk)
        held.append(Kept(positions, affinity, vectors)[(nearest <= max_cosine) & (affinity <= bound)])
        if sum(map(len, held)) > 2 * count:
            pool, bound = _lowest(Kept.join(held), count)
            held = [pool]
    pool, _ = _lowest(Kept.join(held), count)
    exact = torch.float32 if classes.device.type == "mps" else torch.float64
    affinity, _ = affinities(pool.embeddings.to(exact), classes.to(exact), quantile)
    order = affinity.argsort(stable=True)[:count]
    return Kept(pool.positions[order], affinity[order], pool.embeddings[order])


def most_similar(
    chunks: Iterable[Float[Tensor, "_ d"]], classes: Float[Tensor, "c d"], count: int
) -> tuple[list[int], Float[Tensor, "m d"]]:
    """Where the candidates are that are among the `count` nearest to some class, in order, and their vectors.

    Of equally near candidates the first to come counts. Memory is that of a chunk and of `count` vectors per class.
    """
    best = classes.new_zeros(len(classes), 0)  # (c, <= count) cosines
    where = best.long()
    kept: dict[int, Float[Tensor, " d"]] = {}
    rows, seen = max(1, COSINES_AT_ONCE // len(classes)), 0
    for vectors in (part.to(classes.device) for chunk in chunks for part in torch.split(chunk, rows)):
        cosine = torch.cat([best, classes @ vectors.T], dim=1)
        positions = torch.arange(seen, seen + len(vectors), device=classes.device).expand(len(classes), -1)
        order = cosine.argsort(dim=1, descending=True, stable=True)[:, :count]
        best, where = cosine.gather(1, order), torch.cat([where, positions], dim=1).gather(1, order)
        chosen = sorted(set(where.flatten().tolist()))
        kept = {row: kept[row] if row < seen else vectors[row - seen] for row in chosen}
        seen += len(vectors)
    return list(kept), torch.stack(list(kept.values())) if kept else classes[:0]


def _lowest(pool: Kept, count: int) -> tuple[Kept, float]:
    """The `count` lowest with all that rounding could put among them, and the affinity up to which those go."""
    if not 0 < count < len(pool):
        return pool, float("inf")
    bound = float(pool.affinity.kthvalue(count).values) + ROUNDING
    return pool[pool.affinity <= bound], bound


def affinities(
    candidates: Float[Tensor, "m d"],
    classes: Float[Tensor, "c d"],
    quantile: float,
    bound: float = float("inf"),
) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
    """Each candidate's quantile and maximum over its cosines to the classes; infinite where the quantile is above."""
    rows = max(1, COSINES_AT_ONCE // len(classes))
    parts = [
        _up_to(candidates[start : start + rows] @ classes.T, quantile, bound)
        for start in range(0, max(1, len(candidates)), rows)
    ]
    return torch.cat([value for value, _ in parts]), torch.cat([largest for _, largest in parts])


def _up_to(
    cosine: Float[Tensor, "m c"], quantile: float, bound: float
) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
    """`_upper_quantile` of the rows where it may be at most `bound`: counting is cheaper than sorting."""
    if bound == float("inf"):
        return _upper_quantile(cosine, quantile)
    above = cosine.shape[1] - floor(quantile * (cosine.shape[1] - 1))
    low = (cosine > bound).sum(dim=1) < above
    value, largest = cosine.new_full((2, len(cosine)), float("inf"))
    value[low], largest[low] = _upper_quantile(cosine[low], quantile)
    return value, largest


def _upper_quantile(cosine: Float[Tensor, "m c"], quantile: float) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"]]:
    """The quantile as numpy's "linear" has it, and the maximum; sorts no more than lies above the quantile."""
    place = quantile * (cosine.shape[1] - 1)
    below = floor(place)
    top = cosine.topk(cosine.shape[1] - below, dim=1).values
    lower, upper = top[:, -1], top[:, max(-2, -top.shape[1])]
    return lower + (place - below) * (upper - lower), top[:, 0]


def check_shares(quantile: float, keep: float) -> None:
    """Raise a ParameterError for a quantile outside [0, 1] or a share outside (0, 1]."""
    if not 0 <= quantile <= 1:
        raise ParameterError(f"quantile={quantile} must lie in [0, 1]; NegLabel uses 0.95")
    if not 0 < keep <= 1:
        raise ParameterError(f"keep={keep} must lie in (0, 1]; NegLabel keeps 0.15")
