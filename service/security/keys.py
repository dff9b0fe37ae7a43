"""API keys: a token is shown once and stored as a digest; a revoked or expired key is refused at once."""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.errors import BusyError, UnauthenticatedError
from service.security.rows import ApiKey
from service.storage.base import utc
from service.storage.database import Database
from vlm_ood.errors import InputError, StorageError, UnknownNameError

PREFIX: Final = "vo"
ACCESS: Final = ("score", "manage", "metrics")
USED_EVERY_S: Final = 3600.0  # resolution of `last_used_at`, so that requests don't write
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NO_DIGEST: Final = "0" * 64  # compared with where there is no such key, so that both cases take the same time


def digest_of_token(token: str) -> str:
    """What is stored of a token: one SHA-256 is enough, since a token has 256 random bits."""
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True)
class KeyStore:
    """Makes, lists, revokes and finds keys.

    Args:
        database: where they are stored.
        now: the time of day, which expiry compares with.
        clock: seconds that never go back, between two notes of a key's use.
    """

    database: Database
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = time.monotonic
    _noted: dict[str, float] = field(default_factory=dict, init=False)

    def create(
        self,
        tenant: str,
        access: Iterable[str],
        *,
        label: str = "",
        images_per_minute: int | None = None,
        expires_at: datetime | None = None,
    ) -> tuple[ApiKey, str]:
        """A new key and its token, which is not stored.

        Args:
            tenant: whose detectors and banks the key may use.
            access: what it may do.
            label: a note on what it is for.
            images_per_minute: its rate limit; None for the server's.
            expires_at: from when on it is refused; None for never.

        Raises:
            InputError: a tenant name, a rate or an expiry that can't be used.
            UnknownNameError: a kind of access that doesn't exist.
        """
        wanted = sorted(set(access))
        for part in wanted:
            if part not in ACCESS:
                raise UnknownNameError("access", part, ACCESS)
        if not _TENANT.fullmatch(tenant):
            raise InputError(f"tenant {tenant!r} must be 1 to 64 letters, digits, dots, dashes and underscores")
        if images_per_minute is not None and images_per_minute < 1:
            raise InputError(f"{images_per_minute} images per minute: give at least 1, or none for the server's limit")
        now = self.now()
        if expires_at is not None and expires_at <= now:
            raise InputError(f"the expiry {shown(expires_at)} is not in the future (it is {shown(now)} now)")
        key_id = secrets.token_hex(6)
        token = f"{PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
        key = ApiKey(
            id=key_id,
            digest=digest_of_token(token),
            tenant=tenant,
            label=label,
            access=wanted,
            images_per_minute=images_per_minute,
            created_at=now,
            expires_at=expires_at and expires_at.astimezone(UTC),
        )
        self.database.now(lambda session: session.add(key))
        return key, token

    def all(self) -> list[ApiKey]:
        """All keys, also revoked ones, oldest first."""
        return self.database.now(lambda session: list(session.scalars(select(ApiKey).order_by(ApiKey.created_at))))

    def revoke(self, key_id: str) -> ApiKey:
        """Revoke a key; gives its row.

        Raises:
            UnknownNameError: no key has this id.
        """

        def work(session: Session) -> ApiKey:
            key = session.get(ApiKey, key_id)
            if key is None:
                raise UnknownNameError("key", key_id, session.scalars(select(ApiKey.id)))
            key.revoked_at = key.revoked_at or self.now()
            return key

        return self.database.now(work)

    async def any(self) -> bool:
        """Whether a key exists, revoked or not."""
        return await self.database.run(lambda session: session.scalar(select(ApiKey.id).limit(1)) is not None)

    async def find(self, token: str) -> ApiKey:
        """The key of this token.

        Raises:
            UnauthenticatedError: the token is unknown, or its key was revoked or has expired.
        """
        parts = token.split("_", 2)
        key_id = parts[1] if len(parts) == 3 and parts[0] == PREFIX and len(parts[1]) == 12 else ""
        key = await self.database.run(lambda session: session.get(ApiKey, key_id)) if key_id.isalnum() else None
        same = hmac.compare_digest(key.digest if key else _NO_DIGEST, digest_of_token(token))
        if key is None or not same or key.revoked_at is not None:
            raise UnauthenticatedError("this key is unknown or was revoked")
        if key.expires_at is not None and key.expired(self.now()):
            raise UnauthenticatedError(
                f"this key expired on {shown(key.expires_at)}: create another with `vlm-ood keys create`"
            )
        await self._note_use(key)
        return key

    async def _note_use(self, key: ApiKey) -> None:
        """Store that the key was used, at most once in `USED_EVERY_S`; if it can't be written, the request goes on."""
        noted = self._noted.get(key.id)
        if noted is not None and self.clock() - noted < USED_EVERY_S:
            return
        self._noted[key.id] = self.clock()
        used = update(ApiKey).where(ApiKey.id == key.id).values(last_used_at=self.now())
        with suppress(StorageError, BusyError):
            await self.database.run(lambda session: session.execute(used))


def shown(moment: datetime) -> str:
    """A moment in UTC as messages have it, to the minute."""
    return f"{utc(moment).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
