"""Reads a text bank from an uploaded file, which is not trusted."""

from typing import Final

import torch
from pydantic import TypeAdapter, ValidationError

from service.http.records import Name
from vlm_ood.errors import ClassNamesError, StorageError, VectorError
from vlm_ood.io.files import tensors_from_bytes
from vlm_ood.types import TextBank

MAX_HEADER_BYTES: Final = 16 * 2**20  # of a caller's file: 100 000 names of 20 letters take 3 MiB
_NAMES: Final[TypeAdapter[list[str]]] = TypeAdapter(list[Name])


def uploaded_bank(content: bytes, *, dim: int, max_rows: int) -> TextBank:
    """The bank in an uploaded file, in the format of `vlm_ood.io.vectors.save_bank`.

    Args:
        content: of the file.
        dim: d, dimension of the encoder's vectors.
        max_rows: limit on c, the number of rows.

    Raises:
        VectorError: another format, too many rows, another dimension, or a row that is zero or not finite.
        ClassNamesError: a name is too long, empty or has control characters.
    """
    header = int.from_bytes(content[:8], "little")
    if header > MAX_HEADER_BYTES:
        raise VectorError(
            f"the file's header is {header:,} bytes long, the limit is {MAX_HEADER_BYTES:,}: send a safetensors file, "
            "as save_bank and `vlm-ood mine` write it"
        )
    try:
        tensors, metadata = tensors_from_bytes(content)
    except StorageError as error:
        raise VectorError(f"the file can't be used: {error}; write it with save_bank or `vlm-ood mine`") from None
    embeddings = tensors.pop("embeddings", torch.empty(0))
    if tensors or embeddings.ndim != 2 or not embeddings.is_floating_point():
        raise VectorError(
            "a bank is a file with the tensor 'embeddings' (c, d) of a floating type, and no other tensor"
        )
    if len(embeddings) > max_rows:
        raise VectorError(f"{len(embeddings):,} rows, the limit is {max_rows:,}: upload fewer")
    if embeddings.shape[1] != dim:
        raise VectorError(f"the vectors have dimension {embeddings.shape[1]}, the encoder's {dim}: name their encoder")
    return TextBank(_uploaded_names(metadata, len(embeddings)), embeddings)


def _uploaded_names(metadata: dict[str, str], rows: int) -> tuple[str, ...]:
    """The names in the file's metadata; "class 0", "class 1", ... where it has none, as in `load_bank`."""
    if "names" not in metadata:
        return tuple(f"class {row}" for row in range(rows))
    try:
        names = tuple(name.strip() for name in _NAMES.validate_json(metadata["names"]))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f" {each}" for each in first["loc"])
        raise ClassNamesError(f"the metadata 'names' of the file, row{where}: {first['msg']}") from None
    if "" in names:
        raise ClassNamesError(f"the name of row {names.index('')} is empty: give each row a name")
    return names
