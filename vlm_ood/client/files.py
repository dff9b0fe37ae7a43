"""Reads image files, and groups them into requests of a size that a server accepts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vlm_ood.errors import ImageError
from vlm_ood.images import ImageLimits

File = str | Path | bytes | tuple[str, bytes]

MAX_IMAGES: Final = 64
MAX_CALIBRATION_IMAGES: Final = 512
MAX_SUPPORT_IMAGES: Final = 512
MAX_BYTES: Final = 64 * 2**20  # below the 100 MiB that a server takes by default
MAX_FILE_BYTES: Final = ImageLimits().max_bytes


@dataclass
class Batch:
    """The contents of the files of one request, by the row of the file."""

    max_images: int
    contents: dict[int, bytes] = field(default_factory=dict)
    size: int = 0

    def takes(self, content: bytes) -> bool:
        """Whether there is room for another file; in an empty batch there always is."""
        return not self.contents or (len(self.contents) < self.max_images and self.size + len(content) <= MAX_BYTES)

    def add(self, row: int, content: bytes) -> None:
        """Add a file."""
        self.contents[row] = content
        self.size += len(content)

    def halves(self) -> tuple["Batch", "Batch"]:
        """The first half of the files, and the others."""
        middle = len(self.contents) // 2
        both = Batch(self.max_images), Batch(self.max_images)
        for place, (row, content) in enumerate(self.contents.items()):
            both[place >= middle].add(row, content)
        return both


def name_of(file: File, row: int) -> str:
    """The name of the file in results."""
    if isinstance(file, bytes):
        return f"image {row + 1}"
    return file[0] if isinstance(file, tuple) else str(file)


def content_of(file: File) -> bytes:
    """The bytes of the file.

    Raises:
        ImageError: it can't be read, or has more than `MAX_FILE_BYTES`.
    """
    if isinstance(file, str | Path):
        return _read(Path(file))
    content = file if isinstance(file, bytes) else file[1]
    _check_size(len(content))
    return content


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise ImageError(f"not a file: {path}" if path.exists() else f"no such file: {path}")
        _check_size(path.stat().st_size)
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"can't be read: {error.strerror or error}") from None


def _check_size(size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise ImageError(f"{size:,} bytes, the limit is {MAX_FILE_BYTES:,}: shrink the image")


def batches(files: Sequence[File], errors: dict[int, str], max_images: int = MAX_IMAGES) -> Iterator[Batch]:
    """Group the files into batches, each read when it is needed; errors of unreadable files go into `errors`."""
    batch = Batch(max_images)
    for row, file in enumerate(files):
        try:
            content = content_of(file)
        except ImageError as error:
            errors[row] = str(error)
            continue
        if not batch.takes(content):
            yield batch
            batch = Batch(max_images)
        batch.add(row, content)
    if batch.contents:
        yield batch
