"""`vlm-ood clipn-bank`: the no-texts of some classes, for `vlm-ood score --method clipn --no FILE`."""

from pathlib import Path
from typing import Annotated

import typer

from vlm_ood.cli.common import (
    ClassesOption,
    DeviceOption,
    EncoderOption,
    PrecisionOption,
    TemplatesOption,
    notes,
    open_encoder,
    read_classes,
)


def command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the bank: a safetensors file.")],
    classes: ClassesOption = None,
    no_tower: Annotated[
        Path | None, typer.Option(help="From clipn-train or clipn-import; without one, sentences that negate.")
    ] = None,
    encoder: EncoderOption = "embedded",
    templates: TemplatesOption = "",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Write one no-text a class: from a no-tower, or without any training from sentences that negate.

    --templates: with a no-tower the affirmative ones that the classes are scored with, by default single; without one
    sentences that negate, by default clipn_no_training_free, beside which the classes take clipn_yes.
    """
    from vlm_ood.clipn import load_no_tower, no_bank, no_bank_from_templates
    from vlm_ood.io.vectors import save_bank

    names = read_classes(classes)
    loaded = open_encoder(encoder, device, precision)
    if no_tower is None:
        bank = no_bank_from_templates(loaded, names, templates=templates or "clipn_no_training_free")
    else:
        bank = no_bank(loaded, load_no_tower(no_tower, loaded), names, templates=templates or "single")
    save_bank(out, bank)
    notes.print(f"{len(bank)} no-texts in {out}", highlight=False, soft_wrap=True)
