"""Banks and features as safetensors files: how people with vectors in a store use the detectors."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Shaped
from torch import Tensor

from vlm_ood.errors import VectorError
from vlm_ood.io.files import read_tensors, write_tensors
from vlm_ood.types import ImageFeatures, TextBank

PathLike = str | os.PathLike[str]
ALL: Final = slice(None)


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
    """Write features: the tensors of `pack_features`, `labels` (n,) and the metadata `names` where they are given.

    Raises:
        StorageError: the file can't be written.
    """
    tensors = pack_features(features)
    if labels is not None:
        tensors["labels"] = labels
    write_tensors(path, tensors, {} if names is None else {"names": json.dumps(names)})


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
    if "grid" in metadata:  # where the first versions kept it
        tensors["grid"] = torch.tensor(json.loads(metadata["grid"]))
    features = unpack_features(tensors, good)
    names = json.loads(metadata["names"]) if "names" in metadata else [f"row {row}" for row in range(len(vectors))]
    if len(names) != len(vectors):
        raise VectorError(f"{path} has {len(names)} names for {len(vectors)} rows: give one a row")
    labels = tensors.get("labels")
    rows = tuple(good.nonzero().flatten().tolist())
    return StoredFeatures(tuple(names), rows, features, None if labels is None else labels[good].to(torch.long), errors)


def pack_features(features: ImageFeatures) -> dict[str, Tensor]:
    """Features as named tensors, from which `unpack_features` makes the same features to the bit.

    `features` (n, d); where there are any `patches` (n, p, d) and `grid` (2,), for each stage `stage N` (n, p, width)
    and `stage N grid` (2,), for each side of windows `windows N` (n, w, d).
    """
    tensors = {"features": features.pooled}
    if features.patches is not None:
        tensors["patches"] = features.patches
    if features.grid is not None:
        tensors["grid"] = torch.tensor(features.grid)
    for number, tokens in features.stages.items():
        tensors[f"stage {number}"] = tokens
        tensors[f"stage {number} grid"] = torch.tensor(features.stage_grids[number])
    return tensors | {f"windows {side}": vectors for side, vectors in features.windows.items()}


def unpack_features(tensors: Mapping[str, Tensor], rows: Shaped[Tensor, " _"] | slice = ALL) -> ImageFeatures:
    """Features from the tensors of `pack_features`; other tensors are left alone.

    Args:
        tensors: by name.
        rows: which images to take, as an index or a mask.

    Raises:
        VectorError: rows that are not finite or have no length, axes that don't agree.
    """
    grids = {name: (int(cells[0]), int(cells[1])) for name, cells in tensors.items() if name.endswith("grid")}
    patches = tensors.get("patches")
    stages = _numbered("stage", tensors)
    return ImageFeatures(
        tensors["features"][rows],
        None if patches is None else patches[rows],
        grids.get("grid"),
        {number: tokens[rows] for number, tokens in stages.items()},
        {side: vectors[rows] for side, vectors in _numbered("windows", tensors).items()},
        {number: grids[f"stage {number} grid"] for number in stages if f"stage {number} grid" in grids},
    )


def _numbered(kind: str, tensors: Mapping[str, Tensor]) -> dict[int, Tensor]:
    """{3: tensor} from "stage 3"."""
    words = {name: name.split(" ") for name in tensors}
    return {int(given[1]): tensors[name] for name, given in words.items() if given[0] == kind and len(given) == 2}
