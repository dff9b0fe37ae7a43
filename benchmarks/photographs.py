"""AUROC and FPR@95 of the zero-shot methods with an encoder on ImageNet photographs.

    python -m benchmarks.photographs [--encoder embedded] [--seeds 50]

A random tenth of the classes is ID and the rest OOD; the figures are means over seeds. The photographs are outside the
checkout in ../shared/data and are not part of the project.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import vlm_ood as vo
from vlm_ood.detectors import registry
from vlm_ood.encoders.outputs import PATCHES
from vlm_ood.pipeline import encode_files

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "photos-imagenet"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="embedded")
    parser.add_argument("--seeds", type=int, default=50)
    options = parser.parse_args()

    encoder = vo.load_encoder(options.encoder)
    with (FOLDER / "labels.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    features = encode_files(encoder, [FOLDER / row["file"] for row in rows], PATCHES).features
    bank = vo.text_bank(encoder, [row["name"] for row in rows])
    names = [name for name in vo.detector_names() if not registry.get(name).needs]

    aurocs: dict[str, list[float]] = {name: [] for name in names}
    fprs: dict[str, list[float]] = {name: [] for name in names}
    accuracies = []
    for seed in range(options.seeds):
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
        known, unknown = order[: len(rows) // 10], order[len(rows) // 10 :]
        task = vo.Task(classes=bank.take(known))
        predicted = (features[known].pooled @ task.classes.embeddings.T).argmax(dim=1)
        accuracies.append(vo.metrics.accuracy(predicted, torch.arange(len(known))))
        for name in names:
            fitted = vo.create_detector(name).fit(task)
            samples = fitted.score(features[known]), fitted.score(features[unknown])
            aurocs[name].append(vo.metrics.auroc(*samples))
            fprs[name].append(vo.metrics.fpr_at_tpr(*samples))

    table = Table("method", "AUROC", "FPR@95", title=f"{options.encoder}: accuracy {np.mean(accuracies):.3f}")
    for name in names:
        table.add_row(name, f"{np.mean(aurocs[name]):.3f}", f"{np.mean(fprs[name]):.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
