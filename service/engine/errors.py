"""What the engine refuses, and when to come back.

VlmOodError
└── EngineError
    ├── QueueFull         no room, or no chance to be done before the deadline
    ├── DeadlineExceeded  the deadline passed first
    ├── Draining          the engine is stopping
    ├── WorkerLost        the worker died under this work twice
    └── NotReady          no worker, or no encoder, is ready
"""
# ruff: noqa: N818 (these name what happened; "Error" would add nothing)

from vlm_ood.errors import VlmOodError


class EngineError(VlmOodError):
    """The root of errors of a whole request.

    Args:
        message: the value, the limit and the remedy.
        retry_after_s: seconds after which the same request has a chance; None when that can't be told.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(EngineError):
    """There is no room, or the wait ahead is longer than the deadline."""


class DeadlineExceeded(EngineError):
    """The deadline passed before the work was done."""


class Draining(EngineError):
    """The engine finishes what it has and takes nothing new."""


class WorkerLost(EngineError):
    """The worker process died under this work, and died again when it was tried alone."""


class NotReady(EngineError):
    """No worker or no encoder is ready."""
