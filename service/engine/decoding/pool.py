"""All decoders: each takes the next picture, and one that is lost is replaced."""

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from service.engine.decoding.arena import Block, PixelArena
from service.engine.decoding.base import DecodeLimits, Decoder, DecoderLostError, Picture
from service.engine.decoding.inline import InlineDecoder
from service.engine.decoding.line import Line
from service.engine.decoding.memory import PixelMemory
from service.engine.decoding.process import FORK_SERVER, DecoderProcess
from service.engine.errors import Draining, EngineError
from service.engine.metrics import EngineMetrics
from service.engine.records import EncodedImage
from service.engine.settings import START_ATTEMPTS, EngineSettings, cores
from service.engine.stopped import Killable
from vlm_ood.encoders.preprocessing import Preprocessing
from vlm_ood.errors import ImageError, VlmOodError

ATTEMPTS: Final = 2  # for a picture whose decoder dies: it need not be the picture's fault
HASHED_HERE_BYTES: Final = 2**18  # SHA-256 of so much takes less than a change of threads and back

LookUp = Callable[[str], EncodedImage | None]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoded:
    """A file after decoding.

    Args:
        sha256: of the file.
        content: pixels for the network, to be released by the caller, or the result that `look_up` had.
        seconds: spent on it.
    """

    sha256: str
    content: Block | EncodedImage
    seconds: float


