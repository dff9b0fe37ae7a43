"""From the bytes of a file to the input of a network, on threads of their own; Pillow frees the interpreter lock."""

import asyncio
import hashlib
import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Lock

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from service.engine.records import EncodedImage
from vlm_ood.encoders.preprocessing import Preprocessing
from vlm_ood.errors import ImageError
from vlm_ood.images import ImageLimits, load_image

BYTES_PER_PIXEL = 8  # Pillow keeps RGB in 4, and turning a picture upright makes a copy

LookUp = Callable[[str], EncodedImage | None]


@dataclass(frozen=True)
class Decoded:
    """A file after decoding.

    Args:
        sha256: of the file.
        content: pixels for the network, or the result that `look_up` had.
        seconds: spent on it.
    """

    sha256: str
    content: UInt8[Tensor, "3 h w"] | EncodedImage
    seconds: float


class DecodePool:
    """Threads that decode.

    Args:
        threads: how many.
        max_bytes: of pictures being decoded at the same moment; a larger one goes alone.
    """

    def __init__(self, threads: int, max_bytes: int, limits: ImageLimits) -> None:
        self.threads = threads
        self._limits = limits
        self._budget = ByteBudget(max_bytes)
        self._pool = ThreadPoolExecutor(threads, "decode")

    async def decode(self, content: bytes, preprocessing: Preprocessing, look_up: LookUp) -> Decoded:
        """The pixels, or what `look_up` finds under the file's SHA-256.

        Raises:
            ImageError: this picture can't be used.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._decode, content, preprocessing, look_up)

    def stop(self) -> None:
        """End the threads; files that wait are cancelled."""
        self._pool.shutdown(cancel_futures=True)

    def _decode(self, content: bytes, preprocessing: Preprocessing, look_up: LookUp) -> Decoded:
        start = time.perf_counter()
        sha256 = hashlib.sha256(content).hexdigest()
        known = look_up(sha256)
        found = self._prepare(content, preprocessing) if known is None else known
        return Decoded(sha256, found, time.perf_counter() - start)

    def _prepare(self, content: bytes, preprocessing: Preprocessing) -> UInt8[Tensor, "3 h w"]:
        with self._budget.hold(BYTES_PER_PIXEL * self._pixels_announced(content)):
            try:
                return preprocessing(load_image(content, self._limits))
            except ImageError:
                raise
            except Exception as error:
                raise ImageError(f"can't be prepared: {error or type(error).__name__}") from error

    def _pixels_announced(self, content: bytes) -> int:
        """Width times height by the header; 0 for a file that `load_image` is going to refuse."""
        try:
            with Image.open(io.BytesIO(content), formats=self._limits.formats) as image:
                pixels = image.width * image.height
        except Exception:
            return 0
        return pixels if pixels <= self._limits.max_pixels else 0


class ByteBudget:
    """A limit on bytes held at once, first come, first served; a claim above the limit waits until all are free."""

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._turn = Lock()
        self._freed = Condition()

    @contextmanager
    def hold(self, nbytes: int) -> Iterator[None]:
        """Wait until there is room for so many bytes, and hold them in the context."""
        share = min(nbytes, self._total)
        with self._turn, self._freed:
            self._freed.wait_for(lambda: self._free >= share)
            self._free -= share
        try:
            yield
        finally:
            with self._freed:
                self._free += share
                self._freed.notify_all()
