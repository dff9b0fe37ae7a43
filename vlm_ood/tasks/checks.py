"""Refuses tasks that can't work before anything is loaded or encoded, in the words of the caller's interface."""

from collections.abc import Mapping, Sequence
from typing import Any

from vlm_ood.detectors import Detector, detector_names, registry
from vlm_ood.errors import TaskError
from vlm_ood.tasks.specs import DetectorSpec, TaskSpec
from vlm_ood.types import REMEDIES, titles


def check(spec: DetectorSpec, wording: Mapping[str, str] = REMEDIES) -> None:
    """Refuse a detector that can't work; arguments and errors as in `check_methods`."""
    check_methods([spec.detector], spec.task, wording)


def check_methods(detectors: Sequence[Detector[Any]], task: TaskSpec, wording: Mapping[str, str] = REMEDIES) -> None:
    """Refuse methods that can't work on one task, before anything is loaded or encoded.

    Args:
        detectors: the methods, not fitted; empty for every registered method that the task allows.
        task: what they will be fitted to.
        wording: {part: how the caller gives it}, a flag, a field or an argument for each of `PARTS`.

    Raises:
        TaskError: a method needs a part that is not given, or a part is given that no method reads.
        ClassNamesError: there are too few classes for a method.
    """
    for detector in detectors:
        missing = sorted(detector.needs - task.given)
        if missing:
            wanted = " and ".join(wording[part] for part in missing)
            raise TaskError(f"{detector.name} needs {titles(missing)}: give {wanted}")
        if task.names is not None:
            detector.check_classes(len(task.names))
    _check_read(detectors, task, wording)


def _check_read(detectors: Sequence[Detector[Any]], task: TaskSpec, wording: Mapping[str, str]) -> None:
    if not detectors:
        return  # every part is read by one of all methods
    for part in sorted(task.given.difference(*(detector.reads() for detector in detectors))):
        able = [name for name in detector_names() if part in registry.get(name).reads()]
        unread = f"{' and '.join(each.name for each in detectors)} {'does' if len(detectors) == 1 else 'do'} not read"
        raise TaskError(f"{unread} {titles([part])}: leave out {wording[part]}, or choose {' or '.join(able)}")
