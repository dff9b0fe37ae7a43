"""The outermost middleware: gives each request an id, a log line, metrics and, after an unexpected error, a 500."""

import time
from dataclasses import dataclass

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.observability.metrics import METHODS, UNMATCHED, HttpMetrics
from service.problems import INTERNAL, problem_response
from service.request_id import request_id_of

log = structlog.get_logger("vlm_ood.http")


@dataclass(frozen=True)
class RequestMiddleware:
    """Logs and measures each request.

    Args:
        app: what comes after.
        metrics: where requests are counted.
    """

    app: ASGIApp
    metrics: HttpMetrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, and answer 500 when it raises."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request_id_of(scope)
        started, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id), self.metrics.in_flight.track_inprogress():
            try:
                await self.app(scope, receive, watched)
            except Exception:
                log.exception("request failed", route=route_of(scope))
                if status:
                    raise
                response = problem_response(INTERNAL, "the server's log has details under this request id", request_id)
                await response(scope, receive, watched)
            finally:
                self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = method_of(scope), route_of(scope)
        self.metrics.record(method, route, status, seconds)
        principal = scope.get("state", {}).get("principal")
        write = log.debug if route in {"/livez", "/readyz", "/metrics"} else log.info
        write(
            "request",
            method=method,
            route=route,
            status=status or "client left",
            ms=round(1000 * seconds, 1),
            tenant=principal.tenant if principal else None,
            key=principal.key_id if principal else None,
        )


def method_of(scope: Scope) -> str:
    """The method of the request if it is a known one, else "other"."""
    method = str(scope["method"])
    return method if method in METHODS else "other"


def route_of(scope: Scope) -> str:
    """The route's path as the program has it, with its parameters unfilled; "unmatched" where there is none."""
    return str(getattr(scope.get("route"), "path", UNMATCHED))
