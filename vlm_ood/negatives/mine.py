"""Mine negatives: encode a lexicon once, then choose from it for any class list with one matrix product."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from math import floor
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vlm_ood.encoders.base import Progress, TextEncoder
from vlm_ood.errors import LexiconError, VectorError
from vlm_ood.io.cache import DiskCache
from vlm_ood.lexicons import (
    PARTS_OF_SPEECH,
    Entry,
    Lexicon,
    PartOfSpeech,
    key,
    lexicon_from_file,
    lexicon_from_words,
    naming_keys,
    wordnet,
)
from vlm_ood.negatives.candidates import CandidateStore, candidate_cache
from vlm_ood.negatives.recipes import AnyTemplates, Recipe, recipe_named
from vlm_ood.negatives.select import check_shares, least_similar
from vlm_ood.types import TextBank

AnyLexicon = Lexicon | str | os.PathLike[str] | Sequence[str]


@dataclass(frozen=True)
class MiningPlan:
    """What to choose from, and how.

    Args:
        recipe: which files and prompts.
        lexicon: the words; files that the recipe leaves out are taken away.
        quantile: see `select_negatives`.
        keep: share of the nouns and of the adjectives to keep, in (0, 1].
        synonyms: whether WordNet's synonyms of the class names are left out, too.
        seed: of csp's draw of a superclass for each adjective.
    """

    recipe: Recipe
    lexicon: Lexicon
    quantile: float = 0.95
    keep: float = 0.15
    synonyms: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        check_shares(self.quantile, self.keep)
        object.__setattr__(self, "lexicon", self.lexicon.without(self.recipe.without))

    @property
    def prompts(self) -> int:
        """How many prompts the lexicon makes; what `progress` adds up to."""
        return sum(len(self.lexicon.entries(part)) * len(self.recipe.templates[part]) for part in PARTS_OF_SPEECH)


@dataclass(frozen=True, eq=False)
class Mining:
    """What was chosen, and out of what.

    Args:
        negatives: nouns before adjectives, each least like the classes first.
        files: the lexicographer file of each.
        affinity: of each to the classes, in [-1, 1].
        candidates: {lexicographer file: words that could have been chosen}.
        named: words left out because they name a class.
    """

    negatives: TextBank
    files: tuple[str, ...]
    affinity: Float[Tensor, " m"]
    candidates: Mapping[str, int]
    named: tuple[str, ...]


def mine_negatives(
    encoder: TextEncoder,
    bank: TextBank,
    recipe: str = "neglabel",
    *,
    lexicon: AnyLexicon | None = None,
    corpus: str = "full",
    quantile: float = 0.95,
    keep: float = 0.15,
    max_cosine: float | None = None,
    templates: AnyTemplates | None = None,
    adjective_templates: AnyTemplates | None = None,
    synonyms: bool = True,
    seed: int = 0,
    batch_size: int = 256,
    cache: DiskCache | None = None,
    progress: Progress | None = None,
) -> TextBank:
    """The words of a lexicon that are least like the classes, as a bank: nouns first, then adjectives.

    The vectors of the lexicon are kept on disk by encoder, templates and words, a few thousand words an entry: a run
    that was interrupted goes on where it stopped, and another class list costs one matrix product.

    Args:
        encoder: encodes the candidates; the one that made the bank.
        bank: the classes as the detector will compare them; its vectors count, its names are left out.
        recipe: "neglabel" or "csp".
        lexicon: a Lexicon, a text file, or words; the WordNet that ships when None.
        corpus: of the WordNet that ships: "full", or "paper" for the words that the papers mined.
        quantile: see `select_negatives`.
        keep: share of the nouns and of the adjectives to keep, in (0, 1].
        max_cosine: candidates more like a class than this are never kept; by default the recipe's, 0.95 for csp.
        templates: of nouns; by default the recipe's.
        adjective_templates: of adjectives; by default the recipe's.
        synonyms: whether WordNet's synonyms of the class names are left out, too; the papers leave them in.
        seed: of csp's draw of a superclass for each adjective.
        batch_size: prompts in a forward pass.
        cache: where vectors of candidates are kept; by default a folder of the user's cache.
        progress: called with the number of prompts done since the last call.

    Raises:
        ParameterError, UnknownNameError, TemplateError: for a parameter.
        LexiconError: a word list that can't be used, or that is too short for `keep`.
        VectorError: a bank of another dimension than the encoder's.
    """
    plan = MiningPlan(
        recipe_named(recipe).changed(templates, adjective_templates, max_cosine),
        open_lexicon(lexicon, corpus),
        quantile,
        keep,
        synonyms,
        seed,
    )
    return mine(encoder, bank, plan, batch_size=batch_size, cache=cache, progress=progress).negatives


def mine(
    encoder: TextEncoder,
    bank: TextBank,
    plan: MiningPlan,
    *,
    batch_size: int = 256,
    cache: DiskCache | None = None,
    progress: Progress | None = None,
) -> Mining:
    """`mine_negatives` with all that there is to report about it."""
    if bank.dim != encoder.dim:
        raise VectorError(f"the bank has dimension {bank.dim}, {encoder.name} {encoder.dim}: encode with one encoder")
    store = CandidateStore(encoder, cache or candidate_cache(), batch_size, progress)
    names = naming_keys(bank.names, synonyms=plan.synonyms)
    parts = [
        mining
        for part in PARTS_OF_SPEECH
        if (entries := plan.lexicon.entries(part)) and (mining := _mine_part(store, bank, plan, part, entries, names))
    ]
    if not parts:
        raise LexiconError(
            f"keep={plan.keep:g} of {len(plan.lexicon)} candidates is none: raise keep or give more words"
        )
    return Mining(
        TextBank(
            tuple(name for part in parts for name in part.negatives.names),
            torch.cat([part.negatives.embeddings for part in parts]),
        ),
        tuple(file for part in parts for file in part.files),
        torch.cat([part.affinity for part in parts]),
        {file: count for part in parts for file, count in part.candidates.items()},
        tuple(word for part in parts for word in part.named),
    )


def open_lexicon(lexicon: AnyLexicon | None, corpus: str = "full") -> Lexicon:
    """A lexicon from whatever `mine_negatives` takes.

    Raises:
        LexiconError: a word list that can't be used.
    """
    if lexicon is None:
        return wordnet(corpus)
    if isinstance(lexicon, Lexicon):
        return lexicon
    if isinstance(lexicon, str | os.PathLike):
        if not Path(lexicon).exists():
            raise LexiconError(f"no word list at {lexicon}: give a text file with one word a line")
        return lexicon_from_file(lexicon)
    return lexicon_from_words(lexicon)


def _mine_part(
    store: CandidateStore,
    bank: TextBank,
    plan: MiningPlan,
    part: PartOfSpeech,
    entries: Sequence[Entry],
    names: frozenset[str],
) -> Mining | None:
    """The nouns or the adjectives; None when the share holds none of them."""
    phrases = [plan.recipe.phrase(entry.word, part, plan.seed) for entry in entries]
    free = torch.tensor([key(entry.word) not in names for entry in entries])
    count = floor(plan.keep * int(free.sum()))
    if not count:
        return None
    kept = least_similar(
        _masked(store.chunks(phrases, plan.recipe.templates[part]), free),
        bank.embeddings.to(store.encoder.device),
        count,
        plan.quantile,
        plan.recipe.max_cosine,
    )
    pool = list(compress(zip(phrases, entries, strict=True), free.tolist()))
    chosen = [pool[row] for row in kept.positions.tolist()]
    if not chosen:
        return None
    return Mining(
        TextBank(tuple(phrase for phrase, _ in chosen), kept.embeddings),
        tuple(entry.file for _, entry in chosen),
        kept.affinity.float(),
        Counter(entry.file for _, entry in pool),
        tuple(entry.word for entry, is_free in zip(entries, free.tolist(), strict=True) if not is_free),
    )


def _masked(chunks: Iterable[Float[Tensor, "_ d"]], mask: Bool[Tensor, " m"]) -> Iterator[Float[Tensor, "_ d"]]:
    start = 0
    for chunk in chunks:
        yield chunk[mask[start : start + len(chunk)]]
        start += len(chunk)
