"""NegLabel: the probability that the classes keep against negative words.

Paper: Jiang et al., "Negative Label Guided OOD Detection with Pretrained Vision-Language Models", ICLR 2024,
arXiv 2403.20078. With a = logsumexp of the class logits and b_g that of the g-th group of negatives, its score is
S = mean over g of S_g, S_g = sigmoid(a - b_g), higher for ID. We return log((1 - S) / S), which reverses the order and,
unlike S, does not round to 1 for clear ID images. CSP (Chen et al., NeurIPS 2024, arXiv 2410.08611) is the
same score over negatives mined by its recipe.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from vlm_ood.detectors.base import ADDED, Detector, register
from vlm_ood.detectors.naming import strongest
from vlm_ood.errors import TaskError
from vlm_ood.types import ImageFeatures, Task, TextBank

Form = Literal["probability", "log_odds"]


def neglabel(
    classes: Float[Tensor, "n c"], negatives: Float[Tensor, "n g m"], temperature: float, form: Form
) -> Float[Tensor, " n"]:
    """NegLabel's score from cosines, on a logarithmic scale.

    Args:
        classes: cosines to the classes.
        negatives: cosines to the negatives, by group.
        temperature: divides the cosines.
        form: "probability" is the paper's: log((1 - S) / S), whose sigmoid is 1 - S; "log_odds" is the mean over
            groups of b_g - a, which ranks differently and has no saturation within a group.

    Returns:
        (n,), unbounded, higher is more OOD.
    """
    in_favour = (classes / temperature).logsumexp(dim=-1, keepdim=True)
    odds = in_favour - (negatives / temperature).logsumexp(dim=-1)
    if form == "log_odds":
        return -odds.mean(dim=-1)
    return logsigmoid(-odds).logsumexp(dim=-1) - logsigmoid(odds).logsumexp(dim=-1)


@dataclass(frozen=True, eq=False)
class NegativeBanks:
    """What NegLabel learns: the classes, and the negatives in their groups.

    Args:
        classes: (c, d).
        grouped: (g, m, d), as many negatives in each group, those groups alone that are averaged; both in
            `working_precision`.
        negatives: all of them, to name those that raise a score.
    """

    classes: Float[Tensor, "c d"]
    grouped: Float[Tensor, "g m d"]
    negatives: TextBank


@register("neglabel")
@dataclass(frozen=True)
class NegLabel(Detector[NegativeBanks]):
    """The probability that classes keep against negative words, averaged over groups of those.

    Args:
        groups: number of groups that the negatives are assigned to; 1 is the plain sum-softmax. As in the paper the
            last negatives, which are most like the classes, are dropped until the groups are equal: with 150 negatives
            and 100 groups that is 50 of them, so choose a divisor for a short list. With fewer negatives than groups
            each is a group.
        temperature: divides raw cosines, no unit; the paper uses 0.01 with CLIP.
        form: "probability" is the paper's score; "log_odds" averages the log-odds of the groups instead.
        seed: of the random assignment to groups.
        fused_groups: how many of the groups, the first ones, are averaged; all when None, as in the paper. The
            reference's `group_fuse_num` averages one group fewer than it says: its n is our n - 1.
    """

    paper: ClassVar[str] = (
        "Jiang et al., Negative Label Guided OOD Detection with Pretrained Vision-Language Models, "
        "ICLR 2024, arXiv:2403.20078"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"negatives"})
    min_classes: ClassVar[int] = 1

    groups: Annotated[int, Ge(1)] = 100
    temperature: Annotated[float, Gt(0)] = 0.01
    form: Form = "probability"
    seed: Annotated[int, Ge(0)] = 0
    fused_groups: Annotated[int, Ge(1)] | None = field(default=None, metadata=ADDED)

    def learn(self, task: Task) -> NegativeBanks:
        """Assign the negatives to the groups at random.

        Raises:
            TaskError: an empty bank of negatives.
        """
        negatives = task_negatives(task, self.name)
        groups = min(self.groups, len(negatives))
        kept = len(negatives) // groups * groups
        order = torch.randperm(kept, generator=torch.Generator().manual_seed(self.seed))
        precision = working_precision(negatives.embeddings.device)
        shuffled = negatives.embeddings[order.to(negatives.embeddings.device)].to(precision)
        grouped = shuffled.view(groups, -1, negatives.dim)[: self.fused_groups]  # (g, m, d)
        return NegativeBanks(task.classes.embeddings.to(precision), grouped, negatives)

    def score(self, images: ImageFeatures, state: NegativeBanks) -> Float[Tensor, " n"]:
        """log((1 - S) / S), or the mean log-odds, by `form`; unbounded, higher is more OOD."""
        pooled = images.pooled.to(state.classes.dtype)
        by_group = (pooled @ state.grouped.flatten(0, 1).T).view(len(images), *state.grouped.shape[:2])
        return neglabel(pooled @ state.classes.T, by_group, self.temperature, self.form)

    def pulled_out_by(self, images: ImageFeatures, state: NegativeBanks, top: int) -> list[list[tuple[str, float]]]:
        """Per image the `top` negatives with their shares of one softmax over classes and all negatives."""
        return strongest_negatives(images, state.classes.float(), state.negatives, self.temperature, top)


def working_precision(device: torch.device) -> torch.dtype:
    """Double on a CPU, where ten thousand dot products cost little beside encoding an image; single on an accelerator.

    A temperature of 0.01 multiplies the rounding of a cosine by 100: 3e-6 of S in single precision.
    """
    return torch.float64 if device.type == "cpu" else torch.float32


def task_negatives(task: Task, method: str) -> TextBank:
    """The task's negatives on the device of its classes.

    Raises:
        TaskError: none.
    """
    if not task.negatives:
        raise TaskError(f"{method} needs at least one negative: negatives=vo.mine_negatives(...)")
    return task.negatives.to(task.classes.embeddings.device)


def strongest_negatives(
    images: ImageFeatures, classes: Float[Tensor, "c d"], negatives: TextBank, temperature: float, top: int
) -> list[list[tuple[str, float]]]:
    """Per image the `top` negatives with their shares of one softmax over classes and negatives, largest first.

    The softmax is over every class and every negative, whatever groups the score averages over.
    """
    everything = torch.cat([negatives.embeddings, classes])
    shares = (images.pooled @ everything.T / temperature).softmax(dim=-1)[:, : len(negatives)]
    return strongest(negatives.names, shares, top)
