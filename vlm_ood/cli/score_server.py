"""Runs `vlm-ood score --server`: stored parts are uploaded as banks, and the server scores by their ids."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vlm_ood.cli.common import notes, read_parameters
from vlm_ood.cli.scoring import Scored, ScoreRequest, checked_spec, picture_files
from vlm_ood.cli.task_options import labelled_images
from vlm_ood.client import BankInfo, Client
from vlm_ood.client.files import File
from vlm_ood.errors import InputError
from vlm_ood.io.vectors import load_bank
from vlm_ood.tasks import StoredBank, TaskSpec
from vlm_ood.types import TextBank

BANKS = ("classes", "negatives", "no")


@dataclass(frozen=True)
class Parts:
    """The stored parts of a task, read from this machine.

    Args:
        names: of the classes.
        banks: {part: its vectors}, for those of `BANKS` that are files.
        files: {part: the file or folder that it is from}.
        support: {class: its labelled images}; None where the task has none.
    """

    names: tuple[str, ...]
    banks: Mapping[str, TextBank]
    files: Mapping[str, Path]
    support: Mapping[str, list[File]] | None


def score_on_server(request: ScoreRequest, server: str, encoder: str | None) -> Scored:
    """Score the images on a server; `$VLM_OOD_API_KEY` is sent as its key where it is set.

    Banks and labelled images are uploaded first and stay on the server, where the same content is stored once. Every
    option is checked and every bank is read before anything is sent.

    Args:
        request: the options.
        server: its URL.
        encoder: the name that the user gave, in place of the encoder of `request.task`; None for the server's default.

    Raises:
        InputError: an option that works only locally, or a part that can't be used, or that the method lacks or does
            not read.
        ServerError: the server refused, failed, or could not be reached.
    """
    if request.features or request.calibration or request.costs:
        raise InputError(
            "--server scores image files: leave out --server to score --features, or to decide by a --calibration or "
            "--costs; a detector on the server has a calibration of its own, see docs/api.md"
        )
    parts = _read(checked_spec(request).task)
    files = picture_files(request.images)
    if not files:
        raise InputError("nothing to score: name image files or folders")
    with Client(server, api_key=os.environ.get("VLM_OOD_API_KEY")) as client:
        banks = _upload(client, parts, encoder)
        answer = client.score(
            files,
            classes=banks.get("classes") or parts.names,
            method=request.method,
            parameters=read_parameters(list(request.parameters)),
            encoder=encoder,
            templates=None if "classes" in banks else request.task.templates,
            negatives=banks.get("negatives"),
            no=banks.get("no"),
            support=banks.get("support"),
            top=request.top,
        )
    facts = {"server": server, "method": request.method, "encoder": answer.encoder}
    return Scored(tuple(answer.results), {str(file): file for file in files}, facts, answer.note)


def _read(task: TaskSpec) -> Parts:
    """Read every stored part of the task.

    Raises:
        FileNotFoundError, StorageError, VectorError: a bank can't be read.
        InputError: `--support` is not a folder with images of the classes.
    """
    stored = {part: getattr(task, part) for part in BANKS}
    files = {part: Path(bank.source) for part, bank in stored.items() if isinstance(bank, StoredBank)}
    banks = {part: load_bank(file) for part, file in files.items()}
    names = banks["classes"].names if "classes" in banks else task.names or ()
    if task.support is None:
        return Parts(names, banks, files, None)
    folder = Path(task.support.source)
    return Parts(names, banks, files | {"support": folder}, _labelled(folder, names))


def _labelled(folder: Path, names: tuple[str, ...]) -> dict[str, list[File]]:
    """The images of a folder by class name; subfolders are matched to the class names as without a server."""
    if not folder.is_dir():
        raise InputError(f"--support {folder}: with --server give the folder of labelled images, not their features")
    found = labelled_images(folder, names)
    by_class: dict[str, list[File]] = {}
    for file, label in zip(found.files, found.labels, strict=True):
        by_class.setdefault(names[label], []).append(file)
    return by_class


def _upload(client: Client, parts: Parts, encoder: str | None) -> dict[str, BankInfo]:
    """Upload the parts, and print the id of each and the images that could not be used.

    Returns:
        {part: its bank on the server}.
    """
    uploaded: dict[str, BankInfo] = {}
    with notes.status("uploading banks ..."):
        # Labelled images first: if they can't be sent, nothing has been stored yet.
        if parts.support is not None:
            file = parts.files["support"]
            uploaded["support"] = client.upload_support(parts.support, encoder=encoder, label=_label(file))
            _print_uploaded(file, uploaded["support"])
        for part, bank in parts.banks.items():
            file = parts.files[part]
            uploaded[part] = client.upload_bank(bank, encoder=encoder, label=_label(file))
            _print_uploaded(file, uploaded[part])
    return uploaded


def _label(path: Path) -> str:
    return "".join(character for character in path.name if character.isprintable())[:200]


def _print_uploaded(file: Path, info: BankInfo) -> None:
    notes.print(f"{file}: bank {info.id} of the server", markup=False, soft_wrap=True)
    for failure in info.failed:
        notes.print(f"left out {failure.image}: {failure.error}", markup=False, soft_wrap=True)
