"""Reads and writes banks and image features as safetensors files, so that detectors work on stored vectors alone."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from vlm_ood.errors import VectorError
from vlm_ood.io.files import read_tensors, tensors_to_bytes, write_bytes, write_tensors
from vlm_ood.types import ImageFeatures, TextBank

PathLike = str | os.PathLike[str]
ALL: Final = slice(None)


def bank_file(bank: TextBank, encoder: str = "") -> bytes:
    """A bank as a safetensors file: tensor `embeddings` (c, d), metadata `names` (a JSON list), `digest` and `content`.

    `digest` is of what made the bank, `content` of its names and vectors, by which an edit of the file is noticed;
    `encoder`, where it is known, is the name of the encoder that made the vectors.
    """
    content = TextBank(bank.names, bank.embeddings).digest
    metadata = {"names": json.dumps(bank.names), "digest": bank.digest, "content": content}
    if encoder:
        metadata["encoder"] = encoder
    return tensors_to_bytes({"embeddings": bank.embeddings}, metadata)


def save_bank(path: PathLike, bank: TextBank, encoder: str = "") -> None:
    """Write the file of `bank_file`.

    Raises:
        StorageError: the file can't be written.
    """
    write_bytes(path, bank_file(bank, encoder))


def load_bank(path: PathLike, encoder: str = "") -> TextBank:
    """Read a bank; without `names` in the file they are "class 0", "class 1", ...

    The bank has the digest of what made it, or, where the file was edited since, that of the names and vectors in it.

    Args:
        path: of the file.
        encoder: name of the encoder that the vectors must be of, where the file tells theirs.

    Raises:
        FileNotFoundError, StorageError: no such file, or a damaged one.
        VectorError: no tensor `embeddings` with two axes, `names` that are not one string per row, or vectors of
            another encoder.
    """
    tensors, metadata = read_tensors(path)
    made_by = metadata.get("encoder", "")
    if encoder and made_by and made_by != encoder:
        raise VectorError(
            f"{path} holds vectors of the encoder {made_by}, not of {encoder}: give --encoder {made_by}, or a bank "
            f"that {encoder} made"
        )
    embeddings = tensors.get("embeddings")
    if embeddings is None or embeddings.ndim != 2:
        raise VectorError(f"{path} holds {_shapes(tensors)}, a bank needs the tensor 'embeddings' (c, d)")
    bank = TextBank(_names(path, metadata, "class", len(embeddings)), embeddings)
    as_written = metadata.get("content", bank.digest) == bank.digest  # files of earlier versions don't say
    return replace(bank, digest=metadata.get("digest", "")) if as_written else bank


@dataclass(frozen=True, eq=False)
class StoredFeatures:
    """The usable rows of a features file, and the errors of the others.

    Args:
        names: one per row of the file: its metadata `names`, or "row 0", "row 1", ...
        rows: indices of the usable rows, ascending.
        features: one row for each of them.
        labels: the tensor `labels` for the same rows, or None.
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
    """Write the tensors of `pack_features` and, where they are given, `labels` (n,) and the metadata `names`.

    Raises:
        StorageError: the file can't be written.
    """
    tensors = pack_features(features)
    if labels is not None:
        tensors["labels"] = labels
    write_tensors(path, tensors, {} if names is None else {"names": json.dumps(names)})


def load_features(path: PathLike) -> StoredFeatures:
    """Read features; an image with a vector that is not finite or has length zero is reported in `errors`.

    Of its vectors that is the pooled one, those of its patches and of its windows. The other images are usable.

    Raises:
        FileNotFoundError, StorageError: no such file, or a damaged one.
        VectorError: no tensor `features` with two axes, or others that do not go with it: names, labels, patches.
    """
    tensors, metadata = read_tensors(path)
    vectors = tensors.get("features")
    if vectors is None or vectors.ndim != 2:
        raise VectorError(f"{path} holds {_shapes(tensors)}, features need the tensor 'features' (n, d)")
    names = _names(path, metadata, "row", len(vectors))
    labels = tensors.get("labels")
    if labels is not None and labels.shape != vectors.shape[:1]:
        raise VectorError(f"{path} has labels of shape {tuple(labels.shape)} for {len(vectors)} rows: give one per row")
    try:
        if "grid" in metadata:  # the first versions stored it there
            tensors["grid"] = torch.tensor(json.loads(metadata["grid"]))
        patches = [tensors["patches"]] if "patches" in tensors else []
        usable = [_usable_rows(each) for each in (vectors, *patches, *_numbered("windows", tensors).values())]
        good = torch.stack(usable).all(dim=0)
        features = unpack_features(tensors, good)
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise VectorError(f"{path} holds tensors that do not go together: {error}") from error
    rows = tuple(good.nonzero().flatten().tolist())
    errors = {
        row: VectorError("a vector is not finite or has length zero: encode the image again")
        for row in (~good).nonzero().flatten().tolist()
    }
    return StoredFeatures(names, rows, features, None if labels is None else labels[good].to(torch.long), errors)


def pack_features(features: ImageFeatures) -> dict[str, Tensor]:
    """Turn features into named tensors; `unpack_features` restores them bit for bit.

    Returns:
        `features` (n, d); where they are present also `patches` (n, p, d) and `grid` (2,), `stage N` (n, p, width) and
        `stage N grid` (2,) per stage, and `windows N` (n, w, d) per window side.
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
    """Make features from the tensors of `pack_features`; tensors of other names are ignored.

    Args:
        tensors: {name: tensor}.
        rows: which images to take: a slice, indices or a mask.

    Raises:
        VectorError: a row is not finite or has length zero, or axes don't agree.
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


def _usable_rows(vectors: Shaped[Tensor, "n ..."]) -> Bool[Tensor, " n"]:
    """Whether each image's vectors, (n, d) or (n, p, d), are finite and have a length."""
    length = vectors.float().norm(dim=-1).reshape(len(vectors), -1)
    usable: Tensor = (length.isfinite() & (length > 0)).all(dim=1)
    return usable


def _names(path: PathLike, metadata: Mapping[str, str], kind: str, count: int) -> tuple[str, ...]:
    """The names of a file's rows, by default "class 0" or "row 0", ...

    Raises:
        VectorError: not a JSON list with one string per row.
    """
    if "names" not in metadata:
        return tuple(f"{kind} {row}" for row in range(count))
    try:
        names = json.loads(metadata["names"])
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise VectorError(f"{path}: the metadata 'names' is not a JSON list of strings: write json.dumps(names)")
    if len(names) != count:
        raise VectorError(f"{path} has {len(names)} names for {count} rows: give one name per row")
    return tuple(names)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _numbered(kind: str, tensors: Mapping[str, Tensor]) -> dict[int, Tensor]:
    """Collect {3: tensor} from {"stage 3": tensor}."""
    numbers = {name: name.removeprefix(f"{kind} ") for name in tensors if name.startswith(f"{kind} ")}
    return {int(number): tensors[name] for name, number in numbers.items() if number.isdecimal()}
