"""Files to features: decoding and preprocessing run ahead of the network, and a broken file stops nothing."""

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
    """What became of some files.

    Args:
        rows: which of the files were encoded, in order.
        features: of those, on the CPU.
        errors: {row of a file: why it failed}.
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
    """Encode files of any number and quality, in bounded memory but for the features themselves.

    Args:
        encoder: of images.
        files: paths, or the bytes of files.
        outputs: what to keep.
        limits: on a single file.
        batch_size: pictures in a forward pass; by default the encoder's own.
        workers: threads that decode and preprocess.
        progress: called with the number of files done since the last call, broken ones included.

    Raises:
        CapabilityError: something that this encoder can't give.
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
