"""A PostgreSQL server for the tests: the one that the environment names, or one of Debian's that is started here."""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import URL, make_url

VARIABLE: Final = "VLM_OOD_TEST_POSTGRESQL_URL"


@contextmanager
def server() -> Iterator[URL]:
    """The address of a server on which databases may be made; skips the test when there is none."""
    pytest.importorskip("psycopg", reason="no psycopg: install the extra `postgresql`")
    if given := os.environ.get(VARIABLE):
        yield make_url(given)
        return
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip(f"no PostgreSQL: set {VARIABLE}, or install Debian's package `postgresql`")
    folder = Path(tempfile.mkdtemp(prefix="vlm-ood-postgresql-"))  # short, since it holds a socket
    try:
        with _running(programs[-1], folder) as url:
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(programs: Path, folder: Path) -> Iterator[URL]:
    user, as_user = "postgres", list[str]()
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres")
        as_user = ["runuser", "-u", "postgres", "--"]
    data, log = folder / "data", folder / "log"
    control = [*as_user, str(programs / "pg_ctl"), "-D", str(data), "-w"]
    options = f"-k {folder} -c listen_addresses= -c fsync=off"
    _call([*as_user, str(programs / "initdb"), "-D", str(data), "-U", user, "-A", "trust", "-E", "UTF8", "--no-sync"])
    _call([*control, "-l", str(log), "-o", options, "start"])
    try:
        yield URL.create("postgresql+psycopg", user, database="postgres", query={"host": str(folder)})
    finally:
        _call([*control, "-m", "immediate", "stop"])


def _call(command: list[str]) -> None:
    subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def database(on: URL) -> Iterator[str]:
    """The URL of a database of its own, dropped afterwards."""
    name = f"vlm_ood_test_{secrets.token_hex(6)}"
    engine = create_engine(on, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        yield on.set(database=name).render_as_string(hide_password=False)
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        engine.dispose()
