"""Mine negatives: encode a lexicon once, then choose from it for any class list with one matrix product."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress
from math import floor
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vlm_ood.encoders.base import Progress, TextEncoder
from vlm_ood.errors import LexiconError, ParameterError, VectorError
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
    part_of_speech,
    wordnet,
)
from vlm_ood.negatives.candidates import CandidateStore, candidate_cache
from vlm_ood.negatives.recipes import AnyTemplates, Recipe, check_draw, recipe_named
from vlm_ood.negatives.select import check_shares, least_similar, most_similar
from vlm_ood.types import TextBank

AnyLexicon = Lexicon | str | os.PathLike[str] | Sequence[str]


@dataclass(frozen=True)
class MiningPlan:
    """What to choose from, and how.

    Args:
        recipe: which files and prompts.
        lexicon: the words; files that the recipe leaves out are taken away.
        quantile: in [0, 1], of a candidate's cosines to the classes, which is its affinity; 1 is their maximum.
        keep: share of the nouns and of the adjectives to keep, those of least affinity, in (0, 1].
        synonyms: whether WordNet's synonyms of the class names are left out, too.
        seed: of csp's draw of a superclass for each adjective.
        draw: how that draw goes; `Recipe.phrases` explains it.
        overlap: as what a word counts that is noun and adjective: it decides its templates and its share.
        class_neighbours: how many of the candidates nearest to each class count as classes too; `Mining.classes` has
            them. NegLabel's code calls it `pos_topk`.

    Raises:
        ParameterError: a number out of its range.
        UnknownNameError: a `draw` or an `overlap` that doesn't exist.
    """

    recipe: Recipe
    lexicon: Lexicon
    quantile: float = 0.95
    keep: float = 0.15
    synonyms: bool = True
    seed: int = 0
    draw: str = "by_word"
    overlap: str = "noun"
    class_neighbours: int = 0

    def __post_init__(self) -> None:
        check_shares(self.quantile, self.keep)
        check_draw(self.draw)
        if self.class_neighbours < 0:
            raise ParameterError(f"class_neighbours={self.class_neighbours}: give 0 or more")
        lexicon = replace(self.lexicon.without(self.recipe.without), overlap=part_of_speech(self.overlap))
        object.__setattr__(self, "lexicon", lexicon)

    @property
    def prompts(self) -> int:
        """How many prompts the lexicon makes, each passage over them counted; what `progress` adds up to."""
        once = sum(len(self.lexicon.entries(part)) * len(self.recipe.templates[part]) for part in PARTS_OF_SPEECH)
        return once * (2 if self.class_neighbours else 1)


@dataclass(frozen=True, eq=False)
class Mining:
    """What was chosen, and out of what.

    Args:
        negatives: nouns before adjectives, each least like the classes first.
        files: the lexicographer file of each.
        affinity: (m,), of each to the classes, in [-1, 1].
        candidates: {lexicographer file: words that could have been chosen}.
        named: words left out because they name a class.
        classes: what the candidates were compared with: the classes, and after them the words nearest to each when
            `class_neighbours` asks for them. NegLabel's code scores with these as well: give them as the task's
            classes for the same score.
    """

    negatives: TextBank
    files: tuple[str, ...]
    affinity: Float[Tensor, " m"]
    candidates: Mapping[str, int]
    named: tuple[str, ...]
    classes: TextBank


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
    draw: str = "by_word",
    overlap: str = "noun",
    class_neighbours: int = 0,
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
        quantile: in [0, 1], of a candidate's cosines to the classes, which is its affinity; 1 is their maximum.
        keep: share of the nouns and of the adjectives to keep, those of least affinity, in (0, 1].
        max_cosine: candidates more like a class than this are never kept; by default the recipe's, 0.95 for csp.
        templates: of nouns; by default the recipe's. "csp_sketch" is what CSP has for sketches.
        adjective_templates: of adjectives; by default the recipe's.
        synonyms: whether WordNet's synonyms of the class names are left out, too; the papers leave them in.
        seed: of csp's draw of a superclass for each adjective.
        draw: "by_word", so that a superclass stays when the lexicon changes, or "in_turn", as the authors' code draws.
        overlap: what a word counts as that is noun and adjective: "noun", or "adj" as in nearly all of the negatives
            that NegLabel's authors released (406 of 408 such words), which their order of files decided.
        class_neighbours: how many of the candidates nearest to each class count as classes too, for the affinities of
            all candidates. NegLabel's code (`pos_topk`) also scores with them: `mine` returns them.
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
        draw,
        overlap,
        class_neighbours,
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
    """Negatives by a plan, with all that there is to report about them.

    Args:
        encoder: encodes the candidates; the one that made the bank.
        bank: the classes.
        plan: what to choose from, and how.
        batch_size: prompts in a forward pass.
        cache: where vectors of candidates are kept; by default a folder of the user's cache.
        progress: called with the number of prompts done since the last call; they add up to `plan.prompts`.

    Raises:
        LexiconError: a lexicon that is too short for the plan's `keep`.
        VectorError: a bank of another dimension than the encoder's.
    """
    if bank.dim != encoder.dim:
        raise VectorError(f"the bank has dimension {bank.dim}, {encoder.name} {encoder.dim}: encode with one encoder")
    store = CandidateStore(encoder, cache or candidate_cache(), batch_size, progress)
    names = naming_keys(bank.names, synonyms=plan.synonyms)
    pools = [_pool(store, plan, part, names) for part in PARTS_OF_SPEECH if plan.lexicon.entries(part)]
    classes = _with_neighbours(bank.to(encoder.device), pools, plan.class_neighbours)
    parts = [mining for pool in pools if (mining := _mine_part(pool, classes, plan))]
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
        classes,
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
            raise LexiconError(f"no word list at {lexicon}: give a text file with one word per line")
        return lexicon_from_file(lexicon)
    return lexicon_from_words(lexicon)


@dataclass(frozen=True)
class _Pool:
    """The candidates of one part of speech, those that name a class taken out.

    Args:
        entries: in the order of the lexicon.
        phrases: of each.
        named: words that were taken out.
        chunks: gives the vectors in order, a chunk at a time; can be called again.
    """

    entries: tuple[Entry, ...]
    phrases: tuple[str, ...]
    named: tuple[str, ...]
    chunks: Callable[[], Iterator[Float[Tensor, "_ d"]]]


def _pool(store: CandidateStore, plan: MiningPlan, part: PartOfSpeech, names: frozenset[str]) -> _Pool:
    entries = plan.lexicon.entries(part)
    phrases = plan.recipe.phrases([entry.word for entry in entries], part, plan.seed, plan.draw)
    free = torch.tensor([key(entry.word) not in names for entry in entries])
    kept = free.tolist()
    return _Pool(
        tuple(compress(entries, kept)),
        tuple(compress(phrases, kept)),
        tuple(entry.word for entry, is_free in zip(entries, kept, strict=True) if not is_free),
        lambda: _masked(store.chunks(phrases, plan.recipe.templates[part]), free),
    )


def _with_neighbours(bank: TextBank, pools: Sequence[_Pool], count: int) -> TextBank:
    """The bank, and after it each candidate that is among the `count` nearest to one of its classes, once."""
    if not count:
        return bank
    rows, vectors = most_similar(chain.from_iterable(pool.chunks() for pool in pools), bank.embeddings, count)
    phrases = [phrase for pool in pools for phrase in pool.phrases]
    names = (*bank.names, *(phrases[row] for row in rows))
    return TextBank(names, torch.cat([bank.embeddings, vectors]))


def _mine_part(pool: _Pool, classes: TextBank, plan: MiningPlan) -> Mining | None:
    """The negatives among the candidates; None when the share holds none of them."""
    count = floor(plan.keep * len(pool.entries))
    if not count:
        return None
    kept = least_similar(pool.chunks(), classes.embeddings, count, plan.quantile, plan.recipe.max_cosine)
    chosen = kept.positions.tolist()
    if not chosen:
        return None
    return Mining(
        TextBank(tuple(pool.phrases[row] for row in chosen), kept.embeddings),
        tuple(pool.entries[row].file for row in chosen),
        kept.affinity.float(),
        Counter(entry.file for entry in pool.entries),
        pool.named,
        classes,
    )


def _masked(chunks: Iterable[Float[Tensor, "_ d"]], mask: Bool[Tensor, " m"]) -> Iterator[Float[Tensor, "_ d"]]:
    start = 0
    for chunk in chunks:
        yield chunk[mask[start : start + len(chunk)]]
        start += len(chunk)
