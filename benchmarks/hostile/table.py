"""Reports as a table for a terminal, as one for a document, and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table

from benchmarks.hostile.judge import Report, percentile
from benchmarks.hostile.observer import victims_of

COLUMNS = ("attack", "answers", "/livez, worst", "peak MiB", "grown", "victims", "p50", "p99", "verdict")
SHOWN = 5


def cells(report: Report) -> tuple[str, ...]:
    """One row of text; peak memory is that of server, worker and all other processes."""
    if report.skipped:
        return (report.name, "", "", "", "", "", "", "", f"skipped: {report.skipped}")
    if not report.observed.beats:
        return (report.name, "", "", "", "", "", "", "", "broken: " + "; ".join(report.broken))
    peaks, victims = report.observed.peaks, victims_of(report.observed)
    seconds = [taken for _, taken in report.observed.victims]
    return (
        report.name,
        counted(report.outcome.answers),
        f"{max(report.observed.beats):.2f} s",
        " + ".join(f"{peaks.get(name, 0):.0f}" for name in ("server", "worker", "others")),
        f"{peaks.get('all', 0) - report.idle_mib:+.0f}",
        counted(victims),
        f"{percentile(seconds, 50):.2f} s",
        f"{percentile(seconds, 99):.2f} s",
        "; ".join(("broken" if report.broken else "held", *report.outcome.notes)),
    )


def counted(counts: "dict[str, int]") -> str:
    """The commonest answers."""
    common = sorted(counts.items(), key=lambda item: -item[1])
    more = ", ..." if len(common) > SHOWN else ""
    return ", ".join(f"{count} x {status}" for status, count in common[:SHOWN]) + more


def table(reports: Sequence[Report], title: str) -> Table:
    """For a terminal."""
    drawn = Table(*COLUMNS, title=title)
    for report in reports:
        drawn.add_row(*cells(report), style="red" if report.broken else "dim" if report.skipped else None)
    return drawn


def markdown(reports: Sequence[Report]) -> str:
    """For a document."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *map(cells, reports)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def as_json(reports: Sequence[Report]) -> str:
    """Everything that was seen, every heartbeat and victim with it."""
    answers = [dict(report.outcome.answers) for report in reports]  # asdict counts the pairs of a Counter
    plain = [asdict(report) for report in reports]
    for each, counts in zip(plain, answers, strict=True):
        each["outcome"]["answers"] = counts
    return json.dumps(plain, indent=1)
