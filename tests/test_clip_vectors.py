"""Real OpenAI CLIP ViT-B/32 vectors: the figures of shared/data/README.md, through public names."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

import vlm_ood as vo
from vlm_ood import metrics


@dataclass(frozen=True)
class World:
    """ImageNet as ID, and two OOD sets."""

    task: vo.Task
    id_images: vo.ImageFeatures
    id_labels: Tensor
    ood: dict[str, vo.ImageFeatures]


@pytest.fixture(scope="module")
def world(shared_data: Path) -> World:
    folder = shared_data / "clip-vit-b32-features"
    images = load_file(folder / "imagenet-4shot.safetensors")
    with safe_open(folder / "imagenet-text.safetensors", framework="pt") as file:
        bank = vo.TextBank(tuple(json.loads(file.metadata()["names"])), file.get_tensor("embeddings"))
    rows = images["labels"].argsort(stable=True).view(-1, 4)[:, 2:].flatten()  # rows 0 and 1 are support
    return World(
        task=vo.Task(classes=bank),
        id_images=vo.ImageFeatures(pooled=images["features"][rows]),
        id_labels=images["labels"][rows],
        ood={
            name: vo.ImageFeatures(pooled=load_file(folder / f"{name}-val.safetensors")["features"])
            for name in ("sun397", "stanford-cars")
        },
    )


def test_text_classifies_imagenet(world: World) -> None:
    cosine = world.id_images.pooled @ world.task.classes.embeddings.T
    assert round(metrics.accuracy(cosine.argmax(dim=1), world.id_labels), 3) == 0.623


# The README rounds to three decimals. On SUN397 its FPRs (0.718, 0.605, 0.626) lie up to eight of the 3970 images from
# what its definition gives on the stored fp16 vectors, where accepting one ID image more moves up to seven; ours are
# here, and the distance is bounded below.
FIGURES = [
    ("mcm", {"temperature": 1.0}, "sun397", 0.798, 0.716),
    ("max_cosine", {}, "sun397", 0.846, 0.603),
    ("energy", {"scale": 100.0}, "sun397", 0.852, 0.627),
    ("mcm", {"temperature": 1.0}, "stanford-cars", 0.670, 0.983),
    ("max_cosine", {}, "stanford-cars", 0.949, 0.298),
    ("energy", {"scale": 100.0}, "stanford-cars", 0.969, 0.180),
]


@pytest.mark.parametrize(("method", "parameters", "ood", "auroc", "fpr"), FIGURES)
def test_zero_shot_detectors_give_the_known_figures(
    world: World, method: str, parameters: dict[str, Any], ood: str, auroc: float, fpr: float
) -> None:
    id_scores, ood_scores = _scores(world, method, parameters, ood)
    assert metrics.auroc(id_scores, ood_scores) == pytest.approx(auroc, abs=5e-4)
    assert metrics.fpr_at_tpr(id_scores, ood_scores) == pytest.approx(fpr, abs=5e-4)


@pytest.mark.parametrize(
    ("method", "parameters", "fpr"),
    [("mcm", {"temperature": 1.0}, 0.718), ("max_cosine", {}, 0.605), ("energy", {"scale": 100.0}, 0.626)],
)
def test_the_noted_fprs_on_sun397_are_near(world: World, method: str, parameters: dict[str, Any], fpr: float) -> None:
    id_scores, ood_scores = _scores(world, method, parameters, "sun397")
    assert metrics.fpr_at_tpr(id_scores, ood_scores) == pytest.approx(fpr, abs=0.0025)


def test_real_scores_do_not_tie(world: World) -> None:
    id_scores, ood_scores = _scores(world, "mcm", {"temperature": 1.0}, "sun397")
    assert metrics.tie_share(id_scores, ood_scores) < 1e-5


def _scores(world: World, method: str, parameters: dict[str, Any], ood: str) -> tuple[Tensor, Tensor]:
    fitted = vo.create_detector(method, **parameters).fit(world.task)
    return fitted.score(world.id_images), fitted.score(world.ood[ood])