class DecodePool:
    """Decoders in processes of their own, or in threads when `workers` is "inline"; used on one event loop.

    Args:
        memory: for pixels, opened and closed by the caller.

    Attributes:
        size: pictures decoded at once.
        arena: of the memory, from `start` on.
        lanes: one for each decoder, from `start` on.
    """

    def __init__(self, settings: EngineSettings, memory: PixelMemory, metrics: EngineMetrics) -> None:
        self._settings, self._memory, self.metrics = settings, memory, metrics
        self.size = settings.decode_processes or cores()
        self.arena = PixelArena(memory)
        self.lanes: list[Lane] = []
        self._limits = DecodeLimits(
            settings.image_limits, settings.decode_cpu_s, settings.decode_memory_bytes, settings.decode_timeout_s
        )
        self._line = Line(self.arena)
        self._tasks: list[asyncio.Task[None]] = []
        self._executor = ThreadPoolExecutor(1 if settings.workers == "process" else self.size, "decode")

    async def start(self) -> None:
        """Return when one decoder is ready; the others follow.

        Raises:
            EngineError: it can't be started.
        """
        self.arena = PixelArena(self._memory)
        self._line = Line(self.arena)
        self.lanes = [Lane(self._make, self._line, self.metrics, self._settings) for _ in range(self.size)]
        try:
            await self.lanes[0].living(START_ATTEMPTS)
        except (OSError, DecoderLostError) as error:
            raise EngineError(f"no decoder process can be started: {error}") from error
        self._tasks = [asyncio.create_task(lane.run()) for lane in self.lanes]

    async def stop(self) -> None:
        """End the decoders now; what is not decoded fails."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for picture in self._line.clear():
            _fail(picture, _stopped(self._settings))
        self._executor.shutdown(wait=False)

    async def decode(
        self,
        content: bytes,
        preprocessing: Preprocessing,
        look_up: LookUp,
        *,
        tenant: str = "",
        until: float = math.inf,
    ) -> Decoded:
        """The pixels, or what `look_up` finds under the file's SHA-256; tenants take turns. `until` as of `Picture`.

        Raises:
            ImageError: this picture can't be used.
        """
        start = time.perf_counter()
        sha256 = await _sha256(content)
        hashing_s = time.perf_counter() - start
        known = look_up(sha256)
        if known is not None:
            return Decoded(sha256, known, hashing_s)
        picture = Picture(content, preprocessing, tenant, until)
        return Decoded(sha256, await self.pixels(picture), hashing_s + picture.seconds)

    async def pixels(self, picture: Picture) -> Block:
        """Its pixels; the caller releases them.

        Raises:
            ImageError: this picture can't be used.
        """
        self.arena.require(picture.shape)
        self._line.put(picture)
        try:
            return await picture.pixels
        except asyncio.CancelledError:  # it may have come at the moment when the pixels came
            self._line.remove(picture)
            if not picture.pixels.cancelled() and picture.pixels.exception() is None:
                picture.pixels.result().release()
            raise

    def processes(self) -> list[Killable]:
        """Those of the decoders, and the one that forks them."""
        found: list[Killable] = [lane.decoder for lane in self.lanes if isinstance(lane.decoder, DecoderProcess)]
        return [*found, FORK_SERVER] if self._settings.workers == "process" else found

    def _make(self) -> Decoder:
        if self._settings.workers == "process":
            return DecoderProcess(self._memory, self._limits, self._executor)
        return InlineDecoder(self._limits.image, self._executor)


class Lane:
    """One decoder after another.

    Args:
        make: a new decoder.
        line: pictures that wait.

    Attributes:
        decoder: the one that lives; None between two.
    """

    def __init__(
        self,
        make: Callable[[], Decoder],
        line: Line,
        metrics: EngineMetrics,
        settings: EngineSettings,
    ) -> None:
        self._make, self._line = make, line
        self._metrics, self._settings = metrics, settings
        self.decoder: Decoder | None = None

    async def living(self, attempts: int | None = None) -> Decoder:
        """The decoder, or a new one; the pauses between attempts to start one grow.

        Raises:
            DecoderLostError, OSError: so many attempts failed.
        """
        failures = 0
        while self.decoder is None:
            try:
                self.decoder = await self._started()
            except (OSError, DecoderLostError) as error:
                log.warning("a decoder could not be started: %r", error)
                if failures + 1 == attempts:
                    raise
                await asyncio.sleep(self._settings.pause_s(failures))
                failures += 1
        return self.decoder

    async def run(self) -> None:
        """Decode what comes, until cancelled."""
        try:
            while True:
                await self.living()
                picture, block = await self._line.next()
                try:
                    await self._serve(picture, block)
                finally:
                    self._line.done(picture)
        finally:
            await self._end()

    async def _serve(self, picture: Picture, block: Block) -> None:
        try:
            await self._decode(picture, block)
        except asyncio.CancelledError:
            _fail(picture, _stopped(self._settings))
            raise
        except Exception as error:  # of any class: a lane that ends is lost for good
            _fail(picture, error if isinstance(error, VlmOodError) else ImageError(f"can't be decoded: {error!r}"))
        else:
            if picture.pixels.done():
                block.release()
            else:
                picture.pixels.set_result(block)

    async def _decode(self, picture: Picture, block: Block) -> None:
        start = time.perf_counter()
        try:
            if not picture.pixels.done():
                await self._write(picture, block)
        except BaseException:
            block.release()
            raise
        finally:
            picture.seconds = time.perf_counter() - start

    async def _write(self, picture: Picture, block: Block) -> None:
        """Have it decoded, by another decoder when one dies; afterwards nothing writes into the block."""
        for attempt in range(1, ATTEMPTS + 1):
            decoder = await self.living()
            try:
                await decoder.decode(picture, block)
                break
            except DecoderLostError as lost:
                self._metrics.decoders_lost.labels(lost.reason).inc()
                await self._end()
                if lost.reason != "crash" or attempt == ATTEMPTS:
                    raise lost.error from lost
            except asyncio.CancelledError:
                await self._end()
                raise

    async def _started(self) -> Decoder:
        decoder = self._make()
        try:
            await decoder.start()
        except BaseException:
            await decoder.end()
            raise
        return decoder

    async def _end(self) -> None:
        decoder, self.decoder = self.decoder, None
        if decoder is not None:
            await decoder.end()


async def _sha256(content: bytes) -> str:
    if len(content) <= HASHED_HERE_BYTES:
        return hashlib.sha256(content).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(content).hexdigest())


def _fail(picture: Picture, error: VlmOodError) -> None:
    if not picture.pixels.done():
        picture.pixels.set_exception(error)


def _stopped(settings: EngineSettings) -> VlmOodError:
    return Draining("the server stopped before this was done", settings.drain_s)
