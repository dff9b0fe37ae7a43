"""Encodes image files: threads decode and preprocess ahead of the network; a file that fails doesn't stop others."""

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import UInt8
from torch import Tensor

from vlm_ood.encoders.base import ImageEncoder, Progress
from vlm_ood.encoders.outputs import POOLED, Outputs
from vlm_ood.errors import ImageError, VectorError
from vlm_ood.images import ImageLimits, load_image
from vlm_ood.types import ImageFeatures

Source = str | os.PathLike[str] | bytes
Pixels = UInt8[Tensor, "3 h w"]

NOT_FINITE: Final = (
    "the network gave a vector that is not finite or has length zero: run the encoder in fp32, or leave the image out"
)


@dataclass(frozen=True, eq=False)
class EncodedFiles:
    """The features of those files that could be encoded, and the errors of the others.

    Args:
        rows: indices of the files that were encoded, ascending.
        features: one row for each of them, on the CPU.
        errors: {index of a file: why it could not be encoded}.
    """

    rows: tuple[int, ...]
    features: ImageFeatures
    errors: dict[int, ImageError]


def encode_files(
    encoder: ImageEncoder,
    files: Sequence[Source],
    outputs: Outputs = POOLED,
    *,
    limits: ImageLimits | None = None,
    batch_size: int | None = None,
    workers: int = 4,
    progress: Progress | None = None,
) -> EncodedFiles:
    """Encode any number of image files; apart from the features, the memory in use is bounded.

    Args:
        encoder: any image encoder.
        files: paths, or the bytes of files.
        outputs: what to keep of each image.
        limits: limits on each file.
        batch_size: images per forward pass; by default the encoder's own.
        workers: threads that decode and preprocess.
        progress: called with the number of files done since the last call, broken ones included.

    Raises:
        CapabilityError: `outputs` asks for something that this encoder can't give.
    """
    rows: list[int] = []
    kept: list[ImageFeatures] = []
    errors: dict[int, ImageError] = {}
    preprocessing = encoder.preprocessing_for(outputs)
    batch_size = batch_size or encoder.batch_size_for(outputs)

    def prepare(file: Source) -> Pixels | ImageError:
        try:
            return preprocessing(load_image(file, limits))
        except ImageError as error:
            return error

    def usable() -> Iterator[tuple[int, Pixels]]:
        prepared_files = encoder.prepare(prepare, files, batch_size=batch_size, workers=workers)
        for row, prepared in enumerate(prepared_files):
            if isinstance(prepared, ImageError):
                errors[row] = prepared
                if progress is not None:
                    progress(1)
            else:
                yield row, prepared

    def encode(batch: Sequence[tuple[int, Pixels]]) -> None:
        try:
            features = encoder.encode_batch([pixels for _, pixels in batch], outputs)
        except VectorError:
            if len(batch) == 1:
                errors[batch[0][0]] = ImageError(NOT_FINITE)
                return
            half = len(batch) // 2  # finds one image among n in about 2 log2(n) passes
            encode(batch[:half])
            encode(batch[half:])
        else:
            rows.extend(row for row, _ in batch)
            kept.append(features.to("cpu"))

    stream = usable()
    while batch := list(itertools.islice(stream, batch_size)):
        encode(batch)
        if progress is not None:
            progress(len(batch))
    features = ImageFeatures.concatenate(kept) if kept else ImageFeatures(torch.empty(0, encoder.dim))
    return EncodedFiles(tuple(rows), features, errors)
