"""The engine: batches images and prompts of many callers onto supervised device workers. It knows nothing of HTTP."""

from service.engine.base import Engine
from service.engine.errors import DeadlineExceeded, Draining, EngineError, NotReady, QueueFull, WorkerLost
from service.engine.local import LocalEngine
from service.engine.records import EncodedImage, EncoderInfo, EncoderState, Head, HeadAnswer, QueueState, Timings
from service.engine.settings import EngineSettings
from service.engine.text_port import EngineText

__all__ = [
    "DeadlineExceeded",
    "Draining",
    "EncodedImage",
    "EncoderInfo",
    "EncoderState",
    "Engine",
    "EngineError",
    "EngineSettings",
    "EngineText",
    "Head",
    "HeadAnswer",
    "LocalEngine",
    "NotReady",
    "QueueFull",
    "QueueState",
    "Timings",
    "WorkerLost",
]
