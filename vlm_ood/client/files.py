"""From what a caller gives to files in requests of a size that a server takes."""

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
    """Contents of one request by their row among all files."""

    max_images: int
    contents: dict[int, bytes] = field(default_factory=dict)
    size: int = 0

    def takes(self, content: bytes) -> bool:
        """Whether there is room; an empty batch takes anything."""
        return not self.contents or (len(self.contents) < self.max_images and self.size + len(content) <= MAX_BYTES)

    def add(self, row: int, content: bytes) -> None:
        """One more file."""
        self.contents[row] = content
        self.size += len(content)


def name_of(file: File, row: int) -> str:
    """How results call the file."""
    if isinstance(file, bytes):
        return f"image {row + 1}"
    return file[0] if isinstance(file, tuple) else str(file)


def content_of(file: File) -> bytes:
    """The bytes.

    Raises:
        ImageError: a file that can't be read, or more bytes than any picture should have.
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
        raise ImageError(f"{size:,} bytes, the limit is {MAX_FILE_BYTES:,}: shrink the picture")


def batches(files: Sequence[File], errors: dict[int, str], max_images: int = MAX_IMAGES) -> Iterator[Batch]:
    """The files in as few requests as the limits allow, each read when its turn comes; `errors` takes the others."""
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
