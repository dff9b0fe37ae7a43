"""What every encoder is: images or prompts in, unit vectors of one joint space out."""

import itertools
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vlm_ood.encoders.outputs import POOLED, Capability, Outputs
from vlm_ood.encoders.preprocessing import Preprocessing
from vlm_ood.encoders.text_tower import TextTower
from vlm_ood.errors import CapabilityError, VectorError
from vlm_ood.images import Picture
from vlm_ood.types import ImageFeatures

Progress = Callable[[int], object]

A = TypeVar("A")
B = TypeVar("B")


class ImageEncoder(ABC):
    """A network that gives vectors of images.

    Attributes:
        name: what `load_encoder` was given.
        digest: of weights, architecture, precision and preprocessing; vectors with equal digests may be mixed.
        dim: d, length of the joint space.
        scale: what the model multiplies cosines with, exp(logit_scale); 100 for CLIP.
        device: where the network runs.
        dtype: in which the network runs; features are fp32 whatever it is.
        batch_size: images in a forward pass at which this network is fastest on this device.
        preprocessing: from an image to pixels, at the network's own size.
        capabilities: what this architecture gives beyond pooled features.
    """

    name: str
    digest: str
    dim: int
    scale: float
    device: torch.device
    dtype: torch.dtype
    batch_size: int
    preprocessing: Preprocessing
    capabilities: frozenset[Capability] = frozenset()

    @abstractmethod
    def encode_pixels(self, pixels: UInt8[Tensor, "n 3 h w"], outputs: Outputs = POOLED) -> ImageFeatures:
        """One forward pass over a batch of preprocessed images; the features are on `device`.

        Args:
            pixels: from `preprocessing_for(outputs)`, on any device.
            outputs: what to return; nothing else is.

        Raises:
            CapabilityError: something that this architecture can't give.
            VectorError: pixels of another size than is asked for, or an image whose vectors are not finite.
        """

    def encode_images(
        self,
        images: Iterable[Picture],
        outputs: Outputs | None = None,
        *,
        patches: bool = False,
        batch_size: int | None = None,
        workers: int = 4,
        progress: Progress | None = None,
    ) -> ImageFeatures:
        """Features of the images, in order, on `device`; preprocessing runs ahead of the network.

        Args:
            images: PIL images of any mode, or uint8 arrays (h, w, 3) in RGB.
            outputs: what to return; by default pooled vectors.
            patches: short for `outputs=PATCHES`; with other outputs, patches as well.
            batch_size: images in a forward pass; by default the encoder's own.
            workers: threads that preprocess.
            progress: called with the number of images done since the last call.

        Raises:
            ImageError: an image without pixels or an array of another kind.
            CapabilityError: something that this architecture can't give.
            VectorError: no images, or an image whose vectors are not finite; `encode_files` leaves such images out.
        """
        wanted = outputs or POOLED
        if patches:
            wanted = replace(wanted, patches=True)
        size = batch_size or self.batch_size_for(wanted)
        pixels = self.prepare(self.preprocessing_for(wanted), images, batch_size=size, workers=workers)
        return ImageFeatures.concatenate(list(self.encode_batches(pixels, wanted, batch_size=size, progress=progress)))

    def preprocessing_for(self, outputs: Outputs) -> Preprocessing:
        """From an image to pixels of the size that is asked for.

        Raises:
            CapabilityError: something that this architecture can't give.
        """
        self.require(outputs)
        return self.preprocessing if outputs.size is None else self.preprocessing.at(outputs.size)

    def batch_size_for(self, outputs: Outputs) -> int:
        """Images in a forward pass: about as many pixels as `batch_size` images of the own size hold; at least 1."""
        if outputs.size is None:
            return self.batch_size
        own, asked = self.preprocessing.height * self.preprocessing.width, outputs.size[0] * outputs.size[1]
        return max(1, self.batch_size * own // asked)

    def prepare(
        self, function: Callable[[A], B], items: Iterable[A], *, batch_size: int | None = None, workers: int = 4
    ) -> Iterator[B]:
        """`map` in threads, in order, for whatever comes before the network: decoding, preprocessing.

        Beside a GPU it runs two batches ahead. On a CPU it does a batch at a time and rests during the forward pass: a
        thread that takes a core from the network makes all its other cores wait, which cost 7 % of the speed, not 3 %.
        """
        size = batch_size or self.batch_size
        if self.device.type != "cpu":
            return run_ahead(function, items, workers=workers, ahead=2 * size)
        return run_in_groups(function, items, workers=workers, size=size)

    def encode_batches(
        self,
        pixels: Iterable[UInt8[Tensor, "3 h w"]],
        outputs: Outputs = POOLED,
        *,
        batch_size: int | None = None,
        progress: Progress | None = None,
    ) -> Iterator[ImageFeatures]:
        """Features of a stream of preprocessed images, a batch at a time; memory doesn't grow with the stream."""
        stream = iter(pixels)
        while batch := list(itertools.islice(stream, batch_size or self.batch_size_for(outputs))):
            yield self.encode_batch(batch, outputs)
            if progress is not None:
                progress(len(batch))

    def encode_batch(self, pixels: Sequence[UInt8[Tensor, "3 h w"]], outputs: Outputs = POOLED) -> ImageFeatures:
        """One forward pass over preprocessed images, at least one, which are stacked and moved to the device.

        Raises:
            CapabilityError: something that this architecture can't give.
            VectorError: pixels of another size than is asked for, or an image whose vectors are not finite.
        """
        return self.encode_pixels(self._to_device(torch.stack(list(pixels))), outputs)

    def require(self, outputs: Outputs) -> None:
        """Check that this encoder can give what is asked for.

        Raises:
            CapabilityError: it can't; the message names what is missing and what there is.
        """
        outputs.check(self.name, self.capabilities)
        refusal = self.refusal(outputs)
        if refusal:
            raise CapabilityError(f"{self.name} {refusal}")

    def refusal(self, outputs: Outputs) -> str | None:
        """What is wrong with the numbers in `outputs`, such as a block that isn't there; None when nothing is."""
        return None

    def check(self, pixels: UInt8[Tensor, "n 3 h w"], outputs: Outputs) -> None:
        """Check what `encode_pixels` was given.

        Raises:
            CapabilityError: something that this encoder can't give.
            VectorError: pixels of another size than is asked for.
        """
        preprocessing = self.preprocessing_for(outputs)
        expected, got = (preprocessing.height, preprocessing.width), tuple(pixels.shape[2:])
        if got != expected:
            raise VectorError(
                f"pixels of {got[0]}x{got[1]}, but {self.name} was asked for {expected[0]}x{expected[1]}: prepare them "
                "with encoder.preprocessing_for(outputs)"
            )

    def _to_device(self, pixels: Tensor) -> Tensor:
        """Pinned, so that the copy overlaps the kernels of the batch before."""
        if self.device.type == "cuda":
            return pixels.pin_memory().to(self.device, non_blocking=True)
        return pixels.to(self.device)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} d={self.dim} {self.device} {self.dtype}>"


