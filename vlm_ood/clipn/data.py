"""A source of pairs from paths of tables or shards."""

import os
from collections.abc import Sequence
from pathlib import Path

from vlm_ood.clipn.pairs import Pairs
from vlm_ood.clipn.shards import open_shards
from vlm_ood.clipn.table import TABLES, read_table
from vlm_ood.errors import InputError


def read_pairs(paths: Sequence[str | os.PathLike[str]], *, image: str = "image", caption: str = "caption") -> Pairs:
    """The pairs of one caption table, or of any number of shards.

    Args:
        paths: one .csv, .tsv or .jsonl file; or .tar files, or a folder of them.
        image: the table's column or key with the path, relative to the table.
        caption: likewise with the caption.

    Raises:
        FileNotFoundError: no such file.
        InputError: another kind of file, or one without a usable pair.
    """
    files = [file for path in map(Path, paths) for file in (sorted(path.glob("*.tar")) if path.is_dir() else [path])]
    suffixes = {file.suffix.lower() for file in files}
    if suffixes == {".tar"}:
        return open_shards(files)
    if len(files) == 1 and suffixes <= TABLES:
        return read_table(files[0], image=image, caption=caption)
    raise InputError(
        f"no pairs in {', '.join(map(str, paths)) or 'an empty list'}: give one .csv, .tsv or .jsonl table, "
        "or .tar shards or a folder of them"
    )
