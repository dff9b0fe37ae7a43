"""The vectors of a lexicon: encoded once, kept on disk in entries of a few thousand phrases."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from vlm_ood.digests import digest_of
from vlm_ood.encoders.base import Progress, TextEncoder
from vlm_ood.io.cache import DiskCache, cache_folder
from vlm_ood.text.bank import average_prompts
from vlm_ood.text.templates import Templates

PHRASES_PER_ENTRY = 4096  # what an interruption loses at most, and all that is in memory at a time


def candidate_cache() -> DiskCache:
    """Where the vectors of candidates are kept: apart from the banks, which they would displace."""
    return DiskCache(cache_folder() / "candidates", max_bytes=8 * 2**30)


@dataclass(frozen=True)
class CandidateStore:
    """Vectors of phrases, read from disk where they were encoded before.

    Args:
        encoder: encodes the prompts.
        cache: where vectors are kept, by encoder, templates and phrases.
        batch_size: prompts in a forward pass.
        progress: called with the number of prompts done since the last call.
    """

    encoder: TextEncoder
    cache: DiskCache = field(default_factory=candidate_cache)
    batch_size: int = 256
    progress: Progress | None = None

    def chunks(self, phrases: Sequence[str], templates: Templates) -> Iterator[Float[Tensor, "_ d"]]:
        """The vectors in order, a chunk at a time; an interrupted run leaves its finished chunks on disk."""
        for start in range(0, len(phrases), PHRASES_PER_ENTRY):
            yield self._chunk(phrases[start : start + PHRASES_PER_ENTRY], templates)

    def _chunk(self, phrases: Sequence[str], templates: Templates) -> Float[Tensor, "m d"]:
        digest = digest_of(
            "candidates", self.encoder.digest, list(templates.templates), templates.average, list(phrases)
        )
        stored = (self.cache.get(digest) or {}).get("embeddings", torch.empty(0))
        if stored.shape == (len(phrases), self.encoder.dim):
            if self.progress is not None:
                self.progress(len(phrases) * len(templates))
            return stored
        vectors = average_prompts(
            self.encoder, phrases, templates, batch_size=self.batch_size, progress=self.progress
        ).cpu()
        self.cache.put(digest, {"embeddings": vectors})
        return vectors
