"""AUROC and cost of every method, zero-shot and with a few labelled images per class.

    python -m benchmarks.few_images [--seeds 10] [--markdown]

Two encoders on data in ../shared/data, which are not part of the project:

- CLIP ViT-B/32: stored vectors of ImageNet. Vocabularies of 10, 50, 100 and all 1000 of its classes; the fourth vector
  of each class is the ID image, the first one, two or three are the labelled ones. OOD are the images of the other
  classes ("near", not with 1000), SUN397 and Stanford Cars. ImageNet's are means over crops, the others are not:
  compare methods within a column.
- `embedded`: CIFAR-10's photographs, six classes against the other four, with 1, 2, 4 and 16 labelled images per class.

"mean" is over the columns, with a 95 % interval over the seeds; "worst" the largest distance of a column's mean to the
best method with as many images. The last table is the time per image, relative to `mcm` in the same run.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy import stats

import vlm_ood as vo
from benchmarks.common import in_turns
from benchmarks.vocabularies import FOLDER, draw, read
from vlm_ood.detectors import FittedDetector, registry
from vlm_ood.errors import TaskError
from vlm_ood.pipeline import encode_files

VOCABULARIES: Final = (10, 50, 100, 1000)
CLIP_IMAGES: Final = (0, 1, 2, 3)
CIFAR_IMAGES: Final = (0, 1, 2, 4, 16)
KNOWN: Final = 6  # classes of CIFAR-10
COST_IMAGES: Final = 2048


@dataclass(frozen=True)
class Case:
    """One seed of one column."""

    column: str
    seed: int
    task: vo.Task
    id_images: vo.ImageFeatures
    ood_images: vo.ImageFeatures


Figures = Mapping[str, Mapping[str, Mapping[int, float]]]
"""{method: {column: {seed: AUROC}}}"""


def main() -> None:
    """Print a table per encoder and number of images, and one of times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="draws of each vocabulary, at least 2")
    parser.add_argument("--markdown", action="store_true", help="print tables as Markdown")
    options = parser.parse_args()
    clip, cifar = ClipVectors(), Cifar()
    sources: list[tuple[str, Sequence[int], Callable[[int, int], Iterator[Case]]]] = [
        ("CLIP ViT-B/32", CLIP_IMAGES, clip.cases),
        ("embedded, CIFAR-10", CIFAR_IMAGES, cifar.cases),
    ]
    for title, numbers, cases in sources:
        for images in numbers:
            figures = measured(cases(images, options.seeds))
            show(f"{title}, {images or 'no'} labelled images per class", figures, markdown=options.markdown)
    show_costs(clip.task(torch.arange(1000), 2), markdown=options.markdown)


class ClipVectors:
    """Vocabularies of ImageNet on stored vectors."""

    def __init__(self) -> None:
        self._names = read("imagenet-text", "embeddings")
        rows = read("imagenet-4shot", "features")[read("imagenet-4shot", "labels").argsort(stable=True)]
        self._images = rows.view(1000, 4, -1)
        self._far = {
            "SUN": vo.ImageFeatures(read("sun397-val", "features")),
            "Cars": vo.ImageFeatures(read("stanford-cars-val", "features")),
        }
        words = read("lvis-text", "embeddings").mean(dim=0)
        self._background = vo.Background(self._images[draw(50, 0), 0].mean(dim=0), words=words)

    def task(self, classes: torch.Tensor, images: int) -> vo.Task:
        """These classes, with so many labelled images each."""
        bank = vo.TextBank(tuple(map(str, classes.tolist())), self._names[classes])
        shown = labelled(list(self._images[classes, :images]))
        return vo.Task(bank, support=shown, background=self._background)

    def cases(self, images: int, seeds: int) -> Iterator[Case]:
        """Every vocabulary; the whole of ImageNet is one draw, which counts for every seed."""
        for count in VOCABULARIES:
            for seed in range(seeds if count < 1000 else 1):
                order = draw(1000, 1000 * count + seed) if count < 1000 else torch.arange(1000)
                known, others = order[:count], order[count:]
                ood = dict(self._far)
                if len(others):
                    ood["near"] = vo.ImageFeatures(self._images[others, 3])
                task, kept = self.task(known, images), vo.ImageFeatures(self._images[known, 3])
                for name, each in ood.items():
                    yield Case(f"{count}, {name}", seed, task, kept, each)


