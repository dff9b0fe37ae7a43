"""`vlm-ood keys`: creates, lists and revokes the server's API keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table

from vlm_ood.cli.common import JsonOption, console, notes, print_json

if TYPE_CHECKING:
    from service.security.keys import KeyStore

app = typer.Typer(no_args_is_help=True, help="Create, list and revoke the server's API keys.")

UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}

DataOption = Annotated[Path | None, typer.Option(help="The server's data folder.")]


@app.command()
def create(
    tenant: Annotated[str, typer.Option(help="The tenant whose detectors the key may use.")] = "default",
    access: Annotated[
        list[str] | None,
        typer.Option("--access", "-a", help="score, manage or metrics; may be repeated; score by default."),
    ] = None,
    label: Annotated[str, typer.Option(help="A note on what the key is for.")] = "",
    images_per_minute: Annotated[
        int | None, typer.Option(help="Rate limit of the key; the server's by default.")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            help="When the key expires: after a time such as 90d (h, d, w), or on a date such as 2030-01-31, at 00:00 "
            "UTC; never by default."
        ),
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a key. Its token is shown only once, because the server stores no more than its hash."""
    until = None if expires is None else expiry(expires, datetime.now(UTC))
    with _keys(data) as keys:
        key, token = keys.create(
            tenant, access or ["score"], label=label, images_per_minute=images_per_minute, expires_at=until
        )
    if as_json:
        shown = {"id": key.id, "tenant": key.tenant, "access": key.access, "expires": _shown(key.expires_at)}
        print_json(shown | {"token": token})
        return
    notes.print(f"key {key.id} of tenant {key.tenant} for {', '.join(key.access)}; save the token, it is not stored:")
    console.print(token, markup=False, highlight=False, soft_wrap=True)


@app.command("list")
def list_(data: DataOption = None, as_json: JsonOption = False) -> None:
    """List every key, without its token."""
    with _keys(data) as keys:
        rows = [
            {
                "id": key.id,
                "tenant": key.tenant,
                "access": key.access,
                "label": key.label,
                "images_per_minute": key.images_per_minute,
                "created": _shown(key.created_at),
                "expires": _shown(key.expires_at),
                "last_used": _shown(key.last_used_at),
                "revoked": _shown(key.revoked_at),
            }
            for key in keys.all()
        ]
    if as_json:
        print_json(rows)
        return
    table = Table("id", "tenant", "access", "label", "images per minute", "created", "expires", "last used", "revoked")
    for row in rows:
        table.add_row(*(", ".join(cell) if isinstance(cell, list) else str(cell or "") for cell in row.values()))
    console.print(table)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The id that `vlm-ood keys list` shows.")], data: DataOption = None
) -> None:
    """Revoke a key; from now on the server refuses it."""
    with _keys(data) as keys:
        key = keys.revoke(key_id)
    notes.print(f"key {key.id} of tenant {key.tenant} is revoked")


def expiry(text: str, now: datetime) -> datetime:
    """The moment that '90d' or '2030-01-31' stands for; without a time zone it is in UTC.

    Raises:
        InputError: it is neither a time nor a date.
    """
    from vlm_ood.errors import InputError

    try:
        if text[-1:] in UNITS and text[:-1].isdecimal():
            return now + timedelta(**{UNITS[text[-1]]: int(text[:-1])})
        given = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise InputError(f"--expires {text[:50]!r}: give a time such as 90d or a date such as 2030-01-31") from None
    return given.replace(tzinfo=UTC) if given.tzinfo is None else given.astimezone(UTC)


def _shown(moment: datetime | None) -> str | None:
    from service.storage.base import utc

    return None if moment is None else utc(moment).isoformat(timespec="seconds")


@contextmanager
def _keys(data: Path | None) -> "Iterator[KeyStore]":
    from service.security.keys import KeyStore
    from service.settings import read_settings
    from service.storage.database import Database

    database = Database(read_settings(data=data).sql_url)
    try:
        yield KeyStore(database)
    finally:
        database.close()
