"""`vlm-ood demo`: scores sample photographs that come with Python packages."""

from pathlib import Path
from typing import Annotated

import typer

from vlm_ood.cli.common import DeviceOption, EncoderOption, notes, open_encoder, progress_bar
from vlm_ood.cli.score import print_table
from vlm_ood.detectors import DEFAULT


def command(
    report: Annotated[Path, typer.Option(help="Folder to write the HTML report into.")] = Path("demo-report"),
    encoder: EncoderOption = "embedded",
    device: DeviceOption = "auto",
) -> None:
    """Score sample photographs against six class names and write an HTML report with the photographs."""
    from vlm_ood.demo import CAVEAT, KEEP, KNOWN, picture_count, run_demo
    from vlm_ood.report import write_score_report

    opened = open_encoder(encoder, device, "auto")
    with progress_bar("encoding", picture_count()) as advance:
        demo = run_demo(opened, advance)
    not_clip = "The embedded encoder is not CLIP. " if opened.name == "embedded" else ""
    note = f"{demo.summary} {not_clip}{CAVEAT}"
    facts = {
        "method": DEFAULT,
        "encoder": opened.name,
        "classes": ", ".join(KNOWN),
        "kept": f"{KEEP:.0%} of {demo.calibration.n} calibration images, by the {demo.calibration.rule} rule",
    }
    page = write_score_report(report, demo.results, demo.pictures, title="vlm-ood demo", facts=facts, note=note)
    print_table(demo.results, {"method": DEFAULT, "encoder": opened.name}, note)
    notes.print(f"\nreport: {page.resolve()}", markup=False, soft_wrap=True, highlight=False)
