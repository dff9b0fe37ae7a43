"""Everything that can go wrong, as one tree.

    VlmOodError
    ├── InputError            what the caller gave can't be used (also a ValueError)
    │   ├── ImageError        one image: unreadable, too large, wrong format
    │   ├── VectorError       one set of vectors: not finite, zero length, dimensions that don't agree
    │   ├── ClassNamesError   class names: none, empty, given twice, too few for the method
    │   ├── TemplateError     prompt templates: no placeholder, given twice, unknown
    │   ├── LexiconError      a word list: unreadable, too long, empty after cleaning
    │   ├── UnknownNameError  a method, encoder or option that is not registered
    │   ├── ParameterError    a hyper-parameter: unknown or out of its range
    │   └── TaskError         a method needs something that the task lacks
    ├── EncoderError          an encoder can't be made or can't do what was asked
    │   ├── CheckpointError   weights whose keys, shapes or activation don't fit the architecture
    │   ├── HubError          a hub that can't be reached or lacks the name
    │   └── CapabilityError   this architecture has no patches, no stages, ...
    ├── StorageError          a file that can't be written or that was damaged
    └── ServerError           a vlm-ood server that refused, failed, or could not be reached

A message names the value, the limit and the remedy.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class VlmOodError(Exception):
    """The root: `except VlmOodError` catches whatever this package raises on purpose."""


class InputError(VlmOodError, ValueError):
    """What the caller gave can't be used."""


class ImageError(InputError):
    """One image can't be used; the others of the same call still can."""


class VectorError(InputError):
    """Vectors that are not finite, have no length, or don't agree in dimension."""


class ClassNamesError(InputError):
    """Class names that are missing, empty, doubled, or too few for the method."""


class TemplateError(InputError):
    """Prompt templates without exactly one placeholder, given twice, or unknown."""


class LexiconError(InputError):
    """A word list that can't be read or has nothing left after cleaning."""


class UnknownNameError(InputError):
    """A name that is not registered.

    Args:
        kind: what the name is of: "encoder", "detector".
        name: as it was given.
        known: the names that there are.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        super().__init__(kind, name, self.known)  # what a copy in another process is made from

    def __str__(self) -> str:
        close = get_close_matches(self.name, self.known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        shown = ", ".join(self.known[:40]) + (f" and {len(self.known) - 40} more" if len(self.known) > 40 else "")
        return f"unknown {self.kind} {self.name!r}{hint} Known: {shown}."


class ParameterError(InputError):
    """A hyper-parameter that is unknown or out of its range."""


class TaskError(InputError):
    """A method needs something that the task lacks."""


class EncoderError(VlmOodError):
    """An encoder can't be made or can't do what was asked."""


class CheckpointError(EncoderError):
    """Weights whose keys, shapes or activation don't fit the architecture."""


class HubError(EncoderError):
    """A hub that can't be reached, or that lacks the name."""


class CapabilityError(EncoderError):
    """Something that this architecture can't give: patches, stages, gradients."""


class StorageError(VlmOodError):
    """A file that can't be written, or that was damaged."""


class ServerError(VlmOodError):
    """A vlm-ood server that refused, failed, or could not be reached.

    Args:
        status: of HTTP; None when no answer came.
        title: what kind of failure.
        detail: the value, the limit and the remedy.
        request_id: under which the server's log has more.
    """

    def __init__(self, status: int | None, title: str, detail: str, request_id: str | None = None) -> None:
        super().__init__(status, title, detail, request_id)
        self.status, self.title, self.detail, self.request_id = status, title, detail, request_id

    def __str__(self) -> str:
        code = "" if self.status is None else f"{self.status} "
        request = f" (request {self.request_id})" if self.request_id else ""
        return f"server: {code}{self.title}: {self.detail}{request}"


class CalibrationWarning(UserWarning):
    """A calibration of so few images that it guarantees nothing for new ones; the message says how many it takes."""
