"""The synthetic world that the detectors' tests share, and real CLIP vectors where they lie beside the checkout."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import vlm_ood as vo
from tests.detectors.world import World, make_world


@pytest.fixture(scope="session")
def world() -> World:
    """ID images, OOD images, and a task with every part a method may need."""
    return make_world()


@pytest.fixture(scope="session")
def clip_vectors(shared_data: Path) -> dict[str, vo.ImageFeatures]:
    """CLIP ViT-B/32: ImageNet (2000 images, rows 2 and 3 of every class), SUN397 and Stanford Cars."""
    folder = shared_data / "clip-vit-b32-features"
    imagenet = read(folder / "imagenet-4shot.safetensors")[torch.arange(4000) % 4 >= 2]
    sun, cars = read(folder / "sun397-val.safetensors"), read(folder / "stanford-cars-val.safetensors")
    return {part: vo.ImageFeatures(rows) for part, rows in (("imagenet", imagenet), ("sun", sun), ("cars", cars))}


@pytest.fixture(scope="session")
def clip_support(shared_data: Path) -> vo.Support:
    """Two images of every ImageNet class, rows 0 and 1, which are not in `clip_vectors`."""
    file = shared_data / "clip-vit-b32-features" / "imagenet-4shot.safetensors"
    rows = torch.arange(4000) % 4 < 2
    return vo.Support(vo.ImageFeatures(read(file)[rows]), read(file, "labels")[rows])


@pytest.fixture(scope="session")
def imagenet(shared_data: Path) -> vo.TextBank:
    """The 1000 ImageNet names as CLIP ViT-B/32 reads them."""
    rows = read(shared_data / "clip-vit-b32-features" / "imagenet-text.safetensors", "embeddings")
    return vo.TextBank(tuple(f"class {row}" for row in range(len(rows))), rows)


def read(path: Path, key: str = "features") -> torch.Tensor:
    with safe_open(path, framework="pt") as file:
        tensor: torch.Tensor = file.get_tensor(key)
    return tensor
