"""AUROC of every zero-shot method on stored CLIP vectors: a long vocabulary, and random short ones.

    python -m benchmarks.vocabularies [--repeats 10]

ID are images of the classes; OOD are images of other classes of ImageNet ("near"), SUN397 and Stanford Cars. The last
lines are the mean over the columns and the worst distance to the best method of a column. The mean of 50 images of 50
classes stands for ordinary photographs, the mean of LVIS's 1203 names for everyday words. The vectors are outside the
checkout in ../shared/data and are not part of the project. Those of ImageNet are means over crops, which the others are
not: compare methods within a column.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors import safe_open

import vlm_ood as vo
from vlm_ood.detectors import registry

FOLDER: Final = Path(__file__).parents[2] / "shared" / "data" / "clip-vit-b32-features"
VOCABULARIES: Final = {2: 40, 5: 20, 10: 10, 50: 4, 100: 4}  # {number of classes: draws per ten repeats}


@dataclass(frozen=True)
class Column:
    """One comparison of ID with OOD images."""

    name: str
    task: vo.Task
    id_images: vo.ImageFeatures
    ood_images: vo.ImageFeatures


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10, help="draws of ten classes; fewer of more, more of fewer")
    options = parser.parse_args()
    names = [name for name in vo.detector_names() if not registry.get(name).needs]
    names = [name for name in names if not registry.get(name).outputs.local]
    aurocs: dict[str, dict[str, list[float]]] = {}
    for column in columns(options.repeats):
        for name in names:
            fitted = vo.create_detector(name).fit(column.task)
            figure = vo.metrics.auroc(fitted.score(column.id_images), fitted.score(column.ood_images))
            aurocs.setdefault(column.name, {}).setdefault(name, []).append(figure)
    show(names, {column: {name: float(np.mean(drawn[name])) for name in names} for column, drawn in aurocs.items()})


def columns(repeats: int) -> Iterator[Column]:
    """The whole of ImageNet, then random vocabularies."""
    bank = read("imagenet-text", "embeddings")
    images = read("imagenet-4shot", "features")[read("imagenet-4shot", "labels").argsort(stable=True)]
    images = images.view(1000, 4, -1)
    far = {
        "sun": vo.ImageFeatures(read("sun397-val", "features")),
        "cars": vo.ImageFeatures(read("stanford-cars-val", "features")),
    }
    background = vo.Background(images[draw(50, 0), 0].mean(dim=0), words=read("lvis-text", "embeddings").mean(dim=0))

    def task(rows: torch.Tensor) -> vo.Task:
        return vo.Task(vo.TextBank(tuple(map(str, rows.tolist())), bank[rows]), background=background)

    everything = torch.arange(1000)
    for name, ood in far.items():
        yield Column(f"1000, {name}", task(everything), vo.ImageFeatures(images[:, 2:].flatten(0, 1)), ood)
    for count, draws in VOCABULARIES.items():
        for seed in range(max(1, draws * repeats // 10)):
            order = draw(1000, 1000 * count + seed)
            known = task(order[:count]), vo.ImageFeatures(images[order[:count]].flatten(0, 1))
            for name, ood in {"near": vo.ImageFeatures(images[order[count:], 0]), **far}.items():
                yield Column(f"{count}, {name}", *known, ood)


def draw(count: int, seed: int) -> torch.Tensor:
    """So many of the 1000 classes, in random order."""
    return torch.randperm(1000, generator=torch.Generator().manual_seed(seed))[:count]


def read(file: str, key: str) -> torch.Tensor:
    """A tensor of a file, in fp32 unless it has labels."""
    with safe_open(FOLDER / f"{file}.safetensors", framework="pt") as stored:
        tensor: torch.Tensor = stored.get_tensor(key)
    return tensor.float() if tensor.is_floating_point() else tensor


def show(names: list[str], means: dict[str, dict[str, float]]) -> None:
    """Methods in rows, the best first; columns as they came, then their mean and the worst distance to the best."""
    best = {column: max(figures.values()) for column, figures in means.items()}
    worst = {name: max(best[column] - means[column][name] for column in means) for name in names}
    table = Table("method", *means, "mean", "worst", title="AUROC; classes, OOD")
    for name in sorted(names, key=worst.__getitem__):
        figures = [means[column][name] for column in means]
        table.add_row(name, *(f"{each:.3f}" for each in (*figures, np.mean(figures), worst[name])))
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
