"""`vlm-ood calibrate`: chooses a threshold from the scores of in-distribution (ID) images."""

from pathlib import Path
from typing import Annotated

import typer

from vlm_ood.cli.common import (
    BankOption,
    ClassesOption,
    DeviceOption,
    EncoderOption,
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


def command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the calibration (JSON).")],
    images: Annotated[
        list[str] | None, typer.Argument(help="Files of in-distribution (ID) images, or folders of them.")
    ] = None,
    classes: ClassesOption = None,
    keep: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of ID images to accept.")] = 0.95,
    rule: Annotated[
        str,
        typer.Option(
            help="conformal: with a finite-sample guarantee; empirical: without one; "
            "auto: conformal where there are enough images."
        ),
    ] = "auto",
    method: MethodOption = DEFAULT,
    parameters: ParameterOption = None,
    encoder: EncoderOption = "embedded",
    templates: TemplatesOption = "single",
    features: Annotated[Path | None, typer.Option(help="Vectors instead of images: a safetensors file.")] = None,
    bank: BankOption = None,
    negatives: NegativesOption = None,
    no: NoOption = None,
    support: SupportOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Choose a threshold from in-distribution (ID) images; no out-of-distribution images are needed."""
    from vlm_ood.calibration import AUTO, Calibration, check_rule, needed_images
    from vlm_ood.cli.scoring import ScoreRequest, prepare
    from vlm_ood.cli.task_options import TaskOptions
    from vlm_ood.errors import ImageError

    if rule != AUTO:
        check_rule(rule)
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
    request = ScoreRequest(
        images=tuple(images or ()),
        features=features,
        method=method,
        parameters=tuple(parameters or ()),
        task=task,
    )
    fitted, given, _ = prepare(request)
    for row, error in given.errors.items():
        notes.print(f"left out {given.names[row]}: {error}", markup=False, soft_wrap=True)
    if not len(given.features):
        raise ImageError("no image could be read: give at least one readable ID image")
    calibration = Calibration.of(fitted.score(given.features), keep, fitted.digest, rule=rule)
    calibration.save(out)
    if calibration.note:
        notes.print(f"warning: {calibration.note}", markup=False, soft_wrap=True, highlight=False)
    low, high = calibration.coverage_interval(0.9)
    facts = {
        "images": calibration.n,
        "threshold": calibration.threshold,
        "tolerance": calibration.tolerance,
        "keep": keep,
        "rule": calibration.rule,
        "kept share, 90 % interval": [low, high],
        "images needed for the guarantee": needed_images(keep),
        "note": calibration.note or None,
        "file": str(out),
    }
    if as_json:
        print_json(facts)
        return
    console.print(
        f"threshold {calibration.threshold:.6g} from {calibration.n} images by the {calibration.rule} rule; between "
        f"{low:.1%} and {high:.1%} of new ID images will be accepted (90 % interval). Wrote {out}",
        markup=False,
        soft_wrap=True,
        highlight=False,
    )
