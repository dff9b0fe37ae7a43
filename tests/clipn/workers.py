"""What a process of a distributed test runs: a module of its own, since processes start from nothing."""

from pathlib import Path

import torch
from torch import Tensor, distributed

from tests.clipn.tiny import tiny_encoder
from vlm_ood.clipn import TrainingPlan, read_pairs, train
from vlm_ood.clipn.group import Group
from vlm_ood.clipn.pairs import Pairs
from vlm_ood.clipn.train import Trainer
from vlm_ood.encoders.clip import ClipEncoder
from vlm_ood.io.files import write_tensors

PLAN = TrainingPlan(epochs=2, batch_size=4, learning_rate=1e-3, precision="fp32", workers=1)


def first_gradients(encoder: ClipEncoder, pairs: Pairs, group: Group) -> dict[str, Tensor]:
    """Of the first batch, before the optimiser, which would hide a wrong factor.

    The learned contexts are moved first: where yes and no are equal, the slope of the loss magnifies rounding.
    """
    trainer = Trainer(encoder, pairs, PLAN, group)
    torch.nn.init.normal_(trainer.tower.prompt_no, generator=torch.Generator().manual_seed(0))
    batch = next(trainer.batches.run(0, 1, group.rank, group.size))
    total = trainer._loss(batch).total
    if total.requires_grad:
        total.backward()  # type: ignore[no-untyped-call]
    group.sum_gradients(trainer.tower.trained())
    return {name: value.grad for name, value in trainer.tower.named_parameters() if value.grad is not None}


def train_in_group(rank: int, size: int, table: str, folder: str) -> None:
    """One of `size` processes that meet through a file."""
    meeting = f"file://{Path(folder) / 'meeting'}"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    try:
        encoder, pairs = tiny_encoder(), read_pairs([table])
        write_tensors(Path(folder) / f"gradients-{rank}.safetensors", first_gradients(encoder, pairs, Group.current()))
        train(encoder, pairs, PLAN, folder=folder)
    finally:
        distributed.destroy_process_group()
