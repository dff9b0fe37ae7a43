"""From a caller's file, which may hold anything, to a text bank."""

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
    """The bank in a caller's file, as `vlm_ood.io.vectors.save_bank` writes it; its digest is that of its content.

    Args:
        content: of the file.
        dim: d of the encoder.
        max_rows: the limit on c.

    Raises:
        VectorError: not such a file, too many rows, another dimension, rows that are not finite or have no length.
        ClassNamesError: names that are too long, empty or hold control characters.
    """
    header = int.from_bytes(content[:8], "little")
    if header > MAX_HEADER_BYTES:
        raise VectorError(f"the file's header is {header:,} bytes long, the limit is {MAX_HEADER_BYTES:,}")
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
    """As `load_bank` has them where the file has none."""
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
