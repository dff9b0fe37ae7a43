"""Banks of no-texts, one row a class: from a trained no-tower, or from sentences that negate."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vlm_ood.clipn.no_tower import NoTower
from vlm_ood.digests import digest_of, digest_of_weights
from vlm_ood.encoders.base import Progress, TextEncoder
from vlm_ood.text.bank import text_bank
from vlm_ood.text.templates import Templates
from vlm_ood.types import TextBank


class NoEncoder(TextEncoder):
    """The text encoder of a trained no-tower: in the joint space of its encoder, but each sentence means the opposite.

    Args:
        encoder: the one that the tower was trained beside.
        tower: trained, with the mean of its no-prompts.
    """

    def __init__(self, encoder: TextEncoder, tower: NoTower) -> None:
        self._tower = tower
        self.name, self.dim, self.device = f"{encoder.name} (no)", encoder.dim, encoder.device
        self.digest = digest_of("clipn", encoder.digest, digest_of_weights(tower.state_dict()))

    def encode_text(
        self,
        prompts: Sequence[str],
        *,
        normalise: bool = True,
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> Float[Tensor, "n d"]:
        """fp32 vectors of the prompts, in order, at length 1 whatever `normalise` is; arguments as in `TextEncoder`."""
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        out = torch.empty(len(prompts), self.dim, device=self.device)
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                out[rows] = self._tower([prompts[row] for row in rows])
                if progress is not None:
                    progress(len(rows))
        return out


def no_bank(
    encoder: TextEncoder,
    tower: NoTower,
    names: Sequence[str],
    *,
    templates: str | Sequence[str] | Templates = "single",
    progress: Progress | None = None,
) -> TextBank:
    """One no-text a class from a trained no-tower.

    Args:
        encoder: the one that the tower was trained beside.
        tower: from `train` or `load_no_tower`.
        names: class names, as in the bank of the classes.
        templates: the affirmative ones of the classes' own bank: the tower does the negating.
        progress: called with the number of prompts done since the last call.

    Raises:
        ClassNamesError, TemplateError, UnknownNameError: for the names and the templates.
    """
    return text_bank(NoEncoder(encoder, tower), names, templates=templates, progress=progress)


def no_bank_from_templates(
    encoder: TextEncoder,
    names: Sequence[str],
    *,
    templates: str | Sequence[str] | Templates = "clipn_no_training_free",
    progress: Progress | None = None,
) -> TextBank:
    """One no-text a class without any training: from sentences that negate, through the encoder's own text tower.

    This isn't CLIPN as published: contrastive text towers hardly hear a "not". The set `clipn_no_training_free` goes
    with `clipn_yes` for the classes, template by template; other arguments and errors as in `no_bank`.
    """
    return text_bank(encoder, names, templates=templates, progress=progress)
