"""Which methods to evaluate: those named, or all that the task and the features allow."""

import json
import re
from typing import Any

from vlm_ood.detectors import Detector, create_detector, detector_names
from vlm_ood.encoders.outputs import Capability
from vlm_ood.errors import ParameterError, TaskError
from vlm_ood.types import Task, titles


def parse_method(given: str) -> Detector[Any]:
    """A detector from "mcm" or "mcm:temperature=0.5,other=[1,2]"; values are JSON where they can be, else strings.

    Raises:
        UnknownNameError: no such method.
        ParameterError: a parameter without "=", an unknown one, or one out of range.
    """
    name, _, settings = given.partition(":")
    parameters: dict[str, Any] = {}
    for setting in re.split(r",(?=\s*\w+\s*=)", settings) if settings else []:
        key, equals, value = (text.strip() for text in setting.partition("="))
        if not equals:
            raise ParameterError(f"{setting!r} in method {given!r} must be NAME=VALUE, as in mcm:temperature=0.5")
        try:
            parameters[key] = json.loads(value)
        except json.JSONDecodeError:
            parameters[key] = value
    return create_detector(name.strip(), **parameters)


def available_methods(
    task: Task, capabilities: frozenset[Capability] = frozenset()
) -> tuple[dict[str, Detector[Any]], dict[str, str]]:
    """Every registered method that the task and the features allow, and why the others are left out.

    Args:
        task: whose parts are looked at.
        capabilities: what there is beyond pooled features, of an encoder or of stored features.
    """
    methods, skipped = {}, {}
    for name in detector_names():
        try:
            detector = create_detector(name)
        except ParameterError as error:
            skipped[name] = str(error)
            continue
        missing = [part for part in detector.needs if getattr(task, part) is None]
        if missing:
            skipped[name] = f"needs {titles(missing)}"
        elif unseen := sorted(detector.outputs.needs - capabilities):
            skipped[name] = f"needs {' and '.join(unseen)}"
        elif len(task.classes) < detector.min_classes:
            skipped[name] = f"needs at least {detector.min_classes} classes"
        elif reason := _too_few_images(detector, task):
            skipped[name] = reason
        else:
            methods[name] = detector
    return methods, skipped


def _too_few_images(detector: Detector[Any], task: Task) -> str | None:
    try:
        detector.check_images(task)
    except TaskError as error:
        return str(error)
    return None
