"""Predicts how long a start takes, of the server or of a worker, from how long the last one took."""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

AT_LEAST_S: Final = 1.0
UNKNOWN_S: Final = 5.0  # told while no start has been seen
MOST_S: Final = 24 * 3600.0  # what the file may say
FILE_BYTES: Final = 32


def left_s(took_s: float, since_s: float) -> float:
    """Seconds until a start ends that began `since_s` ago, where the last one took `took_s`.

    A start that takes longer than the last one is predicted to take as much longer again, so that waits grow and a
    caller that keeps to them does not ask for ever.
    """
    return max(AT_LEAST_S, took_s - since_s if since_s < took_s else since_s - took_s)


class StartTime:
    """The start of the server: begins when this is made, and is remembered in a file when it ends.

    Args:
        file: has the seconds that the last start took; None to remember nothing.
        now: in seconds.
    """

    def __init__(self, file: Path | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._file, self._now, self._began = file, now, now()
        self._took_s = _read(file) if file is not None else None

    def left_s(self) -> float:
        """Seconds until the server is ready, as the last start predicts; a fixed time where none is known."""
        return UNKNOWN_S if self._took_s is None else left_s(self._took_s, self._now() - self._began)

    def end(self) -> None:
        """Remember how long the start took; where that can't be written, the next start knows less and no more."""
        if self._file is None:
            return
        new = self._file.with_suffix(".new")
        with suppress(OSError):
            new.write_text(f"{self._now() - self._began:.2f}\n", encoding="ascii")
            new.replace(self._file)


def _read(file: Path) -> float | None:
    """The seconds in the file; None where there are none."""
    try:
        with file.open("rb") as opened:
            took_s = float(opened.read(FILE_BYTES))
    except (OSError, ValueError):
        return None
    return took_s if math.isfinite(took_s) and 0 < took_s <= MOST_S else None
