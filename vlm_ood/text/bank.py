"""From class names to a text bank: prompts, their vectors, one average per name."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from vlm_ood.digests import digest_of
from vlm_ood.encoders.base import Progress, TextEncoder
from vlm_ood.errors import ClassNamesError
from vlm_ood.io.cache import bank_cache
from vlm_ood.text.templates import Templates, templates_named
from vlm_ood.types import TextBank

PROMPTS_AT_ONCE: Final = 8192  # whose vectors are in memory before averaging: 16 MiB at 512 dimensions


@runtime_checkable
class BankCache(Protocol):
    """Where banks are kept by content: a `DiskCache`, or the server's memory in front of one."""

    def made(
        self, digest: str, make: Callable[[], Mapping[str, Tensor]], fits: Callable[[Mapping[str, Tensor]], bool]
    ) -> Mapping[str, Tensor]:
        """The tensors under the digest, from `make` when none are kept or those that are kept do not fit."""


def text_bank(
    encoder: TextEncoder,
    names: Sequence[str],
    *,
    templates: str | Sequence[str] | Templates = "single",
    cache: BankCache | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> TextBank:
    """One unit vector per name, averaged over the templates; kept by content.

    Args:
        encoder: of sentences.
        names: class names, at least one, none empty or given twice; surrounding white space is dropped.
        templates: a set in `prompts/`, or a list of sentences with one "{}" each.
        cache: where banks are kept; by default the user's cache folder.
        batch_size: prompts in a forward pass.
        progress: called with the number of prompts done since the last call.

    Raises:
        ClassNamesError: no names, an empty one, doubles.
        TemplateError, UnknownNameError: for the templates.
    """
    names = clean_names(names)
    chosen = templates_named(templates)
    digest = digest_of("text bank", encoder.digest, list(names), list(chosen.templates), chosen.average)
    kept = (cache or bank_cache()).made(
        digest,
        make=lambda: {"embeddings": average_prompts(encoder, names, chosen, batch_size=batch_size, progress=progress)},
        fits=lambda tensors: tensors.get("embeddings", torch.empty(0)).shape == (len(names), encoder.dim),
    )
    return TextBank(names, kept["embeddings"].to(encoder.device), digest)


def average_prompts(
    encoder: TextEncoder,
    names: Sequence[str],
    templates: Templates,
    *,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Float[Tensor, "c d"]:
    """One unit vector per name, the average over its prompts, in memory that doesn't grow with the number of names.

    Args:
        encoder: of sentences.
        names: as they go into the templates.
        templates: with the order of averaging and normalising.
        batch_size: prompts in a forward pass.
        progress: called with the number of prompts done since the last call.
    """
    per_chunk = max(1, PROMPTS_AT_ONCE // len(templates))
    chunks = []
    for start in range(0, len(names), per_chunk):
        part = names[start : start + per_chunk]
        prompts = [prompt for name in part for prompt in templates.prompts(name)]
        vectors = encoder.encode_text(
            prompts,
            normalise=templates.average == "normalise_first",
            batch_size=batch_size,
            progress=progress,
        )
        per_name = vectors.view(len(part), len(templates), -1)  # (names, templates, d)
        chunks.append(functional.normalize(per_name.mean(dim=1), dim=-1))
    return torch.cat(chunks)


def clean_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names without surrounding white space.

    Raises:
        ClassNamesError: a single string, no names, an empty one, doubles.
    """
    if isinstance(names, str):
        raise ClassNamesError(f"class names must be a list, got the string {names!r}: write [{names!r}]")
    cleaned = tuple(name.strip() for name in names)
    if not cleaned:
        raise ClassNamesError("no class names: give at least one")
    if "" in cleaned:
        raise ClassNamesError(f"class name {cleaned.index('') + 1} of {len(cleaned)} is empty: leave it out")
    doubled = sorted(name for name, times in Counter(cleaned).items() if times > 1)
    if doubled:
        raise ClassNamesError(f"class names given twice: {', '.join(map(repr, doubled))}; give each once")
    return cleaned
