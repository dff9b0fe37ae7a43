"""Refuses requests while the server starts or stops, before anything is spent on them."""

from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from service.engine import EngineError
from service.lifecycle import Lifecycle
from service.problems import response_to
from service.request_id import request_id_of
from service.security.admittance import HEALTH_PATHS


@dataclass(frozen=True)
class AvailabilityMiddleware:
    """Answers 503 in place of the application while the server starts or stops; health is always answered.

    Args:
        app: what comes after.
        lifecycle: of the server.
    """

    app: ASGIApp
    lifecycle: Lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, or answer 503."""
        if scope["type"] == "http" and scope["path"] not in HEALTH_PATHS:
            try:
                self.lifecycle.check()
            except EngineError as error:
                response = response_to(error, request_id_of(scope))
                response.headers["Connection"] = "close"
                await response(scope, receive, send)
                return
        await self.app(scope, receive, send)
