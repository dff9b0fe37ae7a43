"""Detectors as heads: a method that reads more than pooled features runs in the worker, and only evidence leaves it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from service.caching.sizes import bytes_of
from service.engine.records import Head
from vlm_ood.detectors import Evidence, FittedDetector, create_detector, registry
from vlm_ood.detectors.base import MAX_NEGATIVES
from vlm_ood.encoders.outputs import Outputs
from vlm_ood.types import ImageFeatures


def detector_head(fitted: FittedDetector[Any]) -> Head:
    """The detector as a head; its answers are `Evidence` with up to `MAX_NEGATIVES` names per image.

    Another device learns the same state from the same task, so the task is what is sent.
    """
    detector = fitted.detector
    nbytes = bytes_of((fitted.task, fitted.state))
    parameters = registry.parameters(detector)
    return DetectorHead(fitted.digest, detector.outputs, nbytes, detector.name, parameters, packed(fitted.task))


@dataclass(frozen=True, eq=False)
class DetectorHead:
    """A method, its hyper-parameters, and the task as `packed` makes it."""

    digest: str
    outputs: Outputs
    nbytes: int
    method: str
    parameters: Mapping[str, Any]
    task: "Packed"

    def on(self, device: torch.device) -> Callable[[ImageFeatures], Evidence]:
        """Fit the detector on the device."""
        fitted = create_detector(self.method, **self.parameters).fit(unpacked(self.task, device))
        return lambda images: fitted.examine(images, MAX_NEGATIVES)


@dataclass(frozen=True, eq=False)
class Packed:
    """A record with NumPy arrays in the place of tensors, whose pickles would go through files of their own."""

    record: type
    parts: Mapping[str, Any]


def packed(value: Any) -> Any:
    """The value, with a `Packed` for each record and an array for each tensor in it."""
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, Mapping):
        return {key: packed(each) for key, each in value.items()}
    if is_dataclass(value):
        return Packed(type(value), {each.name: packed(getattr(value, each.name)) for each in fields(value)})
    return value


def unpacked(value: Any, device: torch.device) -> Any:
    """What `packed` was given, with its tensors on the device."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value).to(device)
    if isinstance(value, Mapping):
        return {key: unpacked(each, device) for key, each in value.items()}
    if isinstance(value, Packed):
        return value.record(**{name: unpacked(each, device) for name, each in value.parts.items()})
    return value
