"""Keys that expire, on a clock that the test sets: refused from that moment on, told when, and noted when used."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Pool, event
from typer.testing import CliRunner

from service.errors import UnauthenticatedError
from service.run import check_reach
from service.security.keys import USED_EVERY_S, KeyStore
from service.security.rows import ApiKey
from service.settings import Settings, SettingsError
from service.storage.base import utc
from service.storage.database import Database
from tests.service.conftest import Start, services_of
from vlm_ood.cli import keys as command
from vlm_ood.errors import InputError, StorageError

NOON = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)


class Clock:
    """A time of day and a monotonic clock, which may go apart."""

    def __init__(self) -> None:
        self.day, self.seconds = NOON, 1000.0

    def now(self) -> datetime:
        return self.day

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(tmp_path: Path, clock: Clock) -> Iterator[KeyStore]:
    database = Database(f"sqlite:///{tmp_path / 'keys.sqlite3'}")
    yield KeyStore(database, clock.now, clock.monotonic)
    database.close()


async def test_a_key_is_refused_from_its_expiry_on_and_told_when_it_was(keys: KeyStore, clock: Clock) -> None:
    _, token = keys.create("a", ["score"], expires_at=NOON + timedelta(hours=1))
    _, endless = keys.create("a", ["score"])
    clock.day = NOON + timedelta(minutes=59, seconds=59)
    assert (await keys.find(token)).tenant == "a"
    clock.day = NOON + timedelta(hours=1)
    with pytest.raises(UnauthenticatedError, match=r"expired on 2030-01-31 13:00 UTC.*vlm-ood keys create"):
        await keys.find(token)
    assert (await keys.find(endless)).expires_at is None
    clock.day = NOON  # set back: the time of day alone decides
    assert (await keys.find(token)).tenant == "a"


async def test_the_expiry_is_told_to_the_holder_of_the_token_alone(keys: KeyStore, clock: Clock) -> None:
    _, token = keys.create("a", ["score"], expires_at=NOON + timedelta(hours=1))
    clock.day = NOON + timedelta(days=1)
    with pytest.raises(UnauthenticatedError, match="unknown or was revoked"):
        await keys.find(token[:-1] + ("a" if token[-1] != "a" else "b"))


async def test_an_expiry_in_another_time_zone_is_the_same_moment(keys: KeyStore, clock: Clock) -> None:
    _, token = keys.create("a", ["score"], expires_at=datetime.fromisoformat("2030-01-31T15:00+02:00"))
    clock.day = NOON + timedelta(minutes=59)
    await keys.find(token)
    clock.day = NOON + timedelta(minutes=60)
    with pytest.raises(UnauthenticatedError, match="expired on 2030-01-31 13:00 UTC"):
        await keys.find(token)


def test_an_expiry_in_the_past_makes_no_key(keys: KeyStore) -> None:
    with pytest.raises(InputError, match="2030-01-31 12:00 UTC is not in the future"):
        keys.create("a", ["score"], expires_at=NOON)
    assert keys.all() == []


def last_use(keys: KeyStore) -> datetime | None:
    moment = keys.all()[0].last_used_at
    return moment and utc(moment)


async def test_the_last_use_is_stored_once_an_hour_however_the_time_of_day_jumps(keys: KeyStore, clock: Clock) -> None:
    _, token = keys.create("a", ["score"])
    assert last_use(keys) is None
    await keys.find(token)
    assert last_use(keys) == NOON
    for clock.day in (NOON + timedelta(days=400), NOON - timedelta(days=400)):
        await keys.find(token)
        assert last_use(keys) == NOON, "the monotonic clock has not moved"
    clock.seconds += USED_EVERY_S
    await keys.find(token)
    assert last_use(keys) == NOON - timedelta(days=400)


async def test_a_use_that_cannot_be_stored_stops_no_request(keys: KeyStore) -> None:
    _, token = keys.create("a", ["score"])

    def read_only(connection: Any, *_: object) -> None:
        connection.execute("PRAGMA query_only=ON")

    event.listen(Pool, "checkout", read_only)
    try:
        assert (await keys.find(token)).tenant == "a"
        assert last_use(keys) is None
        with pytest.raises(StorageError, match=r"can.t be written"):
            keys.create("a", ["score"])
    finally:
        event.remove(Pool, "checkout", read_only)


async def test_a_refused_key_leaves_no_note_of_use(keys: KeyStore) -> None:
    key, token = keys.create("a", ["score"])
    keys.revoke(key.id)
    with pytest.raises(UnauthenticatedError):
        await keys.find(token)
    assert last_use(keys) is None


def test_an_expired_key_answers_401_over_http(start: Start) -> None:
    client = start()
    store = services_of(client).keys
    _, token = store.create("a", ["score"], expires_at=store.now() + timedelta(days=1))
    header = {"Authorization": f"Bearer {token}"}
    assert client.get("/v1/methods", headers=header).status_code == 200
    past = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    store.database.now(lambda session: setattr(session.get_one(ApiKey, store.all()[0].id), "expires_at", past))
    refused = client.get("/v1/methods", headers=header)
    assert refused.status_code == 401
    assert "expired on 2026-01-02 03:04 UTC" in refused.json()["detail"]
    assert client.get("/v1/methods").status_code == 401, "an expired key is still a key: the server stays closed"


def test_expired_keys_do_not_let_the_server_listen(tmp_path: Path) -> None:
    settings = Settings(host="0.0.0.0", data=tmp_path)
    database = Database(settings.sql_url)
    KeyStore(database, lambda: datetime(2020, 1, 1, tzinfo=UTC)).create(
        "a", ["score"], expires_at=datetime(2020, 1, 2, tzinfo=UTC)
    )
    database.close()
    with pytest.raises(SettingsError, match="no valid keys"):
        check_reach(settings)


def test_a_database_that_cannot_be_read_is_a_problem_document(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    client = start()
    _, token = services_of(client).keys.create("a", ["score"])

    def unreachable(*_: object) -> None:
        raise StorageError("the database can't be used")

    monkeypatch.setattr(Database, "now", unreachable)
    answer = client.get("/v1/methods", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 507
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90d", NOON + timedelta(days=90)),
        ("12h", NOON + timedelta(hours=12)),
        ("2w", NOON + timedelta(weeks=2)),
        ("2031-02-03", datetime(2031, 2, 3, tzinfo=UTC)),
        ("2031-02-03T04:05", datetime(2031, 2, 3, 4, 5, tzinfo=UTC)),
        ("2031-02-03T04:05+02:00", datetime(2031, 2, 3, 2, 5, tzinfo=UTC)),
    ],
)
def test_an_expiry_is_a_time_or_a_date(text: str, moment: datetime) -> None:
    assert command.expiry(text, NOON) == moment


@pytest.mark.parametrize("text", ["", "d", "90", "90x", "-1d", "1.5d", "99999999999d", "tomorrow", "2031-13-01"])
def test_any_other_expiry_is_an_error(text: str) -> None:
    with pytest.raises(InputError, match="such as 90d or a date"):
        command.expiry(text, NOON)


def test_the_command_line_shows_the_expiry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLM_OOD_DATA", str(tmp_path))
    made = CliRunner().invoke(command.app, ["create", "--expires", "2100-01-31", "--json"])
    assert '"expires": "2100-01-31T00:00:00+00:00"' in made.stdout
    assert '"expires": "2100-01-31T00:00:00+00:00"' in CliRunner().invoke(command.app, ["list", "--json"]).stdout
    past = CliRunner().invoke(command.app, ["create", "--expires", "2020-01-31"])
    assert isinstance(past.exception, InputError)
