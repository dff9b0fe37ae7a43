"""What `vlm-ood evaluate` does between its options and its output."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vlm_ood.cli.common import open_encoder, progress_bar, read_classes
from vlm_ood.detectors import Detector
from vlm_ood.encoders.outputs import Capability, Outputs, capabilities_of, join_all
from vlm_ood.errors import InputError
from vlm_ood.evaluation import Evaluation, FeatureSet, Part, available_methods, evaluate, parse_method
from vlm_ood.evaluation.datasets import FileSet, named_path, read_id_set, read_ood_set
from vlm_ood.evaluation.features import encode_parts, feature_cache, stored_set
from vlm_ood.io.vectors import load_bank, load_features
from vlm_ood.text.bank import text_bank
from vlm_ood.types import Support, Task, TextBank

if TYPE_CHECKING:
    from vlm_ood.encoders.base import Encoder


@dataclass(frozen=True)
class Request:
    """The options of `vlm-ood evaluate`, as they were given."""

    id_path: Path | None = None
    ood: tuple[str, ...] = ()
    data_root: Path | None = None
    features: Path | None = None
    ood_features: tuple[str, ...] = ()
    bank: Path | None = None
    classes: str | None = None
    methods: tuple[str, ...] = ()
    encoder: str = "embedded"
    templates: str = "single"
    negatives: Path | None = None
    no: Path | None = None
    support: Path | None = None
    bootstrap: int = 0
    seed: int = 0
    cache: bool = True
    device: str = "auto"
    precision: str = "auto"


@dataclass(frozen=True)
class Done:
    """The result, what it depends on, and the pictures of each set by image."""

    evaluation: Evaluation
    facts: Mapping[str, str]
    pictures: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)


def run(request: Request) -> Done:
    """Load what is needed, encode once, score with every method, compare.

    Raises:
        InputError: options that don't go together, or input that can't be used.
    """
    if request.features or request.ood_features:
        return _run_on_vectors(request)
    return _run_on_pictures(request)


def _run_on_vectors(request: Request) -> Done:
    if request.id_path or request.ood:
        raise InputError("give pictures (--id, --ood) or vectors (--features, --ood-features), not both")
    if not (request.features and request.ood_features and request.bank):
        raise InputError("vectors need --features FILE, --ood-features [NAME=]FILE and --bank FILE")
    task = _task(request, load_bank(request.bank))
    id_set = stored_set("ID", request.features)
    ood_sets = [stored_set(*named_path(given), labelled=False) for given in request.ood_features]
    held = [capabilities_of(part.features) for each in (id_set, *ood_sets) for part in each.parts]
    methods, skipped = _methods(request, task, frozenset.intersection(*held))
    evaluation = evaluate(
        methods, task, id_set, ood_sets, bootstrap=request.bootstrap, seed=request.seed, skipped=skipped
    )
    return Done(evaluation, {"encoder": "vectors", "classes": str(len(task.classes))})


def _run_on_pictures(request: Request) -> Done:
    if not (request.id_path and request.ood):
        raise InputError("nothing to evaluate: give --id PATH and --ood [NAME=]PATH, or --features and --ood-features")
    given = load_bank(request.bank) if request.bank else None
    names = given.names if given else (read_classes(request.classes) if request.classes else None)
    id_files, classes = read_id_set(request.id_path, names, request.data_root)
    ood_files = [read_ood_set(each, request.data_root) for each in request.ood]
    encoder = open_encoder(request.encoder, request.device, request.precision)
    task = _task(request, given or _encode_names(encoder, classes, request.templates))
    methods, skipped = _methods(request, task, encoder.capabilities)
    outputs = join_all(detector.outputs for detector in methods.values())
    encoder.require(outputs)
    evaluation = evaluate(
        methods,
        task,
        FeatureSet(id_files.name, _parts(encoder, id_files, outputs, request)),
        [FeatureSet(each.name, _parts(encoder, each, outputs, request)) for each in ood_files],
        bootstrap=request.bootstrap,
        seed=request.seed,
        skipped=skipped,
    )
    facts = {"encoder": encoder.name, "templates": request.templates, "classes": str(len(task.classes))}
    pictures = {each.name: dict(zip(each.images, each.files, strict=True)) for each in (id_files, *ood_files)}
    return Done(evaluation, facts, pictures)


def _parts(encoder: "Encoder", files: FileSet, outputs: Outputs, request: Request) -> Iterator[Part]:
    cache = feature_cache() if request.cache else None
    with progress_bar(f"encoding {files.name}", len(files)) as advance:
        yield from encode_parts(encoder, files, outputs, cache=cache, progress=advance)


def _encode_names(encoder: "Encoder", names: tuple[str, ...], templates: str) -> TextBank:
    with progress_bar("encoding class names", None) as advance:
        return text_bank(encoder, names, templates=templates, progress=advance)


def _methods(
    request: Request, task: Task, capabilities: frozenset[Capability]
) -> tuple[dict[str, Detector[Any]], dict[str, str]]:
    """Those named, or all that can run; a named one that can't is an error when it is fitted."""
    if request.methods:
        return {given: parse_method(given) for given in request.methods}, {}
    return available_methods(task, capabilities)


def _task(request: Request, classes: TextBank) -> Task:
    device = classes.embeddings.device
    return Task(
        classes=classes,
        negatives=load_bank(request.negatives).to(device) if request.negatives else None,
        no=load_bank(request.no).to(device) if request.no else None,
        support=_support(request.support, device) if request.support else None,
    )


def _support(path: Path, device: torch.device) -> Support:
    stored = load_features(path)
    if stored.labels is None:
        raise InputError(f"{path} has no tensor 'labels' (n,): few-shot images need a class each")
    return Support(stored.features.to(device), stored.labels.to(device))
