"""From an encoder to the no-tower that copies its text tower."""

from vlm_ood.clipn.no_tower import CausalNoTower, NoTower, SentenceNoTower
from vlm_ood.encoders.base import Encoder
from vlm_ood.encoders.clip import ClipEncoder
from vlm_ood.encoders.embedded import EmbeddedEncoder
from vlm_ood.errors import CapabilityError


def copy_text_tower(encoder: Encoder) -> NoTower:
    """An untrained no-tower on the encoder's device, in fp32: it says what the encoder says, so far.

    Raises:
        CapabilityError: an encoder whose text tower can't be copied.
    """
    if isinstance(encoder, EmbeddedEncoder):
        return SentenceNoTower(encoder)
    if isinstance(encoder, ClipEncoder):
        return CausalNoTower(encoder._text)
    raise CapabilityError(f"{encoder.name}: CLIPN copies the text tower of `embedded` or of an open_clip CLIP")
