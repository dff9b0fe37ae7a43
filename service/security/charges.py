"""Charges every request to the caller's key: one image when it begins, and the rest when its cost is known."""

from dataclasses import dataclass, field
from typing import Final, cast

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import RateLimitedError
from service.problems import response_to
from service.request_id import request_id_of
from service.security.access import Principal
from service.security.rate_limit import RateLimiter

CHARGED: Final = "/v1/"
PROMPTS_PER_IMAGE: Final = 10  # ViT-B/32 on two cores: 172 prompts/s, 17.4 images/s (docs/operations.md)


@dataclass
class Account:
    """What one request costs.

    Args:
        limiter: counts the images of each key.
        principal: the caller.
        headers: say what is left; for every answer.
    """

    limiter: RateLimiter
    principal: Principal
    headers: dict[str, str] = field(default_factory=dict)
    _cost: int = 0
    _taken: int = 0

    async def begin(self) -> None:
        """Take one image, which the request costs however it is answered.

        Raises:
            RateLimitedError: none is left.
        """
        await self._take(1)

    async def charge(self, images: int) -> None:
        """Charge images; the one that `begin` took counts among the first.

        Raises:
            RateLimitedError: not enough left.
        """
        self._cost += images
        if self._cost > self._taken:
            await self._take(self._cost - self._taken)

    async def charge_text(self, prompts: int) -> None:
        """Charge prompts that are to be encoded: at most half of what the key may send in a minute, so that a key with
        other traffic can pay for any detector.

        Raises:
            RateLimitedError: not enough left.
        """
        per_minute = self.limiter.per_minute(self.principal)
        images = prompts // PROMPTS_PER_IMAGE
        await self.charge(images if per_minute is None else min(images, per_minute // 2))

    async def _take(self, images: int) -> None:
        allowance = await self.limiter.take(self.principal, images)
        if allowance is None:
            return
        self.headers = allowance.headers
        if not allowance.taken:
            raise RateLimitedError(
                f"this costs as much as {images + self._taken} images, {allowance.remaining + self._taken} of "
                f"{allowance.per_minute} per minute were left: wait or send fewer",
                allowance.wait_s(images),
            )
        self._taken += images


@dataclass(frozen=True)
class ChargeMiddleware:
    """Opens an account for each request that has a caller, before its body is read.

    Args:
        app: what comes after.
        limiter: counts the images of each key.
    """

    app: ASGIApp
    limiter: RateLimiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Charge one image and call the application, or answer 429."""
        principal = scope.get("state", {}).get("principal")
        if principal is None or not scope["path"].startswith(CHARGED):
            await self.app(scope, receive, send)
            return
        account = scope["state"]["account"] = Account(self.limiter, principal)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(account.headers)
            await send(message)

        try:
            await account.begin()
        except RateLimitedError as error:
            await response_to(error, request_id_of(scope))(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)


def account_of(scope: Scope) -> Account:
    """The account of a request."""
    return cast(Account, scope["state"]["account"])
