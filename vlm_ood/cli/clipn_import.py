"""`vlm-ood clipn-import`: splits a released CLIPN checkpoint into an encoder and a no-tower."""

from pathlib import Path
from typing import Annotated

import typer

from vlm_ood.cli.common import notes


def command(
    checkpoint: Annotated[Path, typer.Argument(help="The authors' .pt file.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder to write encoder.safetensors and no_tower.safetensors into.")
    ],
    architecture: Annotated[str, typer.Option(help="open_clip's name: ViT-B-16, ViT-B-32, ViT-L-14.")] = "ViT-B-16",
    quick_gelu: Annotated[
        bool | None,
        typer.Option("--quick-gelu/--gelu", help="Activation used in training, where the file doesn't record it."),
    ] = None,
) -> None:
    """Split a released CLIPN checkpoint; unknown keys are an error, and no code in the file is run."""
    from vlm_ood.clipn import import_checkpoint

    with notes.status(f"reading {checkpoint} ..."):
        imported = import_checkpoint(checkpoint, architecture, out, quick_gelu=quick_gelu)
    notes.print(f"encoder: --encoder {architecture}={imported.encoder}", highlight=False, soft_wrap=True)
    notes.print(f"no-tower: --no-tower {imported.no_tower}", highlight=False, soft_wrap=True)
