"""What a phase is: an attack, the server that it needs, and the bounds that must hold while it lasts."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.hostile.target import Target


@dataclass(frozen=True)
class Bounds:
    """What must hold during an attack.

    Args:
        livez_s: until `/livez` answers 200, at worst.
        grown_mib: by which all processes together may grow over the idle server.
        served: share of the victims' requests that are answered 200.
        victims_p99_s: of the victims' requests.
        recovers_s: from the end of the attack until a victim is served.
    """

    livez_s: float = 1.0
    grown_mib: float = 1024.0
    served: float = 0.95
    victims_p99_s: float = 5.0
    recovers_s: float = 5.0


@dataclass(frozen=True)
class Needs:
    """The server that a phase needs.

    Args:
        settings: `VLM_OOD_*` variables.
        files: how many files it may have open.
        disk_mib: the size of a file system of its own for the data folder.
        fresh: no other phase may use the server before or after this one.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    files: int | None = None
    disk_mib: int | None = None
    fresh: bool = False


@dataclass(frozen=True)
class Outcome:
    """What an attack saw.

    Args:
        answers: how often each answer was given: a status, "hang" or "cut".
        broken: what the phase itself requires and was not so.
        notes: figures for the reader.
    """

    answers: "Counter[str]"
    broken: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class SkippedError(Exception):
    """The phase can't be run here; the message says why."""


Attack = Callable[[Target], Awaitable[Outcome]]


@dataclass(frozen=True)
class Phase:
    """A named attack; its docstring says what it does."""

    name: str
    attack: Attack
    bounds: Bounds
    needs: Needs
    limit_s: float

    @property
    def does(self) -> str:
        """One sentence."""
        return " ".join((self.attack.__doc__ or "").split())


PHASES: dict[str, Phase] = {}  # by name, in the order in which they run


def phase(
    name: str, bounds: Bounds | None = None, needs: Needs | None = None, limit_s: float = 60.0
) -> Callable[[Attack], Attack]:
    """Register an attack under a name; after `limit_s` it is a hang."""

    def register(attack: Attack) -> Attack:
        PHASES[name] = Phase(name, attack, bounds or Bounds(), needs or Needs(), limit_s)
        return attack

    return register
