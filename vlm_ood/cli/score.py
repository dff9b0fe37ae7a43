"""`vlm-ood score`: scores images against class names; with a calibration it also decides which are OOD."""

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlm_ood.cli.common import (
    BankOption,
    ClassesOption,
    DeviceOption,
    JsonOption,
    MethodOption,
    NegativesOption,
    NoOption,
    ParameterOption,
    PrecisionOption,
    SupportOption,
    TemplatesOption,
    console,
    notes,
    print_json,
)
from vlm_ood.detectors import DEFAULT

if TYPE_CHECKING:
    from vlm_ood.results import ImageResult


def command(
    images: Annotated[list[str] | None, typer.Argument(help="Image files, or folders of them.")] = None,
    classes: ClassesOption = None,
    method: MethodOption = DEFAULT,
    parameters: ParameterOption = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            "-e",
            help="Name of the encoder; `vlm-ood encoders` lists the forms.",
            show_default="embedded; with --server the server's default",
        ),
    ] = None,
    templates: TemplatesOption = "single",
    features: Annotated[Path | None, typer.Option(help="Vectors instead of images: a safetensors file.")] = None,
    bank: BankOption = None,
    negatives: NegativesOption = None,
    no: NoOption = None,
    support: SupportOption = None,
    calibration: Annotated[Path | None, typer.Option(help="A file from `vlm-ood calibrate`.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many nearest classes to name.")] = 3,
    costs: Annotated[
        str | None,
        typer.Option(
            metavar="wrong=1,rejected=0.5",
            help="With --calibration: accept, abstain or reject each image by the costs of a wrong class, of an ID "
            "image turned away, and (accepted=...) of an OOD image accepted.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV on standard output.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report into this folder.")] = None,
    server: Annotated[
        str | None,
        typer.Option(
            help="Score on the vlm-ood server at this URL; its key is in VLM_OOD_API_KEY. Banks and labelled images "
            "are uploaded, which needs a key with the access `manage`; they stay on the server until they are deleted."
        ),
    ] = None,
) -> None:
    """Score images, or vectors, against class names; a higher score is more out of distribution (OOD).

    The exit status is 1 when some image could not be scored.
    """
    from vlm_ood.cli.scoring import ScoreRequest, score_locally
    from vlm_ood.cli.task_options import TaskOptions

    task = TaskOptions(
        classes=classes,
        bank=bank,
        templates=templates,
        encoder=encoder or "embedded",
        negatives=negatives,
        no=no,
        support=support,
        device=device,
        precision=precision,
    )
    request = ScoreRequest(
        images=tuple(images or ()),
        features=features,
        method=method,
        parameters=tuple(parameters or ()),
        task=task,
        calibration=calibration,
        top=top,
        costs=costs,
    )
    if server:
        from vlm_ood.cli.score_server import score_on_server

        scored = score_on_server(request, server, encoder)
    else:
        scored = score_locally(request)
    if report:
        from vlm_ood.report import write_score_report

        page = write_score_report(
            report, scored.results, scored.pictures, title="vlm-ood score", facts=scored.facts, note=scored.note
        )
        notes.print(f"report: {page}", markup=False, soft_wrap=True)
    if as_json:
        print_json({**scored.facts, "note": scored.note, "results": [asdict(result) for result in scored.results]})
    elif as_csv:
        sys.stdout.write(to_csv(scored.results))
    else:
        print_table(scored.results, scored.facts, scored.note)
    if any(result.error for result in scored.results):
        raise typer.Exit(1)


def to_csv(results: "Sequence[ImageResult]") -> str:
    """Format the results as CSV: a heading, then one line per image."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["image", "score", "decision", "threshold", "p_value", "class", "probability", "action", "error"])
    for result in results:
        best = result.classes[0] if result.classes else None
        row: list[Any] = [result.image, result.score, result.decision, result.threshold, result.p_value]
        writer.writerow([*row, best and best.name, best and best.probability, result.action, result.error])
    return out.getvalue()


def print_table(results: "Sequence[ImageResult]", facts: Mapping[str, str], note: str | None) -> None:
    """Print the results as a table with image, score, decision and nearest classes; the note on standard error."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(", ".join(f"{key} {value}" for key, value in facts.items())))
    table.add_column("image", overflow="fold")
    table.add_column("score", justify="right")
    table.add_column("decision")
    calibrated = any(result.p_value is not None for result in results)
    if calibrated:
        table.add_column("p-value", justify="right")
    acting = any(result.action for result in results)
    if acting:
        table.add_column("action")
    table.add_column("nearest classes", overflow="fold")
    negatives = any(result.negatives for result in results)
    if negatives:
        table.add_column("nearest negative words", overflow="fold")
    for result in results:
        if result.error:
            table.add_row(
                escape(result.image), "", "[yellow]error[/]", *([""] * (calibrated + acting)), escape(result.error)
            )
            continue
        cells = [escape(result.image), f"{result.score:.4f}", _decision(result)]
        if calibrated:
            cells.append("" if result.p_value is None else f"{result.p_value:.3f}")
        if acting:
            cells.append(result.action or "")
        cells.append(escape(", ".join(f"{near.name} {near.probability:.0%}" for near in result.classes)))
        if negatives:
            cells.append(escape(", ".join(near.name for near in result.negatives)))
        table.add_row(*cells)
    console.print(table)
    if note:
        notes.print(escape(note), soft_wrap=True)


def _decision(result: "ImageResult") -> str:
    return {"in": "[green]ID[/]", "out": "[bold red]OOD[/]", None: "-"}[result.decision]
