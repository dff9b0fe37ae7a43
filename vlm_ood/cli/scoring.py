"""Runs the scoring: from the options of `vlm-ood score` and `vlm-ood calibrate` to scores and decisions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_ood.calibration import Calibration
from vlm_ood.cli.common import open_encoder, progress_bar, read_parameters
from vlm_ood.cli.task_options import WORDING, TaskOptions, build_task
from vlm_ood.detectors import DEFAULT, FittedDetector
from vlm_ood.encoders.outputs import Outputs
from vlm_ood.errors import InputError, VlmOodError
from vlm_ood.images import find_images
from vlm_ood.io.vectors import load_features
from vlm_ood.pipeline import encode_files
from vlm_ood.results import UNCALIBRATED, ImageResult, judge
from vlm_ood.selective import costs_from
from vlm_ood.tasks import DetectorSpec, check
from vlm_ood.types import ImageFeatures

if TYPE_CHECKING:
    from vlm_ood.encoders.base import Encoder


@dataclass(frozen=True)
class ScoreRequest:
    """The options that describe the images, the method, the task and the calibration."""

    images: tuple[str, ...] = ()
    features: Path | None = None
    method: str = DEFAULT
    parameters: tuple[str, ...] = ()
    task: TaskOptions = field(default_factory=TaskOptions)
    calibration: Path | None = None
    top: int = 3
    costs: str | None = None


@dataclass(frozen=True)
class Scored:
    """The results of a scoring.

    Args:
        results: one per image, in the order of the images.
        pictures: {image: its file}; empty for vectors.
        facts: what the scores depend on, such as {"method": "mcm"}.
        note: what a reader must know before using the results, or None.
    """

    results: tuple[ImageResult, ...]
    pictures: Mapping[str, Path]
    facts: Mapping[str, str]
    note: str | None


@dataclass(frozen=True, eq=False)
class ScoreInput:
    """The images to score, encoded.

    Args:
        names: one per image.
        rows: indices of the usable images, ascending.
        features: one row for each of them.
        errors: {index of another image: why it can't be used}.
        pictures: {image: its file}; empty for vectors.
    """

    names: tuple[str, ...]
    rows: tuple[int, ...]
    features: ImageFeatures
    errors: Mapping[int, VlmOodError]
    pictures: Mapping[str, Path]


def score_locally(request: ScoreRequest) -> Scored:
    """Load the encoder and the task, encode the images, score them, and decide where there is a calibration.

    Raises:
        InputError: options contradict each other, or input can't be used.
        TaskError: the calibration was made for another detector.
    """
    costs = costs_from(request.costs) if request.costs else None
    if costs is not None and request.calibration is None:
        raise InputError("--costs needs --calibration FILE, which says how usual a score is among ID images")
    calibration = Calibration.load(request.calibration) if request.calibration else None
    fitted, given, encoder = prepare(request)
    usable = [given.names[row] for row in given.rows]
    scale = encoder.scale if encoder else 100.0
    judged = judge(fitted, usable, given.features, calibration=calibration, top=request.top, scale=scale, costs=costs)
    by_row: dict[int, ImageResult] = dict(zip(given.rows, judged, strict=True))
    by_row |= {row: ImageResult(given.names[row], error=str(error)) for row, error in given.errors.items()}
    return Scored(
        results=tuple(by_row[row] for row in sorted(by_row)),
        pictures=given.pictures,
        facts={
            "method": request.method,
            "encoder": encoder.name if encoder else "vectors",
            "classes": str(len(fitted.task.classes)),
        },
        note=_note(judged, encoder),
    )


def prepare(request: ScoreRequest) -> "tuple[FittedDetector[Any], ScoreInput, Encoder | None]":
    """Fit the detector and encode the images; options and files are checked before the encoder is loaded.

    Returns:
        The fitted detector, the images, and the encoder, which is None for vectors.

    Raises:
        InputError: options contradict each other, or input can't be used.
    """
    spec = checked_spec(request)
    if request.features:
        stored = _stored(request.features, request.images)
        return spec.detector.fit(build_task(spec.task, None)), stored, None
    files = picture_files(request.images)
    if not files:
        raise InputError("nothing to score: name image files or folders, or give --features FILE")
    encoder = open_encoder(request.task.encoder, request.task.device, request.task.precision)
    outputs = spec.detector.outputs
    encoder.require(outputs)
    task = build_task(spec.task, encoder, outputs, background="background" in spec.detector.uses)
    fitted = spec.detector.fit(task)
    return fitted, encode_pictures(encoder, files, outputs), encoder


def checked_spec(request: ScoreRequest) -> DetectorSpec:
    """Describe the detector, and refuse what can't work; nothing but class names is read.

    Raises:
        InputError: options contradict each other, or a part is given that the method does not read, or lacks.
        FileNotFoundError: an option names no file.
    """
    task = request.task.spec(vectors=request.features is not None)
    spec = DetectorSpec(request.method, task, read_parameters(list(request.parameters)))
    check(spec, WORDING)
    return spec


def encode_pictures(encoder: "Encoder", files: list[Path], outputs: Outputs) -> ScoreInput:
    """Encode image files and show a progress bar meanwhile."""
    with progress_bar("encoding", len(files)) as advance:
        encoded = encode_files(encoder, files, outputs, progress=advance)
    pictures = {str(file): file for file in files}
    return ScoreInput(tuple(map(str, files)), encoded.rows, encoded.features, encoded.errors, pictures)


def picture_files(given: tuple[str, ...]) -> list[Path]:
    """Expand folders to every image file below them; each file once, in the order given.

    Raises:
        InputError: a folder has no image files.
    """
    files: list[Path] = []
    for name in given:
        if not Path(name).is_dir():
            files.append(Path(name))
            continue
        found = list(find_images(name))
        if not found:
            raise InputError(f"no image files below {name}")
        files += found
    return list(dict.fromkeys(files))


def _stored(features: Path, images: tuple[str, ...]) -> ScoreInput:
    if images:
        raise InputError("give image files or --features, not both")
    stored = load_features(features)
    return ScoreInput(stored.names, stored.rows, stored.features, stored.errors, {})


def _note(judged: list[ImageResult], encoder: "Encoder | None") -> str | None:
    sentences = []
    if any(result.decision is None for result in judged):
        sentences.append(f"{UNCALIBRATED.capitalize()} (see vlm-ood calibrate).")
    if encoder is not None and encoder.name == "embedded":
        sentences.append(
            "The embedded encoder is not CLIP: it recognises only what resembles the classes of ImageNet; "
            "--encoder ViT-B-16/openai loads a CLIP model."
        )
    return " ".join(sentences) or None
