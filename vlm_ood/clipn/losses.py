"""CLIPN's losses on a batch of n matching pairs of image and caption.

Paper: Wang et al., ICCV 2023, arXiv 2308.12213. In its symbols v are the images, y the captions and y-bar the negated
captions, all of unit length; p_ij is the probability that image i matches caption j rather than its negation. With
g = scale * v.(y - y-bar), p itself is never computed: -log p = softplus(-g) and -log(1 - p) = softplus(g) stay finite
where the logarithm of a softmax does not.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

ROUNDING = 1e-4  # under the root of `semantic_opposite`, whose slope at y = y-bar would be infinite; the authors' value


@dataclass(frozen=True, eq=False)
class ClipnLoss:
    """The parts of the loss, each a mean over the batch.

    Args:
        yes: the paper's image-text binary-opposite loss on matching pairs: each image is to be nearer to its caption
            than to the negated one.
        no: the same loss on the other pairs, the other way round; 0 in a batch of one pair.
        opposite: the paper's text semantic-opposite loss: a caption and its negation are to be opposite vectors.
    """

    yes: Float[Tensor, ""]
    no: Float[Tensor, ""]
    opposite: Float[Tensor, ""]

    @property
    def total(self) -> Float[Tensor, ""]:
        """Half the sum, as the authors train."""
        return 0.5 * (self.yes + self.no + self.opposite)


def clipn_loss(
    images: Float[Tensor, "n d"], yes: Float[Tensor, "n d"], no: Float[Tensor, "n d"], scale: float
) -> ClipnLoss:
    """The loss of n pairs.

    Args:
        images: unit length.
        yes: captions through the encoder's own text tower, unit length.
        no: captions through the no-tower, unit length.
        scale: multiplies cosines; the encoder's own.
    """
    images, yes, no = images.float(), yes.float(), no.float()
    gap = scale * images @ (yes - no).T
    return ClipnLoss(yes_wins(gap), no_wins(gap), semantic_opposite(yes, no))


def yes_wins(gap: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """Mean over matching pairs of -log p = softplus(-gap)."""
    return softplus(-gap.diagonal()).mean()


def no_wins(gap: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """Mean over pairs that don't match of -log(1 - p) = softplus(gap)."""
    matching = torch.eye(len(gap), dtype=torch.bool, device=gap.device)
    return softplus(gap).masked_fill(matching, 0).sum() / max(1, len(gap) * (len(gap) - 1))


def semantic_opposite(yes: Float[Tensor, "n d"], no: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean of 2 - |yes - no|: 0 for opposite vectors, 2 for equal ones."""
    return (2 - (2 - 2 * (yes * no).sum(dim=-1) + ROUNDING).sqrt()).mean()
