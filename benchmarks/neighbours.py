"""Nearest neighbours among a million labelled images: time per image and peak memory, against faiss.

    python -m benchmarks.neighbours [--rows 1000000] [--batch 64] [--k 10]

Each line is a process of its own, on one core. "before" is the memory with the vectors loaded, "more" what the search
adds to it at its peak, "found" the share of the true neighbours. Without `faiss-cpu` installed its lines are left out.
Its flat index is exact, as `knn` is; IVF looks at the vectors of 16 of 1024 cells.
"""

import argparse
import importlib
import importlib.util
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from vlm_ood.detectors.neighbours import largest_products

DIM: Final = 512
CENTRES: Final = 1000  # vectors lie in clusters, as the images of so many classes do
CELLS: Final = 1024  # of IVF
PROBED: Final = 16  # cells looked at
TRAINED: Final = 50_000  # vectors that the cells are made from
Search = Callable[[Tensor], Tensor]


def main() -> None:
    """One process per line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="labelled images")
    parser.add_argument("--batch", type=int, default=64, help="images in a call")
    parser.add_argument("--k", type=int, default=10, help="neighbours")
    parser.add_argument("--only", choices=SEARCHES, help="this line alone, as plain text")
    options = parser.parse_args()
    if options.only:
        print(*measured(SEARCHES[options.only], options.rows, options.batch, options.k), sep=";")
        return
    sizes = [f"--{key}={getattr(options, key)}" for key in ("rows", "batch", "k")]
    table = Table("search", "made in s", "ms per image", "before, MiB", "more, MiB", "found")
    for name in SEARCHES if importlib.util.find_spec("faiss") else ["knn"]:
        command = [sys.executable, "-m", "benchmarks.neighbours", "--only", name, *sizes]
        ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        table.add_row(name, *ran.stdout.strip().split(";"))
    Console().print(table)


def measured(make: Callable[[Tensor, int], Search], rows: int, batch: int, k: int) -> list[str]:
    """Seconds to prepare, ms per image (the best of three), MiB before and added, share of the neighbours found."""
    torch.set_num_threads(1)
    known, images = vectors(rows, seed=0), vectors(batch, seed=1)
    before, start = peak_mib(), time.perf_counter()
    search = make(known, k)
    made, seconds = time.perf_counter() - start, []
    for _ in range(3):
        start = time.perf_counter()
        found = search(images)
        seconds.append(time.perf_counter() - start)
    more = peak_mib() - before
    share = (found >= largest_products(images, known, k)[:, -1:] - 1e-5).float().mean().item()
    return [f"{made:.1f}", f"{1e3 * min(seconds) / batch:.1f}", f"{before:.0f}", f"{more:.0f}", f"{share:.1%}"]


def vectors(rows: int, seed: int) -> Tensor:
    """Unit vectors around common centres, made in place: a second copy would hide what a search takes."""
    centres = torch.randn(CENTRES, DIM, generator=torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(seed)
    found = torch.empty(rows, DIM)
    for block in torch.split(found, 10_000):
        own = torch.randn(block.shape, generator=draw) + centres[torch.randint(CENTRES, (len(block),), generator=draw)]
        block.copy_(own / own.norm(dim=1, keepdim=True))
    return found


def peak_mib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ours(known: Tensor, k: int) -> Search:
    """What `knn` does."""
    return lambda images: largest_products(images, known, k)


def flat(known: Tensor, k: int) -> Search:
    """Every pair, by faiss."""
    return by_faiss("Flat", known, k)


def cells(known: Tensor, k: int) -> Search:
    """The vectors of the nearest cells alone."""
    return by_faiss(f"IVF{CELLS},Flat", known, k, nprobe=PROBED)


def by_faiss(recipe: str, known: Tensor, k: int, **settings: int) -> Search:
    """An index of inner products."""
    faiss = importlib.import_module("faiss")
    faiss.omp_set_num_threads(1)
    index = faiss.index_factory(DIM, recipe, faiss.METRIC_INNER_PRODUCT)
    index.train(known[:TRAINED].numpy())
    index.add(known.numpy())
    for name, value in settings.items():
        setattr(index, name, value)
    return lambda images: torch.from_numpy(index.search(images.numpy(), k)[0])


SEARCHES: Final = {"knn": ours, "faiss, flat": flat, "faiss, IVF": cells}


if __name__ == "__main__":
    main()
