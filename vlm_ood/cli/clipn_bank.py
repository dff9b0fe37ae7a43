"""`vlm-ood clipn-bank`: a bank of negated prompts, for `vlm-ood score --method clipn --no FILE`."""

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
        Path | None, typer.Option(help="From clipn-train or clipn-import; without one, negating templates.")
    ] = None,
    encoder: EncoderOption = "embedded",
    templates: TemplatesOption = "",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Write a bank of negated prompts, one per class: from a no-tower, or without training from negating templates.

    --templates: with a no-tower the affirmative ones that the classes are scored with, by default single; without one
    templates that negate, by default clipn_no_training_free, with clipn_yes for the classes.
    """
    from vlm_ood.io.vectors import save_bank
    from vlm_ood.tasks import BankSpec, Builder, NoTowerBank, TemplateBank

    names = tuple(read_classes(classes))
    spec: BankSpec = (
        TemplateBank(names, templates or "clipn_no_training_free")
        if no_tower is None
        else NoTowerBank(str(no_tower), templates or "single", names)
    )
    bank = Builder(open_encoder(encoder, device, precision)).bank(spec)
    save_bank(out, bank)
    notes.print(f"{len(bank)} negated prompts in {out}", highlight=False, soft_wrap=True)
