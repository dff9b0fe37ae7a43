"""Where ordinary photographs and everyday words lie in the space of an encoder: the `Background` of every task.

The seven photographs in `photographs/` show different things, as they should: five diverse ones place the mean of
ordinary images nearly as well as fifty do, and five of one kind do not. LICENCES.md there has where they are from. The
words are those of `lexicons/everyday.txt`.
"""

from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vlm_ood.digests import digest_of
from vlm_ood.encoders.base import Encoder, TextEncoder
from vlm_ood.errors import CapabilityError
from vlm_ood.io.cache import bank_cache
from vlm_ood.lexicons import everyday_words
from vlm_ood.pipeline import encode_files
from vlm_ood.text import BankCache, text_bank
from vlm_ood.types import Background

EncodeFiles = Callable[[Sequence[bytes]], Float[Tensor, "n d"]]
"""From the bytes of image files to their vectors."""


@cache
def photographs() -> tuple[bytes, ...]:
    """The files of the photographs, in the order of their names."""
    folder = Path(__file__).parent / "photographs"
    return tuple(path.read_bytes() for path in sorted(folder.glob("*.jpg")))


def background_of(
    encoder: TextEncoder, encode: EncodeFiles | None = None, *, cache: BankCache | None = None
) -> Background:
    """The background of an encoder, kept by content.

    Args:
        encoder: of sentences.
        encode: encodes image files by the same encoder; by default `encoder` itself, which must be a whole
            `Encoder` then.
        cache: where it is kept; by default the user's cache folder.

    Raises:
        CapabilityError: `encoder` encodes text alone and `encode` is not given.
    """
    encode_all = encode or _encode_files_of(encoder)
    words = text_bank(encoder, everyday_words(), cache=cache)
    files = photographs()
    digest = digest_of("background", encoder.digest, words.digest, [sha256(file).hexdigest() for file in files])

    def make() -> dict[str, Tensor]:
        return {"images": encode_all(files).double().mean(dim=0).float().cpu()}

    kept = (cache or bank_cache()).made(
        digest, make, fits=lambda tensors: tensors.get("images", torch.empty(0)).shape == (encoder.dim,)
    )
    return Background(kept["images"].to(encoder.device), words.embeddings.double().mean(dim=0).float(), digest)


def _encode_files_of(encoder: TextEncoder) -> EncodeFiles:
    if not isinstance(encoder, Encoder):
        raise CapabilityError(f"{encoder.name} encodes text alone: give `encode`, which encodes image files")
    return lambda files: encode_files(encoder, files).features.pooled