class TextEncoder(ABC):
    """A network that gives vectors of sentences.

    Attributes:
        name: what `load_encoder` was given.
        digest: of weights, architecture and precision; vectors with equal digests may be mixed.
        dim: d, length of the joint space.
        device: where the vectors are.
    """

    name: str
    digest: str
    dim: int
    device: torch.device

    @abstractmethod
    def encode_text(
        self,
        prompts: Sequence[str],
        *,
        normalise: bool = True,
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> Float[Tensor, "n d"]:
        """fp32 vectors of the prompts, in order, on `device`.

        Args:
            prompts: whole sentences; longer ones than the context are cut at its end, as the tokenizer does.
            normalise: whether to bring each vector to length 1.
            batch_size: prompts in a forward pass.
            progress: called with the number of prompts done since the last call.
        """

    def text_tower(self) -> TextTower:
        """The network itself, which also takes token embeddings, for tuning prompts or training a copy; frozen.

        Raises:
            CapabilityError: an encoder without "text_gradients".
        """
        raise CapabilityError(f"{self.name} gives no text_gradients: its text network takes no token embeddings")


class Encoder(ImageEncoder, TextEncoder):
    """Two networks that meet in one space of images and sentences."""


def run_in_groups(function: Callable[[A], B], items: Iterable[A], *, workers: int, size: int) -> Iterator[B]:
    """`map` in threads, in order, `size` items at once and nothing between two groups."""
    stream = iter(items)
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        while group := list(itertools.islice(stream, size)):
            yield from list(pool.map(function, group))


def run_ahead(function: Callable[[A], B], items: Iterable[A], *, workers: int, ahead: int) -> Iterator[B]:
    """`map` in threads, in order, never more than `ahead` results waiting; Pillow frees the interpreter lock."""
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        waiting: deque[Future[B]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= max(1, ahead):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
