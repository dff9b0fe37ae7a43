"""An encoder whose batches can be held open, and what tests need around it."""

import asyncio
import io
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Semaphore
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from service.engine import EngineSettings
from service.engine.decoding.arena import Block
from service.engine.decoding.memory import PixelMemory
from service.engine.schedule.clock import Clock
from service.engine.schedule.items import BatchKey, ImageItem
from tests.fakes import FakeEncoder
from vlm_ood.encoders.base import Progress
from vlm_ood.encoders.device import Precision
from vlm_ood.encoders.outputs import PATCHES, POOLED, Outputs
from vlm_ood.encoders.preprocessing import Preprocessing
from vlm_ood.images import Picture
from vlm_ood.types import ImageFeatures

POISON = (255, 0, 255)  # a picture of this colour fails in the network
DEADLY = (0, 255, 255)  # a picture of this colour ends the worker process
PARALYSING = (255, 255, 0)  # a picture of this colour hangs it
PATIENCE_S = 30.0


class Gate:
    """Holds the batches of a `GatedEncoder`.

    Attributes:
        batches: sizes of the image batches since `close` or the start.
        prompts: likewise, the numbers of prompts.
    """

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.prompts: list[int] = []
        self._open = Event()
        self._open.set()
        self._entered = Semaphore(0)

    def close(self) -> None:
        """The next pass waits inside the network."""
        self.batches.clear()
        self.prompts.clear()
        self._open.clear()

    def open(self) -> None:
        """Let everything through."""
        self._open.set()

    async def entered(self) -> None:
        """Until a pass waits inside the network."""
        assert await asyncio.to_thread(self._entered.acquire, timeout=PATIENCE_S)

    def go_through(self) -> None:
        """What the encoder does."""
        if not self._open.is_set():
            self._entered.release()
            assert self._open.wait(PATIENCE_S)


