"""`vlm-ood clipn-import`: a released CLIPN checkpoint as an encoder and its no-tower."""

from pathlib import Path
from typing import Annotated

import typer

from vlm_ood.cli.common import notes


def command(
    checkpoint: Annotated[Path, typer.Argument(help="The authors' .pt file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of encoder.safetensors and no_tower.safetensors.")],
    architecture: Annotated[str, typer.Option(help="open_clip's name: ViT-B-16, ViT-B-32, ViT-L-14.")] = "ViT-B-16",
    quick_gelu: Annotated[
        bool | None,
        typer.Option("--quick-gelu/--gelu", help="The activation in training, for a file that doesn't record it."),
    ] = None,
) -> None:
    """Take a released CLIPN checkpoint apart; every key is accounted for and no code in it is run."""
    from vlm_ood.clipn import import_checkpoint

    with notes.status(f"reading {checkpoint} ..."):
        imported = import_checkpoint(checkpoint, architecture, out, quick_gelu=quick_gelu)
    notes.print(f"the encoder is --encoder {architecture}={imported.encoder}", highlight=False, soft_wrap=True)
    notes.print(f"its no-tower is {imported.no_tower}", highlight=False, soft_wrap=True)
