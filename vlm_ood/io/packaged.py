"""Finds the packaged prompts and word lists: inside the wheel, or beside the package in a checkout."""

from functools import cache
from pathlib import Path
from typing import Literal

from vlm_ood.errors import StorageError


@cache
def data_folder(name: Literal["prompts", "lexicons"]) -> Path:
    """Return the path of the folder.

    Raises:
        StorageError: the installation lacks it.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "_data" / name, package.parent / name):
        if folder.is_dir():
            return folder
    raise StorageError(f"the {name} are missing from this installation: install vlm-ood again")
