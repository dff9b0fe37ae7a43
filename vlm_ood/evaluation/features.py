"""Features of image files, a part at a time, kept on disk.

A part is found again by the bytes of its files and the digest of the encoder, not by path and time: reading a file is
a hundredth of the work of encoding it, a data set may be moved, copied or checked out anew without being encoded
again, and an image that changed under an old name and date is never mistaken for the old one.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from vlm_ood.digests import digest_of
from vlm_ood.encoders.base import ImageEncoder, Progress
from vlm_ood.encoders.outputs import PATCHES, POOLED, Outputs
from vlm_ood.evaluation.datasets import FileSet
from vlm_ood.evaluation.records import FeatureSet, Part
from vlm_ood.images import ImageLimits
from vlm_ood.io.cache import DiskCache, cache_folder
from vlm_ood.io.vectors import load_features, pack_features, unpack_features
from vlm_ood.pipeline import encode_files

POOLED_ENTRY: Final = ("rows", "features", "errors")  # the tensors of the entry that every run reads
PART: Final = 256  # files: what an interrupted run has to do again; patch features of one part take about 100 MB
LARGE_PART: Final = 16  # files, with stages, windows or another size: four stages of ViT-L at 518 pixels take 22 MB


def feature_cache() -> DiskCache:
    """Where features of evaluated images are kept; the least recently used go beyond 8 GiB."""
    return DiskCache(cache_folder() / "features", max_bytes=8 * 2**30)


def encode_parts(
    encoder: ImageEncoder,
    files: FileSet,
    outputs: Outputs = POOLED,
    *,
    cache: DiskCache | None = None,
    limits: ImageLimits | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Part]:
    """The set in parts, encoded or read from disk; files that can't be read are errors of their part.

    Args:
        encoder: of images.
        files: the set.
        outputs: what to keep.
        cache: where to look and to store; None for nowhere.
        limits: on a single file.
        batch_size: images in a forward pass; by default the encoder's own.
        progress: called with the number of files done since the last call.
    """
    limits = limits or ImageLimits()
    size = PART if outputs in {POOLED, PATCHES} else min(PART, LARGE_PART)
    for start in range(0, len(files), size):
        chunk = files.files[start : start + size]
        keys = _keys(encoder, chunk, outputs, limits) if cache else None
        kept = _look_up(cache, keys) if cache and keys else None
        if kept is None:
            kept = _encode(encoder, chunk, outputs, limits, batch_size, progress)
            if cache and keys:
                _store(cache, keys, kept)
        elif progress is not None:
            progress(len(chunk))
        yield _part(files, start, kept)


def _keys(encoder: ImageEncoder, chunk: Sequence[Path], outputs: Outputs, limits: ImageLimits) -> list[str] | None:
    """Of the pooled features, and of all else that is wanted, so that a pooled run reads what one with patches kept.

    None when a file can't be read now, which may be mended by the next run.
    """
    with ThreadPoolExecutor(max_workers=4) as pool:
        prints = list(pool.map(lambda file: _fingerprint(file, limits.max_bytes), chunk))
    if None in prints:
        return None
    kinds = [Outputs(size=outputs.size), *([outputs] if outputs.local else [])]
    return [digest_of("features", kind.plain(), encoder.digest, asdict(limits), prints) for kind in kinds]


def _look_up(cache: DiskCache, keys: Sequence[str]) -> dict[str, Tensor] | None:
    kept: dict[str, Tensor] = {}
    for key in keys:
        found = cache.get(key)
        if found is None:
            return None
        kept |= found
    return kept


def _store(cache: DiskCache, keys: Sequence[str], kept: dict[str, Tensor]) -> None:
    pooled, *local = keys
    cache.put(pooled, {name: kept[name] for name in POOLED_ENTRY})
    for key in local:
        cache.put(key, {name: tensor for name, tensor in kept.items() if name not in POOLED_ENTRY})


def _fingerprint(file: Path, max_bytes: int) -> str | None:
    """Of the bytes, or of the size alone where the file is refused for it; None where it can't be read."""
    try:
        if not file.is_file():
            return None
        size = file.stat().st_size
        if size > max_bytes:
            return f"{size} bytes"
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return None


def _encode(
    encoder: ImageEncoder,
    chunk: Sequence[Path],
    outputs: Outputs,
    limits: ImageLimits,
    batch_size: int | None,
    progress: Progress | None,
) -> dict[str, Tensor]:
    encoded = encode_files(encoder, chunk, outputs, limits=limits, batch_size=batch_size, progress=progress)
    errors = json.dumps({row: str(error) for row, error in encoded.errors.items()}).encode()
    return pack_features(encoded.features) | {
        "rows": torch.tensor(encoded.rows, dtype=torch.long),
        "errors": torch.frombuffer(bytearray(errors), dtype=torch.uint8),
    }


def _part(files: FileSet, start: int, kept: dict[str, Tensor]) -> Part:
    rows = [start + row for row in kept["rows"].tolist()]
    errors = json.loads(kept["errors"].numpy().tobytes())
    return Part(
        images=tuple(files.images[row] for row in rows),
        features=unpack_features(kept),
        labels=np.array([files.labels[row] for row in rows], dtype=np.int64),
        errors={files.images[start + int(row)]: why for row, why in errors.items()},
    )


def stored_set(name: str, path: Path, *, labelled: bool = True) -> FeatureSet:
    """A set from a feature file; rows that are not finite or have no length are its errors.

    Args:
        name: of the set.
        path: a safetensors file with the tensor `features` (n, d), and `labels` (n,) when there are any.
        labelled: whether to read the labels.

    Raises:
        FileNotFoundError, StorageError, VectorError: no such file, or one that can't be used.
    """
    stored = load_features(path)
    part = Part(
        images=tuple(stored.names[row] for row in stored.rows),
        features=stored.features,
        labels=stored.labels.numpy() if labelled and stored.labels is not None else None,
        errors={stored.names[row]: str(error) for row, error in stored.errors.items()},
    )
    return FeatureSet(name, (part,))
