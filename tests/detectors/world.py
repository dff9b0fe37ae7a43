"""Synthetic vectors with all parts of a Task, on which every method separates ID images from OOD images."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from vlm_ood.types import ImageFeatures, Support, Task, TextBank

DIM, CLASSES, NEGATIVES, SHOTS = 64, 6, 240, 8


@dataclass(frozen=True)
class World:
    """ID images lie near a class, OOD images near the negatives and the negated prompts."""

    task: Task
    id_images: ImageFeatures
    ood_images: ImageFeatures


def make_world(n: int = 64, seed: int = 0, dim: int = DIM) -> World:
    """A world of n ID images and n OOD images, each with 2 x 2 patches, in `dim` dimensions."""
    draw = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(dim, dim, generator=draw))[0]
    classes, other = axes[:CLASSES], axes[CLASSES]
    labels = torch.arange(n) % CLASSES
    shots = torch.arange(CLASSES * SHOTS) % CLASSES
    task = Task(
        classes=_bank("class", _near(classes, 0.2, draw)),
        negatives=_bank("negative", _near(other.expand(NEGATIVES, -1), 0.8, draw)),
        no=_bank("no", _near(other - 0.5 * classes, 0.2, draw)),
        support=Support(_images(classes[shots], other, draw), shots),
        background=_near(axes, 0.6, draw).mean(dim=0),
    )
    return World(task, _images(classes[labels], other, draw), _images(other.expand(n, -1), other, draw))


def parts_of(task: Task) -> tuple[TextBank, TextBank, Support]:
    """Negatives, negated prompts and support, which a world's task always has."""
    assert task.negatives is not None
    assert task.no is not None
    assert task.support is not None
    return task.negatives, task.no, task.support


def _bank(kind: str, rows: Float[Tensor, "k d"]) -> TextBank:
    return TextBank(tuple(f"{kind} {row}" for row in range(len(rows))), rows)


def _images(centres: Float[Tensor, "n d"], background: Float[Tensor, " d"], draw: torch.Generator) -> ImageFeatures:
    """Half of the patches show what the image is of, half the background."""
    places = torch.stack([centres, background.expand_as(centres)] * 2, dim=1)
    return ImageFeatures(_near(centres, 0.6, draw), _near(places, 0.6, draw), (2, 2))


def _near(centres: Float[Tensor, "*n d"], spread: float, draw: torch.Generator) -> Float[Tensor, "*n d"]:
    noise = torch.randn(centres.shape, generator=draw) / centres.shape[-1] ** 0.5
    return functional.normalize(functional.normalize(centres, dim=-1) + spread * noise, dim=-1)
