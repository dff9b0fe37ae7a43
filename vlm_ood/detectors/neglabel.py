"""NegLabel: how much of the image do the classes take, against words that they are not?

Paper: Jiang et al., "Negative Label Guided OOD Detection with Pretrained Vision-Language Models", ICLR 2024,
arXiv 2403.20078. With a = logsumexp of the class logits and b_g that of the g-th group of negatives, its score is
S = mean over g of S_g, S_g = sigmoid(a - b_g), higher for ID. We return log((1 - S) / S), which keeps the order and,
unlike S, does not round to 1 for images that clearly belong. CSP (Chen et al., NeurIPS 2024, arXiv 2410.08611) is the
same score over negatives mined by its recipe.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from vlm_ood.detectors.base import Detector, register
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
        grouped: (g, m, d), as many negatives in each group; both in `working_precision`.
        negatives: all of them, to name those that pull an image out.
    """

    classes: Float[Tensor, "c d"]
    grouped: Float[Tensor, "g m d"]
    negatives: TextBank


@register("neglabel")
@dataclass(frozen=True)
class NegLabel(Detector[NegativeBanks]):
    """Negative labels: sum-softmax over classes and negatives, averaged over groups of negatives.

    Args:
        groups: the negatives are dealt out to so many groups; 1 is the plain sum-softmax. As in the paper the last
            negatives, which are most like the classes, are dropped until the groups are equal: with 150 negatives and
            100 groups that is 50 of them, so choose a divisor for a short list. With fewer negatives than groups each
            is a group.
        temperature: divides raw cosines, no unit; the paper uses 0.01 with CLIP.
        form: "probability" is the paper's score; "log_odds" averages the log-odds of the groups instead.
        seed: of the deal.
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

    def learn(self, task: Task) -> NegativeBanks:
        """Deal the negatives out.

        Raises:
            TaskError: an empty bank of negatives.
        """
        negatives = task_negatives(task, self.name)
        groups = min(self.groups, len(negatives))
        kept = len(negatives) // groups * groups
        order = torch.randperm(kept, generator=torch.Generator().manual_seed(self.seed))
        precision = working_precision(negatives.embeddings.device)
        dealt = negatives.embeddings[order.to(negatives.embeddings.device)].to(precision)
        return NegativeBanks(task.classes.embeddings.to(precision), dealt.view(groups, -1, negatives.dim), negatives)

    def score(self, images: ImageFeatures, state: NegativeBanks) -> Float[Tensor, " n"]:
        """See `neglabel`."""
        pooled = images.pooled.to(state.classes.dtype)
        by_group = (pooled @ state.grouped.flatten(0, 1).T).view(len(images), *state.grouped.shape[:2])
        return neglabel(pooled @ state.classes.T, by_group, self.temperature, self.form)

    def pulled_out_by(self, images: ImageFeatures, state: NegativeBanks, top: int) -> list[list[tuple[str, float]]]:
        """See `strongest_negatives`."""
        return strongest_negatives(images, state.classes.float(), state.negatives, self.temperature, top)


def working_precision(device: torch.device) -> torch.dtype:
    """Double on a CPU, where ten thousand dot products cost little beside an image; single on an accelerator.

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
    """For each image the `top` negatives with their shares of one softmax over classes and negatives."""
    everything = torch.cat([negatives.embeddings, classes])
    shares = (images.pooled @ everything.T / temperature).softmax(dim=-1)[:, : len(negatives)]
    best = shares.topk(min(top, len(negatives)), dim=-1)
    return [
        [(negatives.names[row], share) for row, share in zip(rows, values, strict=True)]
        for rows, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
