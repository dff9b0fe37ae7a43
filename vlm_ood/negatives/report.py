"""A summary of a mining: shares by lexicographer file, negatives nearest to a class, samples."""

from collections import Counter
from dataclasses import dataclass

from vlm_ood.negatives.mine import Mining
from vlm_ood.types import TextBank


@dataclass(frozen=True)
class FileShare:
    """How much of a lexicographer file was kept, in words."""

    file: str
    candidates: int
    kept: int


@dataclass(frozen=True)
class Neighbours:
    """A negative, the class it is most like, and their cosine."""

    negative: str
    nearest_class: str
    cosine: float


@dataclass(frozen=True)
class MiningReport:
    """A summary of a mining.

    Args:
        negatives: how many were kept.
        candidates: out of how many.
        files: by lexicographer file, most negatives first.
        nearest: the negatives most like a class, most alike first: look at these first when ID images are rejected.
        samples: negatives spread evenly from the least like the classes to the most.
        named: words that were left out because they name a class.
        classes_passed_over: how many nearest classes the quantile passes over; 0 makes it all but the maximum.
    """

    negatives: int
    candidates: int
    files: tuple[FileShare, ...]
    nearest: tuple[Neighbours, ...]
    samples: tuple[str, ...]
    named: tuple[str, ...]
    classes_passed_over: int


def report(mining: Mining, bank: TextBank, quantile: float = 0.95, top: int = 10) -> MiningReport:
    """Summarise a mining.

    Args:
        mining: what `mine` returned.
        bank: the classes it was mined for.
        quantile: that it was mined with.
        top: how many neighbours and samples to show.
    """
    kept = Counter(mining.files)
    shares = [FileShare(file, count, kept[file]) for file, count in mining.candidates.items()]
    by_affinity = mining.affinity.argsort(stable=True).tolist()
    step = max(1, len(by_affinity) // top)
    return MiningReport(
        negatives=len(mining.negatives),
        candidates=sum(mining.candidates.values()),
        files=tuple(sorted(shares, key=lambda share: (-share.kept, share.file))),
        nearest=_nearest(mining.negatives, bank, top),
        samples=tuple(mining.negatives.names[row] for row in by_affinity[::step][:top]),
        named=mining.named,
        classes_passed_over=int((1 - quantile) * (len(mining.classes) - 1)),
    )


def _nearest(negatives: TextBank, bank: TextBank, top: int) -> tuple[Neighbours, ...]:
    classes = bank.embeddings.to(negatives.embeddings.device)
    chunks = (negatives.embeddings[start : start + 4096] for start in range(0, len(negatives), 4096))
    best = [(chunk @ classes.T).max(dim=1) for chunk in chunks]
    cosines = [value for part in best for value in part.values.tolist()]
    rows = [row for part in best for row in part.indices.tolist()]
    order = sorted(range(len(cosines)), key=lambda row: (-cosines[row], negatives.names[row]))
    return tuple(Neighbours(negatives.names[row], bank.names[rows[row]], cosines[row]) for row in order[:top])
