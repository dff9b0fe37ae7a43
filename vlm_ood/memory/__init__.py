"""Detectors that adapt to the images they see, opt-in: one method, one file. The registry walks this folder."""

from typing import Any

from vlm_ood.detectors import FittedDetector
from vlm_ood.memory.base import MemoryMethod, register, registry
from vlm_ood.memory.session import Session


def adapting(fitted: FittedDetector[Any], method: str, /, **parameters: Any) -> Session:
    """A session whose scores depend on the images that it scored before; the fitted detector stays as it is.

        with vo.adapting(fitted, "oodd", capacity=256) as session:
            scores = session.score(images)

    Args:
        fitted: the detector that it starts from.
        method: "adaneg" or "oodd".
        parameters: of the method.

    Raises:
        UnknownNameError, ParameterError: no such method, or a parameter that it lacks or that is out of range.
        TaskError: a detector that the method can't start from.
    """
    return Session(fitted, registry.create(method, **parameters))


__all__ = ["MemoryMethod", "Session", "adapting", "register", "registry"]
