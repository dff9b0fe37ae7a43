"""`vlm-ood evaluate`: compares how well methods separate known ID images from known OOD images."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm_ood.cli.common import (
    BankOption,
    ClassesOption,
    DeviceOption,
    EncoderOption,
    JsonOption,
    NegativesOption,
    NoOption,
    PrecisionOption,
    SupportOption,
    TemplatesOption,
    console,
    notes,
    print_json,
)

if TYPE_CHECKING:
    from rich.table import Table

    from vlm_ood.evaluation import Comparison, Evaluation


def command(
    id_path: Annotated[
        Path | None,
        typer.Option("--id", help="In-distribution (ID) images: a folder with a subfolder per class, or a list file."),
    ] = None,
    ood: Annotated[
        list[str] | None,
        typer.Option(help="Out-of-distribution (OOD) images, [NAME=]PATH: a folder or a list file; may be repeated."),
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder that the paths in list files are relative to.")] = None,
    features: Annotated[
        Path | None, typer.Option(help="Vectors of ID images instead of --id: a safetensors file.")
    ] = None,
    ood_features: Annotated[
        list[str] | None,
        typer.Option(help="Vectors of OOD images instead of --ood, [NAME=]FILE; may be repeated."),
    ] = None,
    bank: BankOption = None,
    classes: ClassesOption = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-m",
            help="NAME or NAME:PARAMETER=VALUE,...; may be repeated. By default every method that the options allow.",
        ),
    ] = None,
    encoder: EncoderOption = "embedded",
    templates: TemplatesOption = "single",
    negatives: NegativesOption = None,
    no: NoOption = None,
    support: SupportOption = None,
    bootstrap: Annotated[
        int, typer.Option(min=0, help="Number of bootstrap resamplings for 95 % intervals; 0 for no intervals.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="For the resampling.")] = 0,
    cache: Annotated[bool, typer.Option(help="Keep features on disk for the next run.")] = True,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV on standard output.")] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Write an HTML report, results.json, results.csv and scores.csv into this folder."),
    ] = None,
) -> None:
    """Compare methods on known ID and OOD images. Images that can't be read are counted and left out."""
    from vlm_ood.cli.evaluating import EvaluationRequest, run
    from vlm_ood.cli.task_options import TaskOptions
    from vlm_ood.evaluation.export import to_csv, to_plain

    task = TaskOptions(
        classes=classes,
        bank=bank,
        templates=templates,
        encoder=encoder,
        negatives=negatives,
        no=no,
        support=support,
        device=device,
        precision=precision,
    )
    request = EvaluationRequest(
        id_path=id_path,
        ood=tuple(ood or ()),
        data_root=data_root,
        features=features,
        ood_features=tuple(ood_features or ()),
        methods=tuple(method or ()),
        task=task,
        bootstrap=bootstrap,
        seed=seed,
        cache=cache,
    )
    done = run(request)
    if report:
        page = write_report(report, done.evaluation, done.facts, done.pictures)
        notes.print(f"report: {page}", markup=False, soft_wrap=True)
    if as_json:
        print_json(to_plain(done.evaluation, done.facts))
    elif as_csv:
        sys.stdout.write(to_csv(done.evaluation))
    else:
        print_tables(done.evaluation, done.facts)


def write_report(
    folder: Path,
    evaluation: "Evaluation",
    facts: Mapping[str, str],
    pictures: Mapping[str, Mapping[str, Path]],
) -> Path:
    """Write the HTML page and, beside it, results.json, results.csv and the score of every image in scores.csv.

    Returns:
        The path of the page.

    Raises:
        StorageError: a file can't be written.
    """
    from vlm_ood.evaluation.export import scores_csv, to_csv, to_plain
    from vlm_ood.io.files import write_bytes
    from vlm_ood.report import write_evaluation_report

    plain = json.dumps(to_plain(evaluation, facts), indent=2, ensure_ascii=False, allow_nan=False)
    beside = {"results.json": plain, "results.csv": to_csv(evaluation), "scores.csv": scores_csv(evaluation)}
    for name, text in beside.items():
        write_bytes(folder / name, text.encode("utf-8", "replace"))
    return write_evaluation_report(folder, evaluation, pictures, title="vlm-ood evaluate", facts=facts)


def print_tables(evaluation: "Evaluation", facts: Mapping[str, str]) -> None:
    """Print the comparison as a table, and what was left out on standard error."""
    from rich.markup import escape

    console.print(_table(evaluation, ", ".join(f"{key} {value}" for key, value in facts.items())))
    if evaluation.accuracy is not None:
        console.print(f"ID accuracy {_share(evaluation.accuracy)} %", highlight=False)
    for each in (evaluation.id_set, *evaluation.ood_sets):
        if each.errors:
            notes.print(f"{escape(each.name)}: {len(each.errors)} images left out", style="yellow")
            for image, why in list(each.errors.items())[:5]:
                notes.print(f"  {escape(image)}: {escape(why)}", soft_wrap=True, highlight=False)
            if len(each.errors) > 5:
                notes.print(f"  and {len(each.errors) - 5} more: see --json or --report", highlight=False)
    for name, why in evaluation.skipped.items():
        notes.print(f"{escape(name)} skipped: {escape(why)}", style="dim", soft_wrap=True, highlight=False)


def _table(evaluation: "Evaluation", title: str) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    id_set = evaluation.id_set
    table = Table(title=escape(title), caption="percent; ID is positive in FPR@95 and AUPR-in", caption_justify="left")
    table.add_column(f"ID {len(id_set)} images{_left_out(len(id_set.errors))}", overflow="fold")
    for heading in ("AUROC", "FPR@95", "AUPR-in", "AUPR-out"):
        table.add_column(heading, justify="right", no_wrap=True)
    for ood in evaluation.ood_sets:
        label = f"{escape(ood.name)} [dim]{len(ood)} images{_left_out(len(ood.errors))}[/]"
        _add_rows(table, label, [each for each in evaluation.comparisons if each.ood == ood.name])
    if len({each.ood for each in evaluation.comparisons}) > 1:
        _add_rows(table, "mean over the sets", evaluation.means())
    return table


def _add_rows(table: "Table", label: str, rows: "Sequence[Comparison]") -> None:
    from rich.markup import escape

    best = max((each.auroc for each in rows), default=0.0)
    table.add_row(f"[bold]{label}[/]")
    for each in rows:
        style = "green" if each.auroc == best and len(rows) > 1 else ""
        figures = [_figure(each, name) for name in ("auroc", "fpr_at_95_id", "aupr_in", "aupr_out")]
        table.add_row(f"  {escape(each.method)}", *figures, style=style)
    table.add_section()


def _figure(comparison: "Comparison", name: str) -> str:
    interval = comparison.intervals.get(name)
    around = f"\n[dim]{_share(interval.low)}–{_share(interval.high)}[/]" if interval else ""
    return _share(getattr(comparison, name)) + around


def _share(value: float) -> str:
    return f"{100 * value:.1f}"


def _left_out(errors: int) -> str:
    return f" (+{errors} broken)" if errors else ""
