"""Mining negatives with the engine's text encoder: in a thread of its own, beside the requests."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from service.detectors.records import Negatives
from service.engine import EncoderInfo, Engine
from service.threads import in_thread
from vlm_ood.encoders.base import Encoder, Progress
from vlm_ood.errors import CapabilityError, UnknownNameError
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
        tower = EngineText(self.engine, encoder, asyncio.get_running_loop())
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


class EngineText(Encoder):
    """The engine's text tower, for code that wants an encoder and runs in a thread."""

    def __init__(self, engine: Engine, info: EncoderInfo, loop: asyncio.AbstractEventLoop) -> None:
        self.name, self.digest, self.dim, self.scale = info.name, info.digest, info.dim, info.scale
        self.device, self.batch_size, self.preprocessing = torch.device("cpu"), info.batch_size, info.preprocessing
        self.dtype = torch.float32
        self._engine = engine
        self._loop = loop

    def encode_text(
        self,
        prompts: Sequence[str],
        *,
        normalise: bool = True,
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> Float[Tensor, "n d"]:
        """fp32 vectors of the prompts; asked for in pieces, so that the images of others pass between them."""
        pieces = []
        for start in range(0, len(prompts), batch_size):
            piece = list(prompts[start : start + batch_size])
            asked = self._engine.encode_text(self.name, piece, normalise=normalise)
            pieces.append(asyncio.run_coroutine_threadsafe(asked, self._loop).result())
            if progress is not None:
                progress(len(piece))
        return torch.cat(pieces)

    def encode_pixels(self, pixels: Any, *, patches: bool = False, stages: Sequence[int] = ()) -> NoReturn:
        """Not here: images go through the engine's queue."""
        raise CapabilityError("this is a text tower alone")