class Cifar:
    """CIFAR-10's photographs, encoded by `embedded`."""

    def __init__(self) -> None:
        encoder = vo.load_encoder("embedded")
        folders = sorted(each for each in (FOLDER.parent / "photos-cifar10").iterdir() if each.is_dir())
        self._names = vo.text_bank(encoder, [each.name for each in folders])
        self._images = [encode_files(encoder, sorted(each.iterdir())).features.pooled for each in folders]
        self._background = vo.background_of(encoder)

    def cases(self, images: int, seeds: int) -> Iterator[Case]:
        """Six classes against four; whatever the number of labelled images, the others are the same."""
        for seed in range(seeds):
            generator = torch.Generator().manual_seed(seed)
            order = torch.randperm(len(self._images), generator=generator).tolist()
            known, others = order[:KNOWN], order[KNOWN:]
            mixed = [self._images[row][torch.randperm(len(self._images[row]), generator=generator)] for row in known]
            shown = labelled([rows[:images] for rows in mixed])
            task = vo.Task(self._names.take(known), support=shown, background=self._background)
            kept = vo.ImageFeatures(torch.cat([rows[max(CIFAR_IMAGES) :] for rows in mixed]))
            yield Case("6", seed, task, kept, vo.ImageFeatures(torch.cat([self._images[row] for row in others])))


def labelled(images: Sequence[torch.Tensor]) -> vo.Support | None:
    """The images of each class in turn; None where there are none."""
    if not len(images[0]):
        return None
    labels = torch.arange(len(images)).repeat_interleave(len(images[0]))
    return vo.Support(vo.ImageFeatures(torch.cat(list(images))), labels)


def fitted_to(task: vo.Task) -> dict[str, FittedDetector[Any]]:
    """Every method that this task allows and that reads pooled vectors alone."""
    made = {}
    for name in vo.detector_names():
        known = registry.get(name)
        if known.outputs.local or any(getattr(task, part) is None for part in known.needs):
            continue
        try:
            made[name] = vo.create_detector(name).fit(task)
        except TaskError:
            continue  # too few images
    return made


def measured(cases: Iterator[Case]) -> Figures:
    """The AUROC of every method that every case allows."""
    found: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    task, fitted = None, dict[str, FittedDetector[Any]]()
    for case in cases:
        if case.task is not task:
            task, fitted = case.task, fitted_to(case.task)
        for name, detector in fitted.items():
            figure = vo.metrics.auroc(detector.score(case.id_images), detector.score(case.ood_images))
            found[name][case.column][case.seed] = figure
    most = max(len(columns) for columns in found.values())
    return {name: columns for name, columns in found.items() if len(columns) == most}


def show(title: str, figures: Figures, *, markdown: bool) -> None:
    """Methods in rows, the smallest worst distance first."""
    columns = list(next(iter(figures.values())))
    means = {name: {column: mean_of(figures[name][column]) for column in columns} for name in figures}
    best = {column: max(means[name][column] for name in means) for column in columns}
    worst = {name: max(best[column] - means[name][column] for column in columns) for name in means}
    rows = []
    for name in sorted(means, key=lambda name: worst[name]):
        mean = float(np.mean(list(means[name].values())))
        spread = f"{mean:.3f} ± {interval(figures[name]):.3f}"
        rows.append([name, *(f"{means[name][column]:.3f}" for column in columns), spread, f"{worst[name]:.3f}"])
    printed(f"AUROC: {title}", ["method", *columns, "mean", "worst"], rows, markdown=markdown)


def mean_of(seeds: Mapping[int, float]) -> float:
    """The mean over the seeds."""
    return float(np.mean(list(seeds.values())))


def interval(columns: Mapping[str, Mapping[int, float]]) -> float:
    """Half of the 95 % interval, by Student's t over the seeds, of the mean over the columns that have several."""
    drawn = [list(seeds.values()) for seeds in columns.values() if len(seeds) > 1]
    per_seed = np.mean(drawn, axis=0) * len(drawn) / len(columns)  # columns of one draw don't vary
    return float(stats.t.ppf(0.975, len(per_seed) - 1) * per_seed.std(ddof=1) / len(per_seed) ** 0.5)


def show_costs(task: vo.Task, *, markdown: bool) -> None:
    """The time per image of every method, in turns with `mcm`, on one thread."""
    torch.set_num_threads(1)
    images = vo.ImageFeatures(torch.randn(COST_IMAGES, task.classes.dim, generator=torch.Generator().manual_seed(0)))
    fitted = fitted_to(task)
    names = sorted(fitted)
    seconds = dict(zip(names, in_turns([partial(fitted[name].score, images) for name in names], turns=6), strict=True))
    rows = [
        [name, f"{1e6 * seconds[name] / COST_IMAGES:.0f}", f"{seconds[name] / seconds['mcm']:.2f}"]
        for name in sorted(names, key=lambda name: seconds[name])
    ]
    count = len(task.classes)
    title = f"Cost: {count} classes, 2 labelled images each, batches of {COST_IMAGES}, one thread"
    printed(title, ["method", "µs per image", "times mcm"], rows, markdown=markdown)


def printed(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool) -> None:
    """A table on standard output."""
    if markdown:
        lines = ["| " + " | ".join(each) + " |" for each in [heads, ["---"] * len(heads), *rows]]
        print(f"\n{title}\n", *lines, sep="\n")
        return
    table = Table(*heads, title=title)
    for row in rows:
        table.add_row(*row)
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
