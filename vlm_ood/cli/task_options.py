"""Turns the options that describe a task into a `TaskSpec`, and reads its stored parts from files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from vlm_ood.cli.common import notes, progress_bar, read_classes
from vlm_ood.encoders.outputs import POOLED, Outputs
from vlm_ood.errors import ClassNamesError, InputError
from vlm_ood.evaluation.datasets import FileSet, read_id_set
from vlm_ood.evaluation.records import UNLABELLED
from vlm_ood.io.vectors import load_bank, load_features
from vlm_ood.pipeline import encode_files
from vlm_ood.tasks import BankSpec, Builder, StoredBank, StoredSupport, TaskSpec, TemplateBank
from vlm_ood.types import Support, Task, TextBank

if TYPE_CHECKING:
    from vlm_ood.encoders.base import Encoder

WORDING: Final[Mapping[str, str]] = {
    "negatives": "--negatives FILE (from vlm-ood mine)",
    "no": "--no FILE (from vlm-ood clipn-bank)",
    "support": "--support PATH (a folder with a subfolder per class, or a features file with labels)",
}


@dataclass(frozen=True)
class TaskOptions:
    """The options that describe a task, as the user gave them."""

    classes: str | None = None
    bank: Path | None = None
    templates: str = "single"
    encoder: str = "embedded"
    negatives: Path | None = None
    no: Path | None = None
    support: Path | None = None
    device: str = "auto"
    precision: str = "auto"

    def class_bank(self, names: Sequence[str] | None = None) -> BankSpec:
        """Describe the class bank: `--bank`, or else class names with `--templates`.

        Args:
            names: class names from elsewhere; by default those of `--classes`.

        Raises:
            ClassNamesError: no classes are given, or both names and a bank.
            FileNotFoundError: `--bank` names no file.
        """
        if self.bank is not None:
            if self.classes:
                raise ClassNamesError("give --classes or --bank, not both")
            return _stored(self.bank)
        return TemplateBank(tuple(read_classes(self.classes) if names is None else names), self.templates)

    def spec(self, names: Sequence[str] | None = None, *, vectors: bool = False) -> TaskSpec:
        """Describe the task, and check that every file that the options name exists.

        Args:
            names: class names from elsewhere, such as the names of folders.
            vectors: whether images come as vectors, so that no encoder is loaded.

        Raises:
            ClassNamesError, InputError: options are missing or contradict each other.
            FileNotFoundError: an option names no file.
        """
        classes = self.class_bank(names)
        if vectors and not isinstance(classes, StoredBank):
            raise InputError("vectors need class vectors of the same encoder: give --bank FILE")
        return TaskSpec(
            classes,
            "" if vectors else self.encoder,
            negatives=None if self.negatives is None else _stored(self.negatives),
            no=None if self.no is None else _stored(self.no),
            support=None if self.support is None else StoredSupport(str(_existing(self.support))),
        )


@dataclass(frozen=True)
class FileSources:
    """Reads the stored parts of a task from files; the `Sources` of the command line.

    Args:
        encoder: encodes a folder of support images; None for vectors.
        outputs: what the method reads of each support image.
    """

    encoder: "Encoder | None" = None
    outputs: Outputs = POOLED

    def bank(self, stored: StoredBank) -> TextBank:
        """Read a bank from its file onto the encoder's device.

        Raises:
            FileNotFoundError, StorageError, VectorError: the file can't be read, or is of another encoder.
        """
        if self.encoder is None:
            return load_bank(stored.source)
        return load_bank(stored.source, self.encoder.name).to(self.encoder.device)

    def support(self, stored: StoredSupport, classes: TextBank) -> Support:
        """Read labelled features from a file, or encode the images of a folder with a subfolder per class.

        Raises:
            FileNotFoundError, StorageError, VectorError: the file can't be read.
            InputError: no labels, no usable image, or a folder of images without an encoder.
            ClassNamesError: the folders are not named like the classes.
        """
        path = Path(stored.source)
        return self._from_folder(path, classes) if path.is_dir() else _from_file(path)

    def _from_folder(self, path: Path, classes: TextBank) -> Support:
        if self.encoder is None:
            raise InputError(f"--support {path} is a folder of images: with vectors give a features file with labels")
        files = labelled_images(path, classes.names)
        with progress_bar("encoding labelled images", len(files)) as advance:
            encoded = encode_files(self.encoder, files.files, self.outputs, progress=advance)
        for row, error in encoded.errors.items():
            notes.print(f"left out {files.images[row]}: {error}", markup=False, soft_wrap=True)
        if not encoded.rows:
            raise InputError(f"--support {path} has no image that can be used")
        return Support(encoded.features, torch.tensor([files.labels[row] for row in encoded.rows]))


def labelled_images(folder: Path, names: Sequence[str]) -> FileSet:
    """List the images in the subfolders of a folder; subfolders are matched to class names as in `read_id_set`.

    Raises:
        ClassNamesError: the subfolders are not named like the classes.
        InputError: there is no such image.
    """
    found, _ = read_id_set(folder, names)
    rows = [row for row, label in enumerate(found.labels) if label != UNLABELLED]
    if not rows:
        raise InputError(f"--support {folder} has no image in a subfolder that is named like a class")
    return FileSet(
        found.name,
        tuple(found.images[row] for row in rows),
        tuple(found.files[row] for row in rows),
        tuple(found.labels[row] for row in rows),
    )


def build_task(
    spec: TaskSpec, encoder: "Encoder | None", outputs: Outputs = POOLED, *, background: bool = False
) -> Task:
    """Build the task of a spec and show a progress bar while names are encoded.

    Args:
        spec: what the task is made from.
        encoder: encodes names and labelled images; None for vectors.
        outputs: what the method reads of each labelled image.
        background: whether a method reads the background.

    Raises:
        InputError: a part can't be used.
    """
    with progress_bar("encoding class names", None) as advance:
        return Builder(encoder, FileSources(encoder, outputs), progress=advance).task(spec, background=background)


def _from_file(path: Path) -> Support:
    stored = load_features(path)
    if stored.labels is None:
        raise InputError(f"{path} has no tensor 'labels' (n,): give one class index per support image")
    return Support(stored.features, stored.labels)


def _stored(path: Path) -> StoredBank:
    return StoredBank(str(_existing(path)))


def _existing(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    return path
