"""CLIPN: how much likelier the negated prompts of the classes are than the classes themselves.

Paper: Wang et al., "CLIPN for Zero-Shot OOD Detection: Teaching CLIP to Say No", ICCV 2023, arXiv 2308.12213.
Their yes and no text features are the rows of `classes` and `no`, their 1/tau is our `scale`. Their scores are
probabilities of being ID; ours are the log odds of being OOD, which give the reverse order and don't round to 0 or 1
where the probabilities would.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Gt
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from vlm_ood.detectors.base import Detector, register
from vlm_ood.detectors.naming import strongest
from vlm_ood.errors import TaskError
from vlm_ood.types import ImageFeatures, Task, TextBank


def competing_to_win(yes: Float[Tensor, "n c"], no: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
    """Log odds of the negated prompt of the nearest class against the class itself.

    Args:
        yes: scaled cosines to the classes.
        no: scaled cosines to their negated prompts.

    Returns:
        no - yes at the class k with the largest yes; its sigmoid is 1 - p_yes[k].
    """
    nearest = yes.argmax(dim=-1, keepdim=True)
    return (no - yes).gather(-1, nearest).squeeze(-1)


def joint_log_probabilities(
    yes: Float[Tensor, "n c"], no: Float[Tensor, "n c"]
) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c"]]:
    """log(q * p_yes) and log(q * p_no) of each class: q = softmax(yes), p_yes = sigmoid(yes - no), p_no = 1 - p_yes.

    The second sums over the classes, as probabilities, to p_{c+1}: the extra class of images of no class.
    """
    q = yes.log_softmax(dim=-1)
    return q + logsigmoid(yes - no), q + logsigmoid(no - yes)


def agreeing_to_differ(yes: Float[Tensor, "n c"], no: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
    """Log odds of the extra class, log p_{c+1} - log(1 - p_{c+1}).

    Args:
        yes: scaled cosines to the classes.
        no: scaled cosines to their negated prompts.
    """
    inside, outside = joint_log_probabilities(yes, no)
    return outside.logsumexp(dim=-1) - inside.logsumexp(dim=-1)


@dataclass(frozen=True, eq=False)
class YesAndNo:
    """The two rows of each class."""

    yes: TextBank
    no: TextBank


@register("clipn")
@dataclass(frozen=True)
class CLIPN(Detector[YesAndNo]):
    """How much likelier the negated prompts of the classes are than the classes themselves.

    The score is a log odds: 0 means as likely ID as OOD, and its sigmoid is the probability of OOD.

    Args:
        rule: "ctw", competing to win, asks the nearest class alone; "atd", agreeing to differ, asks every class in
            proportion to its probability. The paper's better figures are those of "atd".
        scale: multiplies cosines; the authors use 100 whatever the model's own scale is.
    """

    paper: ClassVar[str] = (
        "Wang et al., CLIPN for Zero-Shot OOD Detection: Teaching CLIP to Say No, ICCV 2023, arXiv:2308.12213"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"no"})
    min_classes: ClassVar[int] = 1

    rule: Literal["ctw", "atd"] = "atd"
    scale: Annotated[float, Gt(0)] = 100.0

    def learn(self, task: Task) -> YesAndNo:
        """The two banks."""
        if task.no is None:
            raise TaskError("clipn needs a bank of negated prompts: vo.Task(classes=..., no=...)")
        return YesAndNo(task.classes, task.no)

    def score(self, images: ImageFeatures, state: YesAndNo) -> Float[Tensor, " n"]:
        """The log odds of the chosen rule; higher is more OOD."""
        return (competing_to_win if self.rule == "ctw" else agreeing_to_differ)(*self._logits(images, state))

    def decide(self, images: ImageFeatures, state: YesAndNo) -> Bool[Tensor, " n"]:
        """The paper's threshold-free rules.

        "ctw": OOD where the nearest class has p_yes < 0.5. "atd": OOD where the extra class is more probable than
        each class, p_{c+1} > max q * p_yes.
        """
        yes, no = self._logits(images, state)
        if self.rule == "ctw":
            return competing_to_win(yes, no) > 0
        inside, outside = joint_log_probabilities(yes, no)
        return outside.logsumexp(dim=-1) > inside.amax(dim=-1)

    def pulled_out_by(self, images: ImageFeatures, state: YesAndNo, top: int) -> list[list[tuple[str, float]]]:
        """The classes whose negated prompts add most to p_{c+1}, each as "no NAME" with its share q * p_no."""
        share = joint_log_probabilities(*self._logits(images, state))[1].exp()
        return strongest([f"no {name}" for name in state.no.names], share, top)

    def _logits(self, images: ImageFeatures, state: YesAndNo) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c"]]:
        scaled = self.scale * images.pooled
        return scaled @ state.yes.embeddings.T, scaled @ state.no.embeddings.T
