"""Train a no-tower on pairs of pictures and captions, in one process or in several.

Method: Wang et al., ICCV 2023, arXiv 2308.12213, with the values of the authors' code: CC3M, AdamW, a cosine without
warm-up, ten epochs of batches of 2048. The encoder itself, both its towers and its scale, stays frozen.
"""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vlm_ood.clipn.batches import PairBatch, PairBatches
from vlm_ood.clipn.files import PROBE, save_no_tower
from vlm_ood.clipn.group import Group
from vlm_ood.clipn.losses import ClipnLoss, clipn_loss
from vlm_ood.clipn.no_tower import NoTower, copy_text_tower
from vlm_ood.clipn.pairs import Pairs
from vlm_ood.clipn.plan import TrainingPlan
from vlm_ood.clipn.state import Standing, load_state, save_state
from vlm_ood.encoders.base import Encoder
from vlm_ood.encoders.device import choose_dtype
from vlm_ood.errors import InputError, ParameterError

STATE, RESULT = "training.safetensors", "no_tower.safetensors"
BETAS, EPSILON = (0.9, 0.98), 1e-6  # of AdamW in the authors' code, as CLIP was trained


@dataclass(frozen=True)
class Step:
    """One step that was done.

    Args:
        step: its number, from 1.
        steps: of the whole training.
        loss: of the global batch.
        yes: part of the loss, see `ClipnLoss`.
        no: likewise.
        opposite: likewise.
        broken: pairs that couldn't be read so far.
    """

    step: int
    steps: int
    loss: float
    yes: float
    no: float
    opposite: float
    broken: int


def train(
    encoder: Encoder,
    pairs: Pairs,
    plan: TrainingPlan | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    progress: Callable[[Step], object] | None = None,
) -> NoTower:
    """Train a no-tower beside an encoder.

    With a folder, the state is written there every `checkpoint_every` steps, a call with the same arguments continues
    from the last state with the same bits as an uninterrupted training, and the result is written as
    `no_tower.safetensors`. Processes of one torch.distributed group share each batch and end with the same weights.

    Args:
        encoder: frozen; load it in fp32, since the no-tower starts as a copy of its text tower.
        pairs: from `read_pairs`.
        plan: by default the authors'.
        folder: of state and result.
        progress: called after each step, in each process.

    Raises:
        ParameterError: a batch that doesn't fit the pairs or the processes.
        InputError: a batch of which fewer than two pairs can be read.
        CapabilityError: an encoder without "text_gradients".
        CheckpointError, StorageError: a state of another training, or a damaged one.
    """
    trainer = Trainer(encoder, pairs, plan or TrainingPlan(), Group.current())
    state = None if folder is None else Path(folder) / STATE
    if state is not None and state.is_file():
        trainer.resume(state)
    for step in trainer.run():
        if state is not None and (step.step == step.steps or step.step % trainer.plan.checkpoint_every == 0):
            trainer.save(state)
        if progress is not None:
            progress(step)
    if state is not None and trainer.group.rank == 0:
        probe = encoder.encode_text([PROBE])[0]
        save_no_tower(
            state.parent / RESULT, trainer.tower, probe, {"encoder": encoder.name, "plan": repr(trainer.plan)}
        )
    return trainer.tower


