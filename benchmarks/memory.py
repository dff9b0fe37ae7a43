"""AUROC of detectors that adapt, against the detector that each starts from, on streams of stored CLIP vectors.

    python -m benchmarks.memory [--repeats 10]

The columns are those of benchmarks.vocabularies with 10, 100 and 1000 classes; ID and OOD images are shuffled into one
stream in batches of 64. The negatives of neglabel are chosen among the names of LVIS.
"""

import argparse
from typing import Any, Final

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import vlm_ood as vo
from benchmarks.vocabularies import Column, columns, read
from vlm_ood.detectors import FittedDetector
from vlm_ood.memory import Session

COUNTS: Final = ("10,", "100,", "1000,")
BATCH: Final = 64
ADAPTING: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "oodd": ("adjusted_energy", "oodd", {}),
    "oodd, weight 1": ("adjusted_energy", "oodd", {"weight": 1.0}),
    "adaneg": ("neglabel", "adaneg", {}),
    "adaneg, task": ("neglabel", "adaneg", {"proxies": "task"}),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10, help="draws of ten classes; fewer of more")
    options = parser.parse_args()
    words = read("lvis-text", "embeddings")
    lexicon = vo.TextBank(tuple(map(str, range(len(words)))), words)
    aurocs: dict[str, dict[str, list[float]]] = {}
    for column in columns(options.repeats):
        if column.name.startswith(COUNTS):
            for method, figure in figures_of(column, lexicon).items():
                aurocs.setdefault(method, {}).setdefault(column.name, []).append(figure)
    names = list(aurocs["oodd"])
    table = Table("method", *names, title="AUROC; classes, OOD")
    for method, found in aurocs.items():
        table.add_row(method, *(f"{np.mean(found[name]):.3f}" for name in names))
    Console(width=160).print(table)


def figures_of(column: Column, lexicon: vo.TextBank) -> dict[str, float]:
    """{method: AUROC}, of the detectors and of those that adapt."""
    negatives = vo.select_negatives(column.task.classes, lexicon, keep=0.8)
    fitted: dict[str, FittedDetector[Any]] = {
        "adjusted_energy": vo.create_detector("adjusted_energy").fit(column.task),
        "neglabel": vo.create_detector("neglabel", groups=5).fit(vo.Task(column.task.classes, negatives=negatives)),
    }
    images = vo.ImageFeatures.concatenate([column.id_images, column.ood_images])
    scores = {name: detector.score(images) for name, detector in fitted.items()}
    for name, (start, method, parameters) in ADAPTING.items():
        scores[name] = stream(vo.adapting(fitted[start], method, **parameters), images)
    count = len(column.id_images)
    return {name: vo.metrics.auroc(each[:count], each[count:]) for name, each in scores.items()}


def stream(session: Session, images: vo.ImageFeatures) -> torch.Tensor:
    """The scores of the images, in their order, from a shuffled stream."""
    scores = torch.empty(len(images))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    for rows in torch.split(order, BATCH):
        scores[rows] = session.score(images[rows])
    return scores


if __name__ == "__main__":
    main()
