"""Runs an evaluation: from the options of `vlm-ood evaluate` to the result that it prints."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlm_ood.cli.common import open_encoder, progress_bar, read_classes
from vlm_ood.cli.task_options import WORDING, FileSources, TaskOptions, build_task
from vlm_ood.detectors import Detector
from vlm_ood.encoders.outputs import PATCHES, POOLED, Outputs, capabilities_of, join_all
from vlm_ood.errors import InputError
from vlm_ood.evaluation import Evaluation, FeatureSet, Part, available_methods, evaluate, parse_method
from vlm_ood.evaluation.datasets import FileSet, named_path, read_id_set, read_ood_set
from vlm_ood.evaluation.features import encode_parts, feature_cache, stored_set
from vlm_ood.tasks import StoredBank, TaskSpec, check_methods

if TYPE_CHECKING:
    from vlm_ood.encoders.base import Encoder


@dataclass(frozen=True)
class EvaluationRequest:
    """The options of `vlm-ood evaluate` that describe the sets, the methods and the task."""

    id_path: Path | None = None
    ood: tuple[str, ...] = ()
    data_root: Path | None = None
    features: Path | None = None
    ood_features: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    task: TaskOptions = field(default_factory=TaskOptions)
    bootstrap: int = 0
    seed: int = 0
    cache: bool = True


@dataclass(frozen=True)
class Evaluated:
    """The result of an evaluation.

    Args:
        evaluation: scores and figures.
        facts: what the figures depend on, such as {"encoder": "embedded"}.
        pictures: {name of a set: {image: its file}}.
    """

    evaluation: Evaluation
    facts: Mapping[str, str]
    pictures: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)


def run(request: EvaluationRequest) -> Evaluated:
    """Load the encoder and the task, encode every image once, score with every method, and compare.

    Raises:
        InputError: options contradict each other, or input can't be used.
    """
    if request.features or request.ood_features:
        return _run_on_vectors(request)
    return _run_on_pictures(request)


def _run_on_vectors(request: EvaluationRequest) -> Evaluated:
    if request.id_path or request.ood:
        raise InputError("give images (--id, --ood) or vectors (--features, --ood-features), not both")
    if not (request.features and request.ood_features and request.task.bank):
        raise InputError("vectors need --features FILE, --ood-features [NAME=]FILE and --bank FILE")
    spec = request.task.spec(vectors=True)
    named = _named_methods(request, spec)
    task = build_task(spec, None)
    id_set = stored_set("ID", request.features)
    ood_sets = [stored_set(*named_path(given), labelled=False) for given in request.ood_features]
    held = [capabilities_of(part.features) for each in (id_set, *ood_sets) for part in each.parts]
    methods, skipped = (named, {}) if named else available_methods(task, frozenset.intersection(*held))
    evaluation = evaluate(
        methods, task, id_set, ood_sets, bootstrap=request.bootstrap, seed=request.seed, skipped=skipped
    )
    return Evaluated(evaluation, {"encoder": "vectors", "classes": str(len(task.classes))})


def _run_on_pictures(request: EvaluationRequest) -> Evaluated:
    if not (request.id_path and request.ood):
        raise InputError("nothing to evaluate: give --id PATH and --ood [NAME=]PATH, or --features and --ood-features")
    id_files, spec = _id_files(request, request.id_path)
    ood_files = [read_ood_set(each, request.data_root) for each in request.ood]
    named = _named_methods(request, spec)
    encoder = open_encoder(request.task.encoder, request.task.device, request.task.precision)
    encoder.require(join_all(detector.outputs for detector in named.values()))
    background = not named or any("background" in detector.uses for detector in named.values())
    task = build_task(spec, encoder, PATCHES if "patches" in encoder.capabilities else POOLED, background=background)
    methods, skipped = (named, {}) if named else available_methods(task, encoder.capabilities)
    outputs = join_all(detector.outputs for detector in methods.values())
    evaluation = evaluate(
        methods,
        task,
        FeatureSet(id_files.name, _parts(encoder, id_files, request, outputs)),
        [FeatureSet(each.name, _parts(encoder, each, request, outputs)) for each in ood_files],
        bootstrap=request.bootstrap,
        seed=request.seed,
        skipped=skipped,
    )
    facts = {"encoder": encoder.name, "templates": request.task.templates, "classes": str(len(task.classes))}
    pictures = {each.name: dict(zip(each.images, each.files, strict=True)) for each in (id_files, *ood_files)}
    return Evaluated(evaluation, facts, pictures)


def _id_files(request: EvaluationRequest, path: Path) -> tuple[FileSet, TaskSpec]:
    """List the ID images, and describe the task; without classes in the options they are the names of the folders."""
    options = request.task
    if options.bank is not None:
        spec = options.spec()
        files, _ = read_id_set(path, FileSources().bank(StoredBank(str(options.bank))).names, request.data_root)
        return files, spec
    given = read_classes(options.classes) if options.classes else None
    files, names = read_id_set(path, given, request.data_root)
    return files, options.spec(names)


def _named_methods(request: EvaluationRequest, spec: TaskSpec) -> dict[str, Detector[Any]]:
    """Create the methods that `--method` names; empty when it names none. Check them, or all, against the task."""
    methods = {given: parse_method(given) for given in request.methods}
    check_methods(list(methods.values()), spec, WORDING)
    return methods


def _parts(encoder: "Encoder", files: FileSet, request: EvaluationRequest, outputs: Outputs) -> Iterator[Part]:
    cache = feature_cache() if request.cache else None
    with progress_bar(f"encoding {files.name}", len(files)) as advance:
        yield from encode_parts(encoder, files, outputs, cache=cache, progress=advance)
