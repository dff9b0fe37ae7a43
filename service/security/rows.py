"""The database table of API keys."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from service.storage.base import Base, utc


class ApiKey(Base):
    """A key of a tenant, with the digest of its token."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    tenant: Mapped[str] = mapped_column(String(64))
    label: Mapped[str] = mapped_column(String(200))
    access: Mapped[list[str]]
    images_per_minute: Mapped[int | None]
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]  # None: never
    last_used_at: Mapped[datetime | None]  # to the hour: see `KeyStore`

    def expired(self, now: datetime) -> bool:
        """Whether the key may not be used any more at that moment."""
        return self.expires_at is not None and now >= utc(self.expires_at)

    def usable(self, now: datetime) -> bool:
        """Whether the key is accepted at that moment."""
        return self.revoked_at is None and not self.expired(now)
