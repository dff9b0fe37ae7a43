"""Mining negatives with the engine's text encoder: in a thread of its own, beside the requests."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from service.detectors.records import Negatives
from service.engine import EncoderInfo, Engine, EngineText
from service.threads import in_thread
from vlm_ood.errors import UnknownNameError
from vlm_ood.io.cache import DiskCache
from vlm_ood.lexicons import Lexicon, lexicon_from_words, wordnet
from vlm_ood.negatives import mine_negatives
from vlm_ood.types import TextBank

LEXICONS = ("wordnet-full", "wordnet-paper")


def lexicon_named(name: str) -> Lexicon:
    """A lexicon that ships.

    Raises:
        UnknownNameError: no such lexicon.
    """
    if name not in LEXICONS:
        raise UnknownNameError("lexicon", name, LEXICONS)
    return wordnet("full" if name == "wordnet-full" else "paper")


@dataclass(frozen=True)
class Miner:
    """Finds the words that are least like the classes.

    Args:
        engine: encodes the words.
        thread: one, so that mining takes turns.
        cache: where the vectors of words are kept: a lexicon is encoded once.
    """

    engine: Engine
    thread: ThreadPoolExecutor
    cache: DiskCache

    async def mine(self, asked: Negatives, encoder: EncoderInfo, classes: TextBank) -> TextBank:
        """The negatives.

        Raises:
            InputError: a lexicon or recipe that can't be used.
            EngineError: the engine can't answer now.
        """
        lexicon = lexicon_named(asked.lexicon) if asked.words is None else lexicon_from_words(asked.words)
        tower = EngineText(self.engine, encoder)
        return await in_thread(
            self.thread,
            lambda: mine_negatives(
                tower,
                classes,
                asked.recipe,
                lexicon=lexicon,
                quantile=asked.quantile,
                keep=asked.keep,
                cache=self.cache,
            ),
        )
