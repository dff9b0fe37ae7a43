"""Sets of image files: folders with a subfolder per class, folders of any depth, and lists in OpenOOD's format."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlm_ood.errors import ClassNamesError, InputError
from vlm_ood.evaluation.records import UNLABELLED
from vlm_ood.images import SUFFIXES, find_images


@dataclass(frozen=True)
class FileSet:
    """Image files under a name.

    Args:
        name: as the tables show it.
        images: what identifies each file: its path below the folder, or as the list has it.
        files: the path of each.
        labels: the row of each in the classes, -1 where unknown.
    """

    name: str
    images: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.files)


def read_id_set(
    path: Path, classes: Sequence[str] | None = None, data_root: Path | None = None
) -> tuple[FileSet, tuple[str, ...]]:
    """The ID images, and the names of their classes.

    Args:
        path: a folder with a subfolder per class (their names, underscores read as spaces, are the class names), a
            folder of unlabelled images, or a list file.
        classes: names in the order of the labels; needed where there are no class folders. Class folders are matched to
            them by name, or by their sorted order when none matches, as with WordNet ids.
        data_root: what the paths of a list are relative to; by default the list's folder.

    Raises:
        ClassNamesError: no class names, or folders or labels that don't fit them.
        InputError: nothing at the path, or a list that can't be read.
    """
    if path.is_file():
        if classes is None:
            raise ClassNamesError(
                f"{path} holds labels but no names: give --classes @FILE, one name per line, in order"
            )
        return _labels_checked(_read_list("ID", path, data_root), path, len(classes)), tuple(classes)
    folders = _class_folders(path)
    if not folders and classes is None:
        raise ClassNamesError(f"{path} has no subfolders to take class names from: make some, or give --classes")
    names = tuple(classes or (_class_name(folder) for folder in folders))
    labels = _labels_of_folders(folders, names)
    found = [(file, labels[folder]) for folder in folders for file in find_images(folder)]
    loose = [(file, UNLABELLED) for file in sorted(path.iterdir()) if _is_picture(file)]
    files = tuple(file for file, _ in found + loose)
    images = tuple(file.relative_to(path).as_posix() for file in files)
    return FileSet("ID", images, files, tuple(label for _, label in found + loose)), names


def read_ood_set(given: str, data_root: Path | None = None) -> FileSet:
    """The OOD images, from "NAME=PATH" or "PATH": a folder of any depth or a list file.

    Raises:
        InputError: nothing at the path, or a list that can't be read.
    """
    name, path = named_path(given)
    if path.is_file():
        return _read_list(name, path, data_root)
    if not path.is_dir():
        raise InputError(f"{path} is neither a folder nor a list file: give --ood NAME=PATH")
    files = tuple(find_images(path))
    return FileSet(name, tuple(file.relative_to(path).as_posix() for file in files), files, (UNLABELLED,) * len(files))


def named_path(given: str) -> tuple[str, Path]:
    """The two halves of "NAME=PATH"; a path alone is named after its last part."""
    name, equals, path = given.partition("=")
    if equals and name and path and not Path(given).exists():
        return name.strip(), Path(path)
    return Path(given).resolve().stem, Path(given)


def _class_folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise InputError(f"{path} is neither a folder nor a list file: give --id PATH")
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _class_name(folder: Path) -> str:
    return folder.name.replace("_", " ").strip()


def _labels_of_folders(folders: Sequence[Path], names: Sequence[str]) -> dict[Path, int]:
    rows = {name.casefold().replace("_", " "): row for row, name in enumerate(names)}
    found = {folder: rows.get(_class_name(folder).casefold(), UNLABELLED) for folder in folders}
    unknown = [folder.name for folder, row in found.items() if row == UNLABELLED]
    if not unknown:
        return found
    if len(unknown) == len(folders) == len(names):
        return {folder: row for row, folder in enumerate(folders)}
    shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
    raise ClassNamesError(
        f"{len(unknown)} of {len(folders)} class folders are not among the {len(names)} class names: {shown}; "
        "name the folders like the classes, or give as many names as folders, in their sorted order"
    )


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()


def _labels_checked(files: FileSet, path: Path, classes: int) -> FileSet:
    largest = max(files.labels, default=UNLABELLED)
    if largest >= classes:
        raise ClassNamesError(f"{path} has the label {largest}, but there are {classes} class names, from 0")
    return files


def _read_list(name: str, path: Path, data_root: Path | None) -> FileSet:
    root = data_root or path.parent
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the list {path} can't be read: {error}") from None
    entries = list(_entries(lines))
    images = tuple(image for image, _ in entries)
    return FileSet(name, images, tuple(root / image for image in images), tuple(label for _, label in entries))


def _entries(lines: Sequence[str]) -> Iterator[tuple[str, int]]:
    """(path, label) of each line "path label"; a path may hold spaces, and a line may lack the label."""
    for line in lines:
        image, _, label = line.strip().rpartition(" ")
        if image and label.lstrip("-").isdecimal():
            yield image.strip(), max(int(label), UNLABELLED)
        elif line.strip():
            yield line.strip(), UNLABELLED
