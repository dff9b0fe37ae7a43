"""Folders of the Hugging Face hub, from the network or from its cache on this machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from vlm_ood.errors import HubError

CONFIGS: Final = ("*.json", "*.txt", "*.model")


def hub_folder(repository: str, wanted: Sequence[str], remedy: str) -> Path:
    """The local copy of a repository, with the files whose names match.

    Args:
        repository: ORG/NAME.
        wanted: patterns of file names.
        remedy: what the caller can do without the hub, for the message.

    Raises:
        HubError: no network and nothing in the cache, or no such repository.
    """
    from huggingface_hub import snapshot_download

    try:
        # Unlike single files, a snapshot fails at once when there is no network.
        return Path(snapshot_download(repository, allow_patterns=list(wanted)))
    except Exception as error:  # the hub's client raises HTTP, OS and value errors of its own
        reason = str(error).strip().partition("\n")[0]
        raise HubError(f"{repository} can't be had from the Hugging Face hub ({reason}): {remedy}") from error


def hub_weights(repository: str, names: Sequence[str], remedy: str) -> Path:
    """The folder of a repository with its configuration and the first of the weight files that it has.

    Args:
        repository: ORG/NAME.
        names: patterns of weight files, the best first.
        remedy: what the caller can do without the hub, for the message.

    Raises:
        HubError: as in `hub_folder`, or a repository without such a file.
    """
    for name in names:
        folder = hub_folder(repository, (*CONFIGS, name), remedy)
        if any(folder.glob(name)):
            return folder
    raise HubError(f"{repository} holds none of {', '.join(names)}: {remedy}")
