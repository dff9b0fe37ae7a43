"""A disk that is full or can't be written: requests that need no write go on, others are 507 with a remedy."""

import errno
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Pool, create_engine, event
from sqlalchemy.exc import DBAPIError
from starlette.testclient import TestClient

from service.errors import BusyError
from service.run import run
from service.settings import Settings
from service.storage.failures import callers_error
from tests.service.banks.files import colours, upload
from tests.service.conftest import Start, services_of
from tests.service.fakes import files, png

DETECTOR = {"classes": ["red thing", "blue thing"]}
PICTURES = [png(colour) for colour in ("red", "blue", "darkred", "navy")]


def calibrate(client: TestClient, detector: str) -> Any:
    return client.put(f"/v1/detectors/{detector}/calibration", files=files(*PICTURES))


def score(client: TestClient, detector: str) -> list[tuple[float, float]]:
    """The score and the threshold of each picture."""
    answer = client.post(f"/v1/detectors/{detector}/score", files=files(*PICTURES))
    assert answer.status_code == 200, answer.text
    return [(each["score"], each["threshold"]) for each in answer.json()["results"]]


WRITES: dict[str, Callable[[TestClient, str], Any]] = {
    "create a detector": lambda client, _: client.post("/v1/detectors", json={"classes": ["lime", "white"]}),
    "calibrate": calibrate,
    "delete a calibration": lambda client, detector: client.delete(f"/v1/detectors/{detector}/calibration"),
    "upload a bank": lambda client, _: upload(client, colours("red", "lime")),
    "make a bank": lambda client, _: client.post("/v1/banks", json={"kind": "templates", "names": ["red", "lime"]}),
}


def check_refused(client: TestClient, detector: str, remedy: str) -> None:
    """Every write answers 507 with this remedy and tells no path; scores go on."""
    folder = str(services_of(client).settings.data)
    before = score(client, detector)
    for name, write in WRITES.items():
        answer = write(client, detector)
        assert answer.status_code == 507, (name, answer.text)
        assert remedy in answer.json()["detail"], name
        assert folder not in answer.text, name
        assert answer.headers["content-type"] == "application/problem+json"
    assert score(client, detector) == before
    assert client.post("/v1/score", files=files(png()), data={"classes": ["tan", "teal"]}).status_code == 200


def check_all_is_well(client: TestClient, detector: str) -> None:
    """What was refused succeeds now, and nothing half-written is left."""
    for name, write in WRITES.items():
        assert write(client, detector).status_code in {200, 201, 204}, name
    assert len(client.get("/v1/detectors").json()["detectors"]) == 2
    assert len(client.get("/v1/banks").json()["banks"]) == 2


@contextmanager
def pragma(statement: str) -> Iterator[None]:
    """Every connection of SQLite is like this."""

    def apply(connection: Any, *_: object) -> None:
        connection.execute(f"PRAGMA {statement}")

    event.listen(Pool, "checkout", apply)
    try:
        yield
    finally:
        event.remove(Pool, "checkout", apply)


@pytest.fixture
def calibrated(client: TestClient) -> str:
    detector = client.post("/v1/detectors", json=DETECTOR).json()["id"]
    assert calibrate(client, detector).status_code == 200
    return str(detector)


def test_a_read_only_database_stops_writes_alone(client: TestClient, calibrated: str) -> None:
    with pragma("query_only=ON"):
        check_refused(client, calibrated, "make its folder writable")
    with pragma("query_only=OFF"):
        check_all_is_well(client, calibrated)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_file_that_cannot_be_written_leaves_the_calibration_before(
    client: TestClient, calibrated: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = score(client, calibrated)

    def refuse(_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        for write in ("calibrate", "upload a bank"):
            answer = WRITES[write](client, calibrated)
            assert answer.status_code == 507
            assert os.strerror(number) in answer.json()["detail"]
            assert "free some space, or make" in answer.json()["detail"]
            assert str(services_of(client).settings.data) not in answer.text
    assert score(client, calibrated) == before
    check_all_is_well(client, calibrated)


@contextmanager
def small_disk(folder: Path, size: str = "1m") -> Iterator[Path]:
    """A file system in memory; skips the test where this user may not mount one."""
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]).returncode:
        pytest.skip("mounting a file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    """Take all that is free on the disk of this folder; the file that does."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    assert shutil.disk_usage(folder).free == 0
    return path


def test_a_full_disk_stops_writes_alone_and_all_is_well_when_there_is_room_again(start: Start, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as folder:
        client = start(data=folder)
        detector = client.post("/v1/detectors", json=DETECTOR).json()["id"]
        assert calibrate(client, detector).status_code == 200
        ballast = fill(folder)
        check_refused(client, detector, "free some space")
        ballast.unlink()
        check_all_is_well(client, detector)
        client.close()
        services_of(client).database.close()


def cannot_start(capfd: pytest.CaptureFixture[str], **settings: Any) -> str:
    """The one line that a server leaves that can't start."""
    with pytest.raises(SystemExit) as ended:
        run(Settings(**settings))
    assert ended.value.code == 3
    lines = [line for line in capfd.readouterr().err.splitlines() if line]
    assert len(lines) == 1, lines
    return lines[0]


def test_a_server_does_not_start_on_a_read_only_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with small_disk(tmp_path / "disk") as folder:
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        line = cannot_start(capfd, data=folder)
        assert line.startswith(f"error: the server can't start: {folder}")
        assert "Read-only file system; set VLM_OOD_DATA" in line
        line = cannot_start(capfd, data=folder / "new")
        assert f"{folder / 'new'} can't be made: Read-only file system; set VLM_OOD_DATA" in line


def test_a_server_does_not_start_where_the_database_is_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "vlm-ood.sqlite3").write_bytes(b"not a database of any kind" * 100)
    line = cannot_start(capfd, data=tmp_path)
    assert f"{tmp_path / 'vlm-ood.sqlite3'}: it is no database of SQLite" in line
    (tmp_path / "file").touch()
    assert "can't be made: File exists" in cannot_start(capfd, data=tmp_path / "file")


def test_a_server_on_a_full_disk_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with small_disk(tmp_path / "disk") as folder:
        fill(folder)
        line = cannot_start(capfd, data=folder)
        assert str(folder) in line
        assert "free some space" in line or "set VLM_OOD_DATA" in line


def test_a_database_that_others_write_is_busy_and_not_full(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.sqlite3'}"
    engine = create_engine(url, connect_args={"timeout": 0})
    other = sqlite3.connect(tmp_path / "a.sqlite3", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DBAPIError) as raised, engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE a (b INTEGER)")
    other.close()
    engine.dispose()
    assert isinstance(callers_error(raised.value, engine), BusyError)
