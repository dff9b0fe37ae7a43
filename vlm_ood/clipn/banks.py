"""Banks of negated prompts, one row per class: from a trained no-tower, or from sentences that negate."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from vlm_ood.clipn.no_tower import NoTower
from vlm_ood.digests import digest_of, digest_of_weights
from vlm_ood.encoders.base import Progress, TextEncoder
from vlm_ood.encoders.text_tower import encode_prompts
from vlm_ood.text.bank import text_bank
from vlm_ood.text.templates import Templates
from vlm_ood.types import TextBank


class NoEncoder(TextEncoder):
    """A trained no-tower as a text encoder: vectors of negated prompts in the joint space of its encoder.

    Args:
        encoder: the one that the tower was trained beside.
        tower: trained.
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
        """fp32 vectors of the negated prompts, in order, on `device`; arguments as in `TextEncoder`."""
        return encode_prompts(self._tower, prompts, normalise=normalise, batch_size=batch_size, progress=progress)


def no_bank(
    encoder: TextEncoder,
    tower: NoTower,
    names: Sequence[str],
    *,
    templates: str | Sequence[str] | Templates = "single",
    progress: Progress | None = None,
) -> TextBank:
    """One negated prompt per class, averaged over the templates, from a trained no-tower.

    Args:
        encoder: the one that the tower was trained beside.
        tower: from `train` or `load_no_tower`.
        names: class names, as in the bank of the classes.
        templates: affirmative ones, those of the classes' own bank: the tower negates them.
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
    """One negated prompt per class without training: sentences that negate, through the encoder's own text tower.

    This isn't CLIPN as published: a "not" changes the vectors of contrastive text towers little. The set
    `clipn_no_training_free` goes with `clipn_yes` for the classes, template by template; other arguments and errors as
    in `no_bank`.
    """
    return text_bank(encoder, names, templates=templates, progress=progress)
