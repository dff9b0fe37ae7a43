"""New databases, on SQLite and on PostgreSQL where there is one."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from tests.service.storage import postgresql

NewUrl = Callable[[], str]


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[URL]:
    with postgresql.server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewUrl]:
    """The URL of an empty database, another one at each call."""
    if request.param == "sqlite":
        numbers = count()
        yield lambda: f"sqlite:///{tmp_path / str(next(numbers)) / 'vlm-ood.sqlite3'}"
        return
    server = request.getfixturevalue("postgresql_server")
    with ExitStack() as made:
        yield lambda: made.enter_context(postgresql.database(server))


@pytest.fixture
def url(new_url: NewUrl) -> str:
    """The URL of an empty database."""
    return new_url()