class GatedEncoder(FakeEncoder):
    """Goes through a gate with each batch, takes images of any size, and fails at the colour `POISON`."""

    capabilities = frozenset({"patches", "sizes"})

    def __init__(self, gate: Gate, name: str = "fake") -> None:
        super().__init__(name=name)
        self._gate = gate

    def encode_pixels(self, pixels: UInt8[Tensor, "n 3 h w"], outputs: Outputs = POOLED) -> ImageFeatures:
        self._gate.batches.append(len(pixels))
        self._gate.go_through()
        if has_colour(pixels, POISON):
            raise RuntimeError("poisoned")
        return super().encode_pixels(pixels, outputs)

    def encode_text(
        self,
        prompts: Sequence[str],
        *,
        normalise: bool = True,
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> Float[Tensor, "n d"]:
        self._gate.prompts.append(len(prompts))
        self._gate.go_through()
        return super().encode_text(prompts, normalise=normalise, batch_size=batch_size, progress=progress)


class MortalEncoder(FakeEncoder):
    """Takes images of any size; its process dies or hangs at two colours, as many times as a file says."""

    capabilities = frozenset({"patches", "sizes"})

    def encode_pixels(self, pixels: UInt8[Tensor, "n 3 h w"], outputs: Outputs = POOLED) -> ImageFeatures:
        lives = Path(os.environ["VLM_OOD_TEST_LIVES"])
        deadly, paralysing = has_colour(pixels, DEADLY), has_colour(pixels, PARALYSING)
        if (deadly or paralysing) and (left := int(lives.read_text())):
            lives.write_text(str(left - 1))
            os.kill(os.getpid(), signal.SIGKILL if deadly else signal.SIGSTOP)
        return super().encode_pixels(pixels, outputs)


@dataclass(frozen=True)
class GatedPreprocessing(Preprocessing):
    """Goes through a gate with each picture."""

    gate: Gate = field(default_factory=Gate)

    def __call__(self, picture: Picture) -> UInt8[Tensor, "3 rows columns"]:
        self.gate.go_through()
        return super().__call__(picture)


@dataclass(frozen=True)
class HostilePreprocessing(Preprocessing):
    """Does to its process what a hostile picture may make a native decoder do.

    Args:
        act: what it does.
        lives: a file that says how many times.
    """

    act: Literal["kill", "kill after writing", "stop", "spin", "allocate", "nothing"] = "nothing"
    lives: str = ""

    def __call__(self, picture: Picture) -> UInt8[Tensor, "3 rows columns"]:
        pixels = super().__call__(picture)
        if not (left := int(Path(self.lives).read_text())):
            return pixels
        Path(self.lives).write_text(str(left - 1))
        match self.act:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "kill after writing":
                return pixels.as_subclass(DeadlyTensor)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "spin":
                while True:
                    pass
            case "allocate":
                np.ones(2**30, np.uint8)
        return pixels


class DeadlyTensor(Tensor):
    """Ends the process when it has been copied."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]
        if func is Tensor.copy_:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


@dataclass(frozen=True, eq=False)
class Rows:
    """What `EchoHead` answers: an array with n rows."""

    values: npt.NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        return self.values.nbytes

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> "Rows":
        return Rows(self.values[rows])


@dataclass(frozen=True, eq=False)
class EchoHead:
    """Answers with the patches that it reads, or with the pooled vectors where there are none.

    Args:
        installs: grows by the digest with each installation in this process.
        broken: what it raises when it is installed; may be emptied.
        fails_on: a pooled vector at which it fails.
    """

    digest: str = "echo"
    outputs: Outputs = PATCHES
    nbytes: int = 100
    installs: list[str] = field(default_factory=list)
    broken: list[Exception] = field(default_factory=list)
    fails_on: npt.NDArray[np.float32] | None = None

    def on(self, device: torch.device) -> Callable[[ImageFeatures], Rows]:
        self.installs.append(self.digest)
        if self.broken:
            raise self.broken[0]
        return self._echo

    def _echo(self, features: ImageFeatures) -> Rows:
        if self.fails_on is not None and (features.pooled @ torch.from_numpy(self.fails_on) > 0.999).any():
            raise RuntimeError("the head fails")
        return Rows((features.pooled if features.patches is None else features.patches).numpy())


def load_mortal(name: str, device: str, dtype: Precision) -> MortalEncoder:
    """What a worker process imports."""
    return MortalEncoder(name=name)


def settings_with(gate: Gate, **changes: object) -> EngineSettings:
    """An engine in this process whose encoders go through the gate; one decoder keeps the order."""
    settings: dict[str, object] = {
        "encoders": ("fake", "other", "third"),
        "device": "cpu",
        "workers": "inline",
        "decode_processes": 1,
        "pixel_bytes": 2**20,
        "image_cache_bytes": 0,
        "restart_backoff_s": 0.0,
        "load": lambda name, device, dtype: GatedEncoder(gate, name),
    }
    return EngineSettings(**(settings | changes))  # type: ignore[arg-type]


def picture(colour: str | tuple[int, int, int], side: int = 16) -> bytes:
    """A PNG file of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "PNG")
    return file.getvalue()


def shades(n: int) -> list[bytes]:
    """n pictures, all different."""
    return [picture((row, 100, 50)) for row in range(n)]


def no_block() -> Block:
    """Of memory that there isn't."""
    return Block(PixelMemory(0), 0, (3, 1, 1), lambda: None)


def item(lane: object, key: BatchKey, *, deadline: float = float("inf"), cost: int = 1, tenant: str = "") -> ImageItem:
    """An image in the queue, with no pixels to speak of."""
    return ImageItem(key, lane, deadline, cost, tenant=tenant, pixels=no_block())


def has_colour(pixels: UInt8[Tensor, "n 3 h w"], colour: tuple[int, int, int]) -> bool:
    """Whether one of the pictures has it in its corner."""
    return bool((pixels[:, :, 0, 0] == torch.tensor(colour, dtype=torch.uint8)).all(dim=1).any())


class FakeClock(Clock):
    """Moved by the test; remembers the pauses."""

    def __init__(self) -> None:
        self.at, self.pauses = 0.0, list[float]()
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        super().__init__(lambda: self.at, self._sleep)

    async def advance(self, seconds: float) -> None:
        """Let this time pass, and everything happen that waits for it, in order."""
        end = self.at + seconds
        await settle()
        while due := [sleeper for sleeper in self._sleepers if sleeper[0] <= end]:
            sleeper = min(due, key=lambda each: each[0])
            self._sleepers.remove(sleeper)
            self.at = max(self.at, sleeper[0])
            if not sleeper[1].done():
                sleeper[1].set_result(None)
            await settle()
        self.at = end

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._sleepers.append((self.at + seconds, asyncio.get_running_loop().create_future()))
        await self._sleepers[-1][1]


async def settle() -> None:
    """Let every task run until it waits for something."""
    for _ in range(20):
        await asyncio.sleep(0)
