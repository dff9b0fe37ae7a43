"""What `vlm-ood score` and `vlm-ood calibrate` do between their options and their output."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_ood.calibration import Calibration
from vlm_ood.cli.common import open_encoder, progress_bar, read_classes, read_parameters
from vlm_ood.detectors import FittedDetector, create_detector
from vlm_ood.encoders.outputs import Outputs
from vlm_ood.errors import InputError, VlmOodError
from vlm_ood.images import find_images
from vlm_ood.io.vectors import load_bank, load_features
from vlm_ood.pipeline import encode_files
from vlm_ood.results import UNCALIBRATED, ImageResult, judge
from vlm_ood.text.bank import text_bank
from vlm_ood.types import ImageFeatures, Task, TextBank

if TYPE_CHECKING:
    from vlm_ood.encoders.base import Encoder


@dataclass(frozen=True)
class Request:
    """The options of `vlm-ood score`, as they were given."""

    images: tuple[str, ...] = ()
    classes: str | None = None
    method: str = "mcm"
    parameters: tuple[str, ...] = ()
    encoder: str = "embedded"
    templates: str = "single"
    features: Path | None = None
    bank: Path | None = None
    negatives: Path | None = None
    no: Path | None = None
    calibration: Path | None = None
    top: int = 3
    device: str = "auto"
    precision: str = "auto"


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

    if request.features or request.bank:
        raise InputError("--server scores pictures; --features and --bank are for scoring here")
    if request.calibration or request.negatives or request.no:
        raise InputError("--server takes no local files of vectors or scores: keep a detector there, see docs/api.md")
    files = picture_files(request.images)
    with Client(server, api_key=os.environ.get("VLM_OOD_API_KEY")) as client:
        answer = client.score(
            files,
            classes=read_classes(request.classes),
            method=request.method,
            parameters=read_parameters(list(request.parameters)),
            encoder=None if request.encoder == "embedded" else request.encoder,
            templates=request.templates,
            top=request.top,
        )
    facts = {"server": server, "method": request.method, "encoder": answer.encoder}
    return Scored(tuple(answer.results), dict(zip(map(str, files), files, strict=True)), facts, answer.note)


def prepare(request: Request) -> "tuple[FittedDetector[Any], Subject, Encoder | None]":
    """The fitted detector and what it is to score."""
    detector = create_detector(request.method, **read_parameters(list(request.parameters)))
    if request.features:
        return detector.fit(_task(request, None)), _stored(request), None
    if not request.images:
        raise InputError("nothing to score: name pictures or folders, or give --features FILE")
    encoder = open_encoder(request.encoder, request.device, request.precision)
    fitted = detector.fit(_task(request, encoder))
    return fitted, encode_pictures(encoder, picture_files(request.images), detector.outputs), encoder


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


def _stored(request: Request) -> Subject:
    if request.features is None:
        raise InputError("no feature file: give --features FILE")
    if request.images:
        raise InputError("give pictures or --features, not both")
    stored = load_features(request.features)
    return Subject(stored.names, stored.rows, stored.features, stored.errors, {})


def _task(request: Request, encoder: "Encoder | None") -> Task:
    classes = _classes(request, encoder)
    device = classes.embeddings.device
    return Task(
        classes=classes,
        negatives=load_bank(request.negatives).to(device) if request.negatives else None,
        no=load_bank(request.no).to(device) if request.no else None,
    )


def _classes(request: Request, encoder: "Encoder | None") -> TextBank:
    if request.bank:
        return load_bank(request.bank)
    names = read_classes(request.classes)
    if encoder is None:
        raise InputError("vectors need class vectors of the same encoder: give --bank FILE")
    with progress_bar("encoding class names", None) as advance:
        return text_bank(encoder, names, templates=request.templates, progress=advance)


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
