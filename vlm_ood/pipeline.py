"""Encodes image files: threads decode and preprocess ahead of the network; a broken file doesn't stop the others."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from vlm_ood.encoders.base import ImageEncoder, Progress
from vlm_ood.encoders.outputs import POOLED, Outputs
from vlm_ood.errors import ImageError
from vlm_ood.images import ImageLimits, load_image
from vlm_ood.types import ImageFeatures

Source = str | os.PathLike[str] | bytes


@dataclass(frozen=True, eq=False)
class EncodedFiles:
    """The features of those files that could be read, and the errors of the others.

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
    errors: dict[int, ImageError] = {}
    preprocessing = encoder.preprocessing_for(outputs)
    batch_size = batch_size or encoder.batch_size_for(outputs)

    def prepare(file: Source) -> UInt8[Tensor, "3 h w"] | ImageError:
        try:
            return preprocessing(load_image(file, limits))
        except ImageError as error:
            return error

    def usable() -> Iterator[UInt8[Tensor, "3 h w"]]:
        prepared_files = encoder.prepare(prepare, files, batch_size=batch_size, workers=workers)
        for row, prepared in enumerate(prepared_files):
            if isinstance(prepared, ImageError):
                errors[row] = prepared
                if progress is not None:
                    progress(1)
            else:
                rows.append(row)
                yield prepared

    batches = encoder.encode_batches(usable(), outputs, batch_size=batch_size, progress=progress)
    kept = [batch.to("cpu") for batch in batches]
    features = ImageFeatures.concatenate(kept) if kept else ImageFeatures(torch.empty(0, encoder.dim))
    return EncodedFiles(tuple(rows), features, errors)
