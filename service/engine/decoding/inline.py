"""A decoder in threads of this process, for tests and small set-ups: nothing but the limits on files holds it."""

import asyncio
from concurrent.futures import Executor

from service.engine.decoding.arena import Block
from service.engine.decoding.base import Picture
from vlm_ood.errors import ImageError
from vlm_ood.images import ImageLimits, load_image


class InlineDecoder:
    """A `Decoder` on the threads of an executor."""

    def __init__(self, limits: ImageLimits, executor: Executor) -> None:
        self._limits, self._executor = limits, executor

    async def start(self) -> None:
        """Nothing to do."""

    async def decode(self, picture: Picture, block: Block) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, self._decode, picture, block)

    async def end(self) -> None:
        """A thread can't be ended."""

    def _decode(self, picture: Picture, block: Block) -> None:
        try:
            block.pixels().copy_(picture.preprocessing(load_image(picture.content, self._limits)))
        except ImageError:
            raise
        except Exception as error:
            raise ImageError(f"can't be prepared: {error or type(error).__name__}") from error
