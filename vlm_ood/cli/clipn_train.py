"""`vlm-ood clipn-train`: train a copy of a text tower to negate prompts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlm_ood.cli.common import (
    DeviceOption,
    EncoderOption,
    PrecisionOption,
    notes,
    open_encoder,
    progress_bar,
    read_precision,
)

if TYPE_CHECKING:
    from vlm_ood.clipn import Step


def command(
    data: Annotated[list[Path], typer.Argument(help="One .csv, .tsv or .jsonl table, or .tar shards or their folder.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder to write checkpoints and no_tower.safetensors into.")
    ],
    encoder: EncoderOption = "embedded",
    image: Annotated[str, typer.Option(help="The table's column with the path of the picture.")] = "image",
    caption: Annotated[str, typer.Option(help="The table's column with the caption.")] = "caption",
    epochs: Annotated[int, typer.Option(help="Passes over the pairs.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Pairs in a batch, over all processes.")] = 2048,
    learning_rate: Annotated[float, typer.Option(help="At the first step; a cosine brings it to 0.")] = 3e-4,
    weight_decay: Annotated[float, typer.Option(help="On matrices and learned contexts.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Of order, crops and choices.")] = 0,
    workers: Annotated[int, typer.Option(help="Threads of each process that decode pictures.")] = 4,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between two states on disk.")] = 500,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Train CLIPN's no-tower on images and captions. After an interruption, the same command continues.

    With several processes: torchrun --nproc-per-node 4 --no-python vlm-ood clipn-train ...
    """
    from vlm_ood.clipn import TrainingPlan, read_pairs, train
    from vlm_ood.clipn.group import process_group

    plan = TrainingPlan(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        precision=read_precision(precision),
        seed=seed,
        workers=workers,
        checkpoint_every=checkpoint_every,
    )
    pairs = read_pairs(data, image=image, caption=caption)
    with process_group(device) as (group, own_device):
        loaded = open_encoder(encoder, own_device, "fp32")
        if group.rank:
            train(loaded, pairs, plan, folder=out)
            return
        notes.print(f"{len(pairs)} pairs, {pairs.skipped} records without an image or a caption", highlight=False)
        with progress_bar("training", epochs * (len(pairs) // batch_size)) as advance:
            done: list[Step] = []

            def show(step: "Step") -> None:
                advance(step.step - (done.pop().step if done else 0))
                done.append(step)

            train(loaded, pairs, plan, folder=out, progress=show)
    if done:
        last = done[-1]
        notes.print(f"loss {last.loss:.4f} in the last batch; {last.broken} images could not be read", highlight=False)
    notes.print(f"no-tower: {out / 'no_tower.safetensors'}", highlight=False, soft_wrap=True)
