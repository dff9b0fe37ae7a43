"""Old and new databases open for several processes at once and after a kill; newer ones are refused."""

import ast
import json
import signal
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from filelock import FileLock
from sqlalchemy import create_engine, select, text
from typer.testing import CliRunner

import service.banks.rows
import service.detectors.rows
import service.security.rows  # noqa: F401  (the tables are known once they are imported)
from service.detectors.rows import DetectorRow
from service.detectors.store import DetectorStore
from service.security.rows import ApiKey
from service.storage import upgrade
from service.storage.base import Base
from service.storage.blobs import Blobs
from service.storage.database import Database
from tests.service.storage import old
from tests.service.storage.conftest import NewUrl
from tests.service.storage.processes import open_it, open_it_and_die, run
from vlm_ood.cli import keys
from vlm_ood.errors import StorageError
from vlm_ood.tasks import DetectorSpec, MinedBank, TaskSpec, TemplateBank

REVISIONS = sorted((Path(upgrade.__file__).parent / "migrations" / "versions").glob("r*.py"))
NEWEST = REVISIONS[-1].name[1:5]
ASKED = DetectorSpec(  # the content of `old.MINED`, as a caller asks for it today
    "neglabel",
    TaskSpec(TemplateBank(("red", "blue"), ("a photo of {}.", "{}")), "embedded", negatives=MinedBank(words=("x",))),
)


def check_rows(url: str) -> None:
    """What an old program stored is there, and can be found in the ways of today."""
    with closing(Database(url)) as database:
        key = database.now(lambda session: session.get_one(ApiKey, old.KEY["id"]))
        assert (key.tenant, key.access, key.images_per_minute) == ("acme", ["manage", "score"], 600)
        detectors = database.now(lambda session: {row.id: row for row in session.scalars(select(DetectorRow))})
        assert detectors.keys() == old.SPECS.keys()
        for row in detectors.values():
            spec = DetectorSpec.from_plain(row.spec)
            assert spec.task.names == tuple(old.SPECS[row.id]["classes"])
            assert (row.digest, row.family) == (spec.digest, spec.family)
        calibration = detectors[old.CALIBRATED].calibration
        assert calibration is not None
        assert calibration.threshold == old.CALIBRATION["threshold"]
        assert calibration.images == old.CALIBRATION["images"]
        assert calibration.blob == f"calibrations/{old.CALIBRATION['artefact']}", "the file keeps its place"


def test_three_processes_open_a_new_database_at_once(new_url: NewUrl) -> None:
    for _ in range(3):
        assert run(open_it, new_url(), times=3) == [0, 0, 0]


def test_three_processes_open_an_old_database_at_once(new_url: NewUrl) -> None:
    for _ in range(3):
        url = old.make(new_url())
        assert run(open_it, url, times=3) == [0, 0, 0]
        check_rows(url)


def test_a_process_killed_at_many_statements_leaves_a_database_that_opens(new_url: NewUrl) -> None:
    for statement in count(1, 3):  # a third of them: a process takes a second
        url = old.make(new_url())
        code = run(open_it_and_die, url, statement)
        check_rows(url)
        if code == [0]:
            break
        assert code == [-signal.SIGKILL]
    assert statement > 10, "it was never killed"


@pytest.mark.parametrize("tables", range(len(old.TABLES)))
def test_an_old_program_killed_in_the_middle_left_a_database_that_opens(url: str, tables: int) -> None:
    Database(old.make(url, tables)).close()
    assert differences(url) == []


def test_the_revisions_make_the_tables_that_the_program_declares(new_url: NewUrl) -> None:
    for url in (new_url(), old.make(new_url())):
        Database(url).close()
        assert differences(url) == []


def differences(url: str) -> list[object]:
    """Between the tables of the database and those of the program."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            options = {"include_name": lambda name, kind, _: (kind, name) != ("table", "schema_version")}
            return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))
    finally:
        engine.dispose()


def test_a_database_of_a_newer_program_is_refused_and_left_alone(url: str) -> None:
    Database(url).close()
    change(url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StorageError, match=rf"revision 9999, this program of {NEWEST}: use the newer vlm-ood"):
        Database(url)
    assert ask(url, "SELECT version_num FROM alembic_version") == "9999"


def test_programs_without_migrations_refuse_an_upgraded_database(url: str) -> None:
    Database(old.make(url)).close()
    assert ask(url, "SELECT version FROM schema_version") == 2, "they open a database of version 1 alone"


async def test_the_same_content_finds_the_detector_of_an_old_database(url: str, tmp_path: Path) -> None:
    with closing(Database(old.make(url))) as database:
        row, new = await DetectorStore(database, Blobs(database, tmp_path), max_detectors=3).create("acme", ASKED)
    assert (row.id, new) == (old.MINED, False)


def test_the_command_line_opens_an_old_data_folder_and_refuses_a_newer_one(tmp_path: Path) -> None:
    url = old.make(f"sqlite:///{tmp_path / 'vlm-ood.sqlite3'}")
    listed = CliRunner().invoke(keys.app, ["list", "--json", "--data", str(tmp_path)])
    assert [key["id"] for key in json.loads(listed.stdout)] == [old.KEY["id"]]
    change(url, "UPDATE alembic_version SET version_num = '9999'")
    refused = CliRunner().invoke(keys.app, ["list", "--data", str(tmp_path)])
    assert isinstance(refused.exception, StorageError)


def test_an_upgrade_that_takes_too_long_elsewhere_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "LOCK_TIMEOUT_S", 0)
    with FileLock(tmp_path / "a.sqlite3.lock"), pytest.raises(StorageError, match="another process"):
        Database(f"sqlite:///{tmp_path / 'a.sqlite3'}")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/name", "nothing"])
def test_a_url_that_cannot_be_used_is_a_storage_error(url: str) -> None:
    with pytest.raises(StorageError, match="database URL"):
        Database(url)


def test_rows_that_refer_to_nothing_stop_the_upgrade(tmp_path: Path) -> None:
    url = old.make(f"sqlite:///{tmp_path / 'a.sqlite3'}")
    change(url, "DELETE FROM detectors")
    with pytest.raises(StorageError, match="restore a backup"):
        Database(url)
    assert ask(url, "SELECT version FROM schema_version") == 1


@pytest.mark.parametrize("file", REVISIONS, ids=lambda file: file.stem)
def test_a_revision_imports_nothing_of_the_application(file: Path) -> None:
    tree = ast.parse(file.read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [each.name for each in node.names]
            if isinstance(node, ast.Import)
            else [node.module or "service"]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not imported & {"service", "vlm_ood", "tests"}


def change(url: str, statement: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def ask(url: str, query: str) -> object:
    engine = create_engine(url)
    with engine.connect() as connection:
        answer: object = connection.scalar(text(query))
    engine.dispose()
    return answer
