"""Protects the server from pages of other sites: security headers, and a check of Host and Origin."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ForbiddenError, MisdirectedError
from service.problems import response_to
from service.request_id import request_id_of

HEADERS: Final = MappingProxyType(
    {
        "Content-Security-Policy": (
            "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
            "form-action 'self'; frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }
)


@dataclass(frozen=True)
class BrowserMiddleware:
    """Sets security headers, and refuses unknown hosts and writing requests of pages of other sites.

    Args:
        app: what comes after.
        hosts: what the Host header may say; empty for anything.
        origins: of the pages that may call; those of other sites may not.
    """

    app: ASGIApp
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, or answer 421 or 403."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/v1/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        answer = self.app if refusal is None else response_to(refusal, request_id_of(scope))
        await answer(scope, receive, send_with_headers)

    def _refusal(self, method: str, headers: Headers) -> MisdirectedError | ForbiddenError | None:
        host = headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self.hosts and name.lower() not in self.hosts:
            return MisdirectedError(f"host {name[:100]!r} is not allowed: add it to VLM_OOD_ALLOWED_HOSTS")
        foreign = headers.get("sec-fetch-site") in {"cross-site", "same-site"}
        if method not in {"GET", "HEAD", "OPTIONS"} and foreign and headers.get("origin") not in self.origins:
            return ForbiddenError("a page of this origin may not write: add the origin to VLM_OOD_CORS_ORIGINS")
        return None
