"""What `vlm-ood score` and `vlm-ood calibrate` do between their options and their output."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_ood.calibration import Calibration
from vlm_ood.cli.common import open_encoder, progress_bar, read_classes, read_parameters
from vlm_ood.cli.task_options import WORDING, TaskOptions, build_task
from vlm_ood.detectors import FittedDetector
from vlm_ood.encoders.outputs import Outputs
from vlm_ood.errors import InputError, VlmOodError
from vlm_ood.images import find_images
from vlm_ood.io.vectors import load_features
from vlm_ood.pipeline import encode_files
from vlm_ood.results import UNCALIBRATED, ImageResult, judge
from vlm_ood.tasks import DetectorSpec, check
from vlm_ood.types import ImageFeatures

if TYPE_CHECKING:
    from vlm_ood.encoders.base import Encoder


@dataclass(frozen=True)
class Request:
    """What is scored, by which method, over which task."""

    images: tuple[str, ...] = ()
    features: Path | None = None
    method: str = "mcm"
    parameters: tuple[str, ...] = ()
    task: TaskOptions = field(default_factory=TaskOptions)
    calibration: Path | None = None
    top: int = 3


@dataclass(frozen=True)
class Scored:
    """Answers in the order of the images, and what to say about them."""

    results: tuple[ImageResult, ...]
    pictures: Mapping[str, Path]
    facts: Mapping[str, str]
    note: str | None


@dataclass(frozen=True, eq=False)
class Subject:
    """What is scored: all names, features of the usable rows, errors of the others, pictures where there are any."""

    names: tuple[str, ...]
    rows: tuple[int, ...]
    features: ImageFeatures
    errors: Mapping[int, VlmOodError]
    pictures: Mapping[str, Path]


def score_here(request: Request) -> Scored:
    """Load what is needed, encode, score, decide."""
    fitted, subject, encoder = prepare(request)
    calibration = Calibration.load(request.calibration) if request.calibration else None
    usable = [subject.names[row] for row in subject.rows]
    scale = encoder.scale if encoder else 100.0
    judged = judge(fitted, usable, subject.features, calibration=calibration, top=request.top, scale=scale)
    by_row: dict[int, ImageResult] = dict(zip(subject.rows, judged, strict=True))
    by_row |= {row: ImageResult(subject.names[row], error=str(error)) for row, error in subject.errors.items()}
    return Scored(
        results=tuple(by_row[row] for row in sorted(by_row)),
        pictures=subject.pictures,
        facts={
            "method": request.method,
            "encoder": encoder.name if encoder else "vectors",
            "classes": str(len(fitted.task.classes)),
        },
        note=_note(judged, encoder),
    )


def score_there(request: Request, server: str) -> Scored:
    """Let a server score the images; the key, if it wants one, is `$VLM_OOD_API_KEY`."""
    from vlm_ood.client import Client

    task = request.task
    if request.features or task.bank:
        raise InputError("--server scores pictures; --features and --bank are for scoring here")
    if request.calibration or task.negatives or task.no or task.support:
        raise InputError("--server takes no local files of vectors or scores: keep a detector there, see docs/api.md")
    files = picture_files(request.images)
    with Client(server, api_key=os.environ.get("VLM_OOD_API_KEY")) as client:
        answer = client.score(
            files,
            classes=read_classes(task.classes),
            method=request.method,
            parameters=read_parameters(list(request.parameters)),
            encoder=None if task.encoder == "embedded" else task.encoder,
            templates=task.templates,
            top=request.top,
        )
    facts = {"server": server, "method": request.method, "encoder": answer.encoder}
    return Scored(tuple(answer.results), dict(zip(map(str, files), files, strict=True)), facts, answer.note)


def prepare(request: Request) -> "tuple[FittedDetector[Any], Subject, Encoder | None]":
    """The fitted detector and what it is to score; options and files are checked before the encoder is loaded."""
    spec = DetectorSpec(
        request.method,
        request.task.spec(vectors=request.features is not None),
        read_parameters(list(request.parameters)),
    )
    check(spec, WORDING)
    if request.features:
        subject = _stored(request.features, request.images)
        return spec.detector.fit(build_task(spec.task, None)), subject, None
    files = picture_files(request.images)
    if not files:
        raise InputError("nothing to score: name pictures or folders, or give --features FILE")
    encoder = open_encoder(request.task.encoder, request.task.device, request.task.precision)
    outputs = spec.detector.outputs
    encoder.require(outputs)
    fitted = spec.detector.fit(build_task(spec.task, encoder, outputs))
    return fitted, encode_pictures(encoder, files, outputs), encoder


def encode_pictures(encoder: "Encoder", files: list[Path], outputs: Outputs) -> Subject:
    """The pictures' features, under a progress bar."""
    with progress_bar("encoding", len(files)) as advance:
        encoded = encode_files(encoder, files, outputs, progress=advance)
    pictures = {str(file): file for file in files}
    return Subject(tuple(map(str, files)), encoded.rows, encoded.features, encoded.errors, pictures)


def picture_files(given: tuple[str, ...]) -> list[Path]:
    """The files, and for a folder every picture below it; each once, in the order given.

    Raises:
        InputError: a folder without pictures.
    """
    files: list[Path] = []
    for name in given:
        if not Path(name).is_dir():
            files.append(Path(name))
            continue
        found = list(find_images(name))
        if not found:
            raise InputError(f"no pictures below {name}")
        files += found
    return list(dict.fromkeys(files))


def _stored(features: Path, images: tuple[str, ...]) -> Subject:
    if images:
        raise InputError("give pictures or --features, not both")
    stored = load_features(features)
    return Subject(stored.names, stored.rows, stored.features, stored.errors, {})


def _note(judged: list[ImageResult], encoder: "Encoder | None") -> str | None:
    sentences = []
    if any(result.decision is None for result in judged):
        sentences.append(f"{UNCALIBRATED.capitalize()} (vlm-ood calibrate).")
    if encoder is not None and encoder.name == "embedded":
        sentences.append(
            "The embedded encoder is not CLIP: it sees what resembles ImageNet's classes; "
            "--encoder ViT-B-16/openai loads a real one."
        )
    return " ".join(sentences) or None
