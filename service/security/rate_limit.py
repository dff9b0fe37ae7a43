"""Limits images per minute and key in a sliding window."""

import time
from dataclasses import dataclass, field

from limits import RateLimitItemPerMinute
from limits.aio.storage import Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.storage import storage_from_string

from service.security.access import Principal


@dataclass(frozen=True)
class Allowance:
    """What a key may still send.

    Args:
        per_minute: its limit.
        remaining: images left.
        reset_s: seconds until the window moves.
        taken: whether what was asked for was taken.
    """

    per_minute: int
    remaining: int
    reset_s: int
    taken: bool

    @property
    def headers(self) -> dict[str, str]:
        """The headers that say what is left."""
        return {
            "RateLimit-Limit": str(self.per_minute),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_s),
        }

    def wait_s(self, images: int) -> float:
        """Seconds until so many are available: at least until the window moves, at most 120."""
        return min(120.0, max(self.reset_s, 60 * (images - self.remaining) / self.per_minute))


@dataclass(frozen=True)
class RateLimiter:
    """Counts the images of each key.

    Args:
        images_per_minute: of a key that has no limit of its own; None for no limit.
        storage: of the `limits` library; a Redis URL is shared by replicas.
    """

    images_per_minute: int | None
    storage: str = "async+memory://"
    _strategy: SlidingWindowCounterRateLimiter = field(init=False)

    def __post_init__(self) -> None:
        storage = storage_from_string(self.storage)
        if not isinstance(storage, Storage):
            raise ValueError(f"rate_limit_storage {self.storage!r} must begin with async+, such as async+memory://")
        object.__setattr__(self, "_strategy", SlidingWindowCounterRateLimiter(storage))

    def per_minute(self, principal: Principal) -> int | None:
        """The caller's limit; None for no limit, as on a server without keys."""
        return None if principal.key_id is None else principal.images_per_minute or self.images_per_minute

    async def take(self, principal: Principal, images: int) -> Allowance | None:
        """Take so many images of the caller's limit if they are left, else none; None if there is no limit."""
        per_minute = self.per_minute(principal)
        if per_minute is None or principal.key_id is None:
            return None
        item = RateLimitItemPerMinute(per_minute)
        taken = await self._strategy.hit(item, principal.key_id, cost=images)
        window = await self._strategy.get_window_stats(item, principal.key_id)
        return Allowance(per_minute, window.remaining, max(1, round(window.reset_time - time.time())), taken)
