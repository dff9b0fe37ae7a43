"""`vlm-ood clipn-bank`: writes a bank of negated prompts for `vlm-ood score --method clipn --no FILE`."""

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
        Path | None,
        typer.Option(help="A file from clipn-train or clipn-import; without it, templates that negate are used."),
    ] = None,
    encoder: EncoderOption = "embedded",
    templates: TemplatesOption = "",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Write a bank of negated prompts, one per class: from a no-tower, or without training from negating templates.

    With a no-tower, --templates are the affirmative templates with which the classes are scored (default: single).
    Without one, they are templates that negate (default: clipn_no_training_free); score the classes with clipn_yes.
    """
    from vlm_ood.io.vectors import save_bank
    from vlm_ood.tasks import BankSpec, Builder, NoTowerBank, TemplateBank

    names = tuple(read_classes(classes))
    spec: BankSpec = (
        TemplateBank(names, templates or "clipn_no_training_free")
        if no_tower is None
        else NoTowerBank(str(no_tower), templates or "single", names)
    )
    loaded = open_encoder(encoder, device, precision)
    bank = Builder(loaded).bank(spec)
    save_bank(out, bank, loaded.name)
    notes.print(f"wrote {len(bank)} negated prompts to {out}", highlight=False, soft_wrap=True)
