"""API keys: a token is shown once and stored as a digest; a revoked key stops working with the next request."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.security.rows import ApiKey
from service.storage.database import Database
from vlm_ood.errors import InputError, UnknownNameError

PREFIX: Final = "vo"
ACCESS: Final = ("score", "manage", "metrics")
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
    """

    database: Database

    def create(
        self, tenant: str, access: Iterable[str], *, label: str = "", images_per_minute: int | None = None
    ) -> tuple[ApiKey, str]:
        """A new key and its token, which is not stored.

        Raises:
            InputError: a tenant name or a rate that can't be used.
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
        key_id = secrets.token_hex(6)
        token = f"{PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
        key = ApiKey(
            id=key_id,
            digest=digest_of_token(token),
            tenant=tenant,
            label=label,
            access=wanted,
            images_per_minute=images_per_minute,
            created_at=datetime.now(UTC),
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
            key.revoked_at = key.revoked_at or datetime.now(UTC)
            return key

        return self.database.now(work)

    async def any(self) -> bool:
        """Whether a key exists, revoked or not."""
        return await self.database.run(lambda session: session.scalar(select(ApiKey.id).limit(1)) is not None)

    async def find(self, token: str) -> ApiKey | None:
        """The key of this token; None if it is unknown or was revoked."""
        parts = token.split("_", 2)
        key_id = parts[1] if len(parts) == 3 and parts[0] == PREFIX and len(parts[1]) == 12 else ""
        key = await self.database.run(lambda session: session.get(ApiKey, key_id)) if key_id.isalnum() else None
        same = hmac.compare_digest(key.digest if key else _NO_DIGEST, digest_of_token(token))
        return key if key is not None and same and key.revoked_at is None else None
