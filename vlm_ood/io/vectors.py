"""Banks and features as safetensors files: how people with vectors in a store use the detectors."""

import json
import os
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_ood.errors import VectorError
from vlm_ood.io.files import read_tensors, write_tensors
from vlm_ood.types import ImageFeatures, TextBank

PathLike = str | os.PathLike[str]


def save_bank(path: PathLike, bank: TextBank) -> None:
    """Write a bank: tensor `embeddings` (c, d), metadata `names` (a JSON list) and `digest`.

    Raises:
        StorageError: the file can't be written.
    """
    write_tensors(path, {"embeddings": bank.embeddings}, {"names": json.dumps(bank.names), "digest": bank.digest})


def load_bank(path: PathLike) -> TextBank:
    """Read a bank; one without names gets "class 0", "class 1", ...

    Raises:
        FileNotFoundError, StorageError: no such file, or a damaged one.
        VectorError: no `embeddings`, or other names than rows.
    """
    tensors, metadata = read_tensors(path)
    if "embeddings" not in tensors:
        raise VectorError(f"{path} holds {sorted(tensors)}, a bank needs the tensor 'embeddings' (c, d)")
    embeddings = tensors["embeddings"]
    names = json.loads(metadata["names"]) if "names" in metadata else [f"class {i}" for i in range(len(embeddings))]
    return TextBank(tuple(names), embeddings, metadata.get("digest", ""))


@dataclass(frozen=True, eq=False)
class StoredFeatures:
    """Features from a file, the broken rows apart.

    Args:
        names: of every row of the file; its metadata `names`, or "row 0", "row 1", ...
        rows: which rows are usable, in order.
        features: of those.
        labels: tensor `labels` of the usable rows, or None.
        errors: {row: why it is not usable}.
    """

    names: tuple[str, ...]
    rows: tuple[int, ...]
    features: ImageFeatures
    labels: Tensor | None
    errors: dict[int, VectorError]


def save_features(
    path: PathLike, features: ImageFeatures, names: list[str] | None = None, labels: Tensor | None = None
) -> None:
    """Write features: tensor `features` (n, d), and `patches`, `labels` and names when there are any.

    Raises:
        StorageError: the file can't be written.
    """
    tensors = {"features": features.pooled}
    metadata = {} if names is None else {"names": json.dumps(names)}
    if labels is not None:
        tensors["labels"] = labels
    if features.patches is not None and features.grid is not None:
        tensors["patches"] = features.patches
        metadata["grid"] = json.dumps(features.grid)
    write_tensors(path, tensors, metadata)


def load_features(path: PathLike) -> StoredFeatures:
    """Read features; rows that are not finite or have no length become errors, the others stay usable.

    Raises:
        FileNotFoundError, StorageError: no such file, or a damaged one.
        VectorError: no tensor `features` with two axes.
    """
    tensors, metadata = read_tensors(path)
    vectors = tensors.get("features")
    if vectors is None or vectors.ndim != 2:
        held = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        raise VectorError(f"{path} holds {held}, features need the tensor 'features' (n, d)")
    length = vectors.float().norm(dim=1)
    good = length.isfinite() & (length > 0)
    errors = {
        row: VectorError("the vector is not finite or has length zero: encode the image again")
        for row in (~good).nonzero().flatten().tolist()
    }
    patches, grid = tensors.get("patches"), json.loads(metadata.get("grid", "null"))
    features = ImageFeatures(
        vectors[good], None if patches is None else patches[good], None if grid is None else (grid[0], grid[1])
    )
    names = json.loads(metadata["names"]) if "names" in metadata else [f"row {row}" for row in range(len(vectors))]
    if len(names) != len(vectors):
        raise VectorError(f"{path} has {len(names)} names for {len(vectors)} rows: give one a row")
    labels = tensors.get("labels")
    rows = tuple(good.nonzero().flatten().tolist())
    return StoredFeatures(tuple(names), rows, features, None if labels is None else labels[good].to(torch.long), errors)
