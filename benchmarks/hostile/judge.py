"""Whether a server held its bounds during an attack."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.hostile.observer import Observed, victims_of
from benchmarks.hostile.phases import Bounds, Outcome

NEVER = ("500", "hang")  # what nobody may ever get


@dataclass(frozen=True)
class Report:
    """A phase that was run, or skipped.

    Args:
        name: of the phase.
        does: what it does.
        bounds: that it had.
        outcome: what the attacker saw.
        observed: what its victims saw.
        idle_mib: of all processes before the first attack.
        recovered_s: from the end of the attack until a victim was served.
        broken: every bound that did not hold.
        skipped: why it could not be run.
        seconds: that it took.
    """

    name: str
    does: str
    bounds: Bounds
    outcome: Outcome
    observed: Observed = field(default_factory=Observed)
    idle_mib: float = 0.0
    recovered_s: float = 0.0
    broken: tuple[str, ...] = ()
    skipped: str = ""
    seconds: float = 0.0


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many percent of the values don't exceed; 0 of nothing."""
    if not values:
        return 0.0
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def broken_bounds(
    bounds: Bounds, outcome: Outcome, observed: Observed, idle_mib: float, recovered_s: float
) -> tuple[str, ...]:
    """One line per bound that did not hold."""
    statuses = victims_of(observed)
    sent = sum(statuses.values())
    p99 = percentile([seconds for _, seconds in observed.victims], 99)
    grown = observed.peaks.get("all", 0.0) - idle_mib
    served = statuses["200"] / sent if sent else 0.0
    livez = max(observed.beats, default=math.inf)
    checks = [
        (livez > bounds.livez_s, f"/livez took {livez:.1f} s, more than {bounds.livez_s:g}"),
        (grown > bounds.grown_mib, f"memory grew by {grown:.0f} MiB, more than {bounds.grown_mib:g}"),
        (served < bounds.served, f"{statuses['200']} of {sent} victims were served, less than {bounds.served:.0%}"),
        (p99 > bounds.victims_p99_s, f"victims' p99 was {p99:.1f} s, more than {bounds.victims_p99_s:g}"),
        (
            recovered_s > bounds.recovers_s,
            f"a victim was served {recovered_s:.1f} s after the attack, more than {bounds.recovers_s:g}",
        ),
    ]
    never = [
        f"{who} got {count} times {status}"
        for who, counts in (("the attacker", outcome.answers), ("victims", statuses))
        for status, count in counts.items()
        if status.split()[0] in NEVER
    ]
    return (*(text for wrong, text in checks if wrong), *never, *outcome.broken)
