"""The cache on disk: no partial files, limited size, and no error of the disk reaches a caller."""

import errno
import os
import time
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from vlm_ood.errors import StorageError
from vlm_ood.io.cache import ABANDONED_S, DiskCache
from vlm_ood.io.files import PARTIAL, read_tensors, write_bytes, write_tensors

VECTORS = {"embeddings": torch.arange(12.0).view(3, 4)}


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)


def test_what_was_put_comes_back(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "new" / "folder")
    assert cache.get("aa") is None
    assert cache.put("aa", VECTORS)
    stored = cache.get("aa")
    assert stored is not None
    assert torch.equal(stored["embeddings"], VECTORS["embeddings"])


def test_a_damaged_entry_counts_as_absent_and_is_dropped(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    (tmp_path / "aa.safetensors").write_bytes(b"\xff" * 100)
    assert cache.get("aa") is None
    assert not list(tmp_path.iterdir())


def test_entries_of_a_read_only_folder_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = DiskCache(tmp_path)
    cache.put("aa", VECTORS)
    (tmp_path / "bb.safetensors").write_bytes(b"\xff" * 100)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    stored = cache.get("aa")
    assert stored is not None
    assert torch.equal(stored["embeddings"], VECTORS["embeddings"])
    assert cache.get("bb") is None


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_stores_nothing_and_raises_nothing(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    assert not cache.put("aa", VECTORS)
    assert cache.get("aa") is None
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_logged_once_per_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for folder in ("one", "one", "other"):
        DiskCache(tmp_path / folder).put("aa", VECTORS)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert f"nothing is cached in {tmp_path / 'one'}: " in caplog.messages[0]
    assert "No space left on device" in caplog.messages[0]


def test_what_a_killed_writer_left_is_deleted_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    for name, age_s in (("old", ABANDONED_S + 60), ("new", 0)):
        (tmp_path / f"{PARTIAL}{name}").write_bytes(b"half")
        moment = time.time() - age_s
        os.utime(tmp_path / f"{PARTIAL}{name}", (moment, moment))
    DiskCache(tmp_path).put("aa", VECTORS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{PARTIAL}new", "aa.safetensors"]


def test_an_entry_that_another_process_deletes_meanwhile_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = Path.stat

    def vanished(path: Path, **more: Any) -> os.stat_result:
        if path.name == "bb.safetensors":
            raise FileNotFoundError(path)
        return stat(path, **more)

    (tmp_path / "bb.safetensors").write_bytes(b"x")
    monkeypatch.setattr(Path, "stat", vanished)
    assert DiskCache(tmp_path).put("aa", VECTORS)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_the_older_file(tmp_path: Path) -> None:
    target = tmp_path / "scores.json"
    target.write_bytes(b"old")
    with pytest.raises(StorageError, match="No space left"):
        write_bytes(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]


def test_the_least_recently_used_entries_go_first(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, max_bytes=2500)
    for number, name in enumerate(("aa", "bb")):
        cache.put(name, {"x": torch.zeros(256)})
        os.utime(tmp_path / f"{name}.safetensors", ns=(number, number))
    cache.get("aa")  # now bb is the older one
    cache.put("cc", {"x": torch.zeros(256)})
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["aa", "cc"]


def test_an_entry_larger_than_the_bound_is_kept_alone(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, max_bytes=10)
    cache.put("aa", VECTORS)
    cache.put("bb", VECTORS)
    assert [path.stem for path in tmp_path.iterdir()] == ["bb"]


def test_metadata_travels_with_the_tensors(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", VECTORS, {"names": "[]"})
    tensors, metadata = read_tensors(tmp_path / "x.safetensors")
    assert torch.equal(tensors["embeddings"], VECTORS["embeddings"])
    assert metadata == {"names": "[]"}


def test_a_text_file_is_not_a_safetensors_file(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_text("hello")
    with pytest.raises(StorageError, match="not a readable safetensors file"):
        read_tensors(tmp_path / "x.safetensors")
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "none.safetensors")


def test_a_failed_write_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Any) -> IO[bytes]:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StorageError, match="Permission denied"):
        write_bytes(tmp_path / "x", b"content")
    assert not list(tmp_path.iterdir())
