"""NegPrompt's score: the largest probability of a class under one softmax over classes and negatives.

Paper: Li et al., "Learning Transferable Negative Prompts for Out-of-Distribution Detection", CVPR 2024,
arXiv 2404.03248, on raw cosines. Where NegLabel sums the classes, this takes the best. The paper's negatives are
prompts learned for each class; any bank of negatives will do. We negate and take the logarithm, which keeps the order.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor

from vlm_ood.detectors.base import Detector, register
from vlm_ood.detectors.neglabel import strongest_negatives, task_negatives
from vlm_ood.types import ImageFeatures, Task, TextBank


def joint_softmax(
    classes: Float[Tensor, "n c"], negatives: Float[Tensor, "n m"], temperature: float
) -> Float[Tensor, " n"]:
    """Minus the logarithm of the largest probability of a class, from cosines; in (0, infinity)."""
    everything = torch.cat([classes, negatives], dim=-1) / temperature
    return everything.logsumexp(dim=-1) - classes.amax(dim=-1) / temperature


@register("negprompt")
@dataclass(frozen=True)
class NegPrompt(Detector[tuple[Float[Tensor, "c d"], TextBank]]):
    """The largest probability of a class under one softmax over classes and negative words.

    Args:
        temperature: divides raw cosines, no unit; the paper uses 1.
    """

    paper: ClassVar[str] = (
        "Li et al., Learning Transferable Negative Prompts for Out-of-Distribution Detection, "
        "CVPR 2024, arXiv:2404.03248"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"negatives"})
    min_classes: ClassVar[int] = 1

    temperature: Annotated[float, Gt(0)] = 1.0

    def learn(self, task: Task) -> tuple[Float[Tensor, "c d"], TextBank]:
        """The class embeddings (c, d) and the negatives, on one device.

        Raises:
            TaskError: an empty bank of negatives.
        """
        return task.classes.embeddings, task_negatives(task, self.name)

    def score(self, images: ImageFeatures, state: tuple[Float[Tensor, "c d"], TextBank]) -> Float[Tensor, " n"]:
        """Minus the logarithm of that probability, in (0, infinity); higher is more OOD."""
        classes, negatives = state
        return joint_softmax(images.pooled @ classes.T, images.pooled @ negatives.embeddings.T, self.temperature)

    def pulled_out_by(
        self, images: ImageFeatures, state: tuple[Float[Tensor, "c d"], TextBank], top: int
    ) -> list[list[tuple[str, float]]]:
        """Per image the `top` negatives with their shares of the same softmax, largest first."""
        return strongest_negatives(images, *state, self.temperature, top)