class Trainer:
    """The parts of a training and its steps, for `train`.

    Args:
        encoder: frozen.
        pairs: the source.
        plan: how to train.
        group: this process and the others.
    """

    def __init__(self, encoder: Encoder, pairs: Pairs, plan: TrainingPlan, group: Group) -> None:
        self.encoder, self.plan, self.group = encoder, plan, group
        self.batches = PairBatches(
            pairs, encoder.preprocessing, plan.batch_size, plan.seed, plan.crop_share, plan.workers
        )
        self._check(pairs)
        self.steps = plan.epochs * self.batches.per_epoch
        self.done = self.broken = 0
        self.tower = copy_text_tower(encoder)
        self.optimiser = torch.optim.AdamW(
            _groups(self.tower, plan.weight_decay), lr=plan.learning_rate, betas=BETAS, eps=EPSILON
        )
        self.dtype = choose_dtype(plan.precision, encoder.device)
        self.scaler = torch.amp.GradScaler(encoder.device.type, enabled=self.dtype is torch.float16)
        self._identity = {
            "encoder": encoder.digest,
            "pairs": pairs.digest,
            **{key: value for key, value in asdict(plan).items() if key not in {"workers", "checkpoint_every"}},
            "crop_share": list(plan.crop_share),
        }

    def run(self) -> Iterator[Step]:
        """Do every step that is left, one at a time."""
        for batch in self.batches.run(self.done, self.steps, self.group.rank, self.group.size):
            yield self._step(batch)

    def save(self, path: Path) -> None:
        """Write the state, from the first process."""
        if self.group.rank == 0:
            standing = Standing(self.done, self.broken, self.scaler.state_dict(), self._identity)
            save_state(path, self.tower, self.optimiser, standing)

    def resume(self, path: Path) -> None:
        """Continue from a state.

        Raises:
            CheckpointError, StorageError: a state of another training, or a damaged one.
        """
        standing = load_state(path, self.tower, self.optimiser, self._identity)
        self.done, self.broken = standing.step, standing.broken
        self.scaler.load_state_dict(standing.scaler)

    def _step(self, batch: PairBatch) -> Step:
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.learning_rate * (1 + math.cos(math.pi * self.done / self.steps)) / 2
        loss = self._loss(batch)
        self.optimiser.zero_grad()
        scaled = self.scaler.scale(loss.total)
        if scaled.requires_grad:  # False in a process that could read none of its pairs
            scaled.backward()  # type: ignore[no-untyped-call]
        self.group.sum_gradients(self.tower.trained())
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.done += 1
        total, yes, no, opposite = torch.stack([loss.total, loss.yes, loss.no, loss.opposite]).tolist()
        return Step(self.done, self.steps, total, yes, no, opposite, self.broken)

    def _loss(self, batch: PairBatch) -> ClipnLoss:
        """Loss of the global batch, equal in all processes; its gradient is that of this process's captions."""
        vectors = self._vectors(batch)
        readable = torch.zeros(batch.size, dtype=torch.uint8, device=self.encoder.device)
        readable[batch.places] = 1
        kept = self.group.gather(readable).bool()
        self.broken += int((~kept).sum())
        if kept.sum() < 2:
            why = f", such as: {batch.errors[0]}" if batch.errors else ""
            raise InputError(f"fewer than two of the {len(kept)} pairs of batch {self.done + 1} can be read{why}")
        images, yes, no = (self.group.gather(_spread(part, batch))[kept] for part in vectors)
        return clipn_loss(images, yes, no, self.encoder.scale)

    def _vectors(self, batch: PairBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Images, captions and negated captions of this process, (n, d) each."""
        if not batch.captions:
            nothing = torch.zeros(0, self.encoder.dim, device=self.encoder.device)
            return nothing, nothing, nothing
        with self._precision():
            images = self.encoder.encode_pixels(batch.pixels).pooled
            yes = self.encoder.encode_text(batch.captions)
            no = self.tower(batch.captions, batch.choices)
        return images.float(), yes.float(), no.float()

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.encoder.device.type, self.dtype, enabled=self.dtype is not torch.float32)

    def _check(self, pairs: Pairs) -> None:
        size, processes = self.plan.batch_size, self.group.size
        if size % processes:
            raise ParameterError(f"batch_size {size} is no multiple of the {processes} processes that share it")
        if len(pairs) < size:
            raise ParameterError(f"batch_size {size} is more than the {len(pairs)} pairs: choose a smaller one")


def _spread(rows: Float[Tensor, "n d"], batch: PairBatch) -> Float[Tensor, "b d"]:
    """Rows at their places in this process's share, zeros where a pair can't be read: `gather` needs equal shapes."""
    spread: Tensor = rows.new_zeros(batch.size, rows.shape[1]).index_copy(0, batch.places.to(rows.device), rows)
    return spread


def _groups(tower: NoTower, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups of AdamW: weight decay on all but gains and biases, which have one axis."""
    parameters = tower.trained()
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
