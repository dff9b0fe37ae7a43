"""Limits images per minute and key in a sliding window; headers say what is left."""

import time
from dataclasses import dataclass, field

from limits import RateLimitItemPerMinute
from limits.aio.storage import Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.storage import storage_from_string

from service.errors import RateLimitedError
from service.security.access import Principal


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

    async def charge(self, principal: Principal, images: int) -> dict[str, str]:
        """Count images of a key, and return the headers that say what is left.

        Raises:
            RateLimitedError: not enough left; nothing is taken.
        """
        per_minute = principal.images_per_minute or self.images_per_minute
        if principal.key_id is None or per_minute is None:
            return {}
        item = RateLimitItemPerMinute(per_minute)
        taken = await self._strategy.hit(item, principal.key_id, cost=images)
        window = await self._strategy.get_window_stats(item, principal.key_id)
        reset_s = max(1, round(window.reset_time - time.time()))
        if not taken:
            raise RateLimitedError(
                f"{images} images requested, {window.remaining} of {per_minute} per minute left: wait or send fewer",
                _wait_s(images, window.remaining, per_minute, reset_s),
            )
        return {
            "RateLimit-Limit": str(per_minute),
            "RateLimit-Remaining": str(window.remaining),
            "RateLimit-Reset": str(reset_s),
        }


def _wait_s(images: int, remaining: int, per_minute: int, reset_s: float) -> float:
    """Seconds until enough images are available again: at least until the window moves, at most 120."""
    return min(120.0, max(reset_s, 60 * (images - remaining) / per_minute))
