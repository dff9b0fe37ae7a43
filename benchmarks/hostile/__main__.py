"""Attacks a server of its own in many ways and fails when it doesn't hold its bounds.

    python -m benchmarks.hostile --all
    python -m benchmarks.hostile --phase pictures --phase bodies.trailers
    python -m benchmarks.hostile --phase mixed --requests 100000 --share 0.05

The server listens on all addresses of this machine, with keys: limits per address are for clients that aren't on
loopback, so the attacker isn't. The bounds of a phase are: until `/livez` answers (one second), by how much the memory
of all processes grows, and that valid requests of two other tenants are served: none answered 500, none unanswered.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.hostile import addresses, bodies, connections, mixed, pictures, processes, storage, tenants
from benchmarks.hostile.judge import Report
from benchmarks.hostile.phases import PHASES, Phase
from benchmarks.hostile.runner import Runner
from benchmarks.hostile.table import as_json, markdown, table
from benchmarks.server import ROOT

FAMILIES = (pictures, bodies, connections, processes, storage, tenants, addresses, mixed)  # each registers its phases


def main(
    every: Annotated[bool, typer.Option("--all", help="Run every phase.")] = False,
    phase: Annotated[list[str] | None, typer.Option("--phase", help="A phase or a family; may be repeated.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show the phases and their bounds.")] = False,
    requests: Annotated[int, typer.Option("--requests", help="Of the mixed phase.")] = 10_000,
    share: Annotated[float, typer.Option("--share", help="Of harmful requests among them.")] = 0.05,
    encoder: Annotated[str, typer.Option("--encoder", help="What the server serves.")] = "embedded",
    server_tree: Annotated[Path, typer.Option("--server-tree", help="Run the server of another version.")] = ROOT,
    logs: Annotated[Path | None, typer.Option("--logs", help="A file for what the servers log.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="A file for everything that was seen.")] = None,
    markdown_file: Annotated[Path | None, typer.Option("--markdown", help="A file for the table.")] = None,
) -> None:
    """Attack, print a table, and exit with 1 when a bound is broken."""
    console = Console()
    if listed:
        console.print(listing(list(PHASES.values())))
        return
    chosen = list(PHASES.values()) if every else [found for name in phase or () for found in phases_named(name)]
    if not chosen:
        raise typer.BadParameter("nothing to run: give --all, --phase NAME or --list")
    runner = Runner(encoder, server_tree.resolve(), requests, share, console.print, logs)
    reports: list[Report] = []
    for report in runner.run(chosen):
        reports.append(report)
        if json_file is not None:
            json_file.write_text(as_json(reports))
        if markdown_file is not None:
            markdown_file.write_text(markdown(reports) + "\n")
    console.print(table(reports, f"attacks on a server of {encoder}"))
    raise typer.Exit(any(report.broken for report in reports))


def phases_named(name: str) -> list[Phase]:
    """The phase of this name, or all of the family."""
    found = [phase for key, phase in PHASES.items() if name in (key, key.partition(".")[0])]
    if not found:
        raise typer.BadParameter(f"there is no phase {name!r}: see --list")
    return found


def listing(phases: list[Phase]) -> Table:
    """What each phase does, and its bounds."""
    drawn = Table("phase", "what it does", "/livez", "grown MiB", "served", "p99", "recovers")
    for each in phases:
        bounds = each.bounds
        drawn.add_row(
            each.name,
            each.does,
            f"{bounds.livez_s:g} s",
            f"{bounds.grown_mib:g}",
            f"{bounds.served:.0%}",
            f"{bounds.victims_p99_s:g} s",
            f"{bounds.recovers_s:g} s",
        )
    return drawn


if __name__ == "__main__":
    typer.run(main)
