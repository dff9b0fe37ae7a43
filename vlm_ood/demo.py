"""The demo: scores the sample photographs of scikit-image and scikit-learn, so that it needs no download of images."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from vlm_ood.calibration import Calibration, calibrate
from vlm_ood.detectors import DEFAULT, FittedDetector
from vlm_ood.encoders.base import Encoder, Progress
from vlm_ood.errors import InputError
from vlm_ood.images import load_image
from vlm_ood.pipeline import encode_files
from vlm_ood.results import ImageResult, judge
from vlm_ood.tasks import Builder, DetectorSpec, TaskSpec, TemplateBank

KNOWN: Final[Mapping[str, str]] = {
    "cat": "skimage/chelsea.png",
    "cup of coffee": "skimage/coffee.png",
    "rocket": "skimage/rocket.jpg",
    "motorcycle": "skimage/motorcycle_left.png",
    "temple": "sklearn/china.jpg",
    "flower": "sklearn/flower.jpg",
}
UNKNOWN: Final = (
    "skimage/astronaut.png",
    "skimage/camera.png",
    "skimage/coins.png",
    "skimage/hubble_deep_field.jpg",
    "skimage/page.png",
    "skimage/moon.png",
    "skimage/brick.png",
    "skimage/grass.png",
    "skimage/retina.jpg",
    "skimage/horse.png",
)
CROPS: Final = 16  # per ID photograph
KEEP: Final = 0.95

CAVEAT: Final = (
    "There is only one photograph per class, so this threshold was calibrated on random crops of the same ID "
    "photographs; calibrate your own detector on ID images that you don't test it on."
)


@dataclass(frozen=True)
class Demo:
    """The result of the demo.

    Args:
        results: one per photograph.
        pictures: {name of a photograph: its file}.
        calibration: made from the crops.
    """

    results: tuple[ImageResult, ...]
    pictures: Mapping[str, Path]
    calibration: Calibration

    @property
    def summary(self) -> str:
        """One sentence with the number of correct decisions."""
        known = {Path(name).name for name in KNOWN.values()}
        kept = sum(result.decision == "in" for result in self.results if result.image in known)
        refused = sum(result.decision == "out" for result in self.results if result.image not in known)
        return (
            f"{kept} of {len(KNOWN)} in-distribution (ID) photographs were accepted and {refused} of {len(UNKNOWN)} "
            f"out-of-distribution (OOD) photographs were rejected. A threshold that keeps {KEEP:.0%} of the ID images "
            f"rejects one ID image in {1 / (1 - KEEP):.0f}."
        )


def run_demo(encoder: Encoder, progress: Progress | None = None) -> Demo:
    """Score every photograph against the classes of `KNOWN`, with a threshold from crops of the ID photographs.

    Args:
        encoder: any encoder of images and text.
        progress: called with the number of images done since the last call, `picture_count()` in all.

    Raises:
        InputError: the packages with the photographs are not installed, or are damaged.
    """
    pictures = {Path(name).name: _photograph(name) for name in (*KNOWN.values(), *UNKNOWN)}
    fitted = Builder(encoder).fit(DetectorSpec(DEFAULT, TaskSpec(TemplateBank(tuple(KNOWN)), encoder.name)))
    calibration = _calibrate(encoder, fitted, progress)
    encoded = encode_files(encoder, list(pictures.values()), progress=progress)
    if encoded.errors:
        raise InputError(
            f"sample photographs are damaged: {encoded.errors}; pip install --force-reinstall 'vlm-ood[demo]'"
        )
    results = judge(fitted, list(pictures), encoded.features, calibration=calibration, scale=encoder.scale)
    return Demo(tuple(results), pictures, calibration)


def picture_count() -> int:
    """Count the images that `run_demo` encodes, crops included."""
    return len(KNOWN) * (1 + CROPS) + len(UNKNOWN)


def _calibrate(encoder: Encoder, fitted: "FittedDetector[object]", progress: Progress | None) -> Calibration:
    generator = np.random.default_rng(0)
    crops = (crop for name in KNOWN.values() for crop in _crops(load_image(_photograph(name)), generator))
    return calibrate(fitted.score(encoder.encode_images(crops, progress=progress)), KEEP, fitted.digest)


def _crops(picture: Image.Image, generator: np.random.Generator) -> Iterator[Image.Image]:
    """Cut random rectangles of 50 to 100 % of the area; every second one is mirrored."""
    for number in range(CROPS):
        side = generator.uniform(0.5, 1.0) ** 0.5
        width, height = int(picture.width * side), int(picture.height * side)
        left = int(generator.integers(0, picture.width - width + 1))
        top = int(generator.integers(0, picture.height - height + 1))
        crop = picture.crop((left, top, left + width, top + height))
        yield crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if number % 2 else crop


def _photograph(name: str) -> Path:
    package, file = name.split("/")
    inside = {"skimage": "data", "sklearn": "datasets/images"}[package]
    try:
        path = Path(str(files(package))) / inside / file
    except ModuleNotFoundError:
        raise InputError("the demo's photographs are missing: pip install 'vlm-ood[demo]'") from None
    if not path.is_file():
        raise InputError(f"the demo's photograph {path} is missing: pip install --force-reinstall 'vlm-ood[demo]'")
    return path
