"""Identifies the caller of a request by its key; every path that is not listed as open needs one."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import UnauthenticatedError
from service.problems import response_to
from service.request_id import request_id_of
from service.security.keys import KeyStore
from vlm_ood.errors import VlmOodError

Access = Literal["score", "manage", "metrics"]
ALL_ACCESS: Final = frozenset[Access](get_args(Access))

OPEN_PATHS: Final = frozenset({"/", "/livez", "/readyz", "/docs", "/docs/style.css", "/openapi.json"})
OPEN_FOLDERS: Final = ("/page/",)  # the static files of the page


@dataclass(frozen=True)
class Principal:
    """The caller of a request.

    Args:
        tenant: whose detectors are seen.
        access: what the caller may do.
        key_id: None for the only user of a server without keys.
        images_per_minute: of the key; None for the server's own limit.
    """

    tenant: str
    access: frozenset[Access]
    key_id: str | None = None
    images_per_minute: int | None = None


LOCAL: Final = Principal("local", ALL_ACCESS)


@dataclass(frozen=True)
class AccessMiddleware:
    """Identifies the caller before any byte of the body is read.

    Args:
        app: what comes after.
        keys: where keys are looked up.
        keyless: "until-first-key" accepts requests without a key until there is a key, "always" at any time.
    """

    app: ASGIApp
    keys: KeyStore
    keyless: Literal["never", "until-first-key", "always"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Set the principal and call the application, or answer with the error, mostly 401."""
        if scope["type"] != "http" or is_open(scope["path"]):
            await self.app(scope, receive, send)
            return
        try:
            scope.setdefault("state", {})["principal"] = await self._principal(Headers(scope=scope))
        except VlmOodError as error:  # no valid key, or a database that can't be used
            await response_to(error, request_id_of(scope))(scope, receive, send)
            return
        await self.app(scope, receive, send)

    async def _principal(self, headers: Headers) -> Principal:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return await self._holder(token.strip())
        if self.keyless == "always" or (self.keyless == "until-first-key" and not await self.keys.any()):
            return LOCAL
        raise UnauthenticatedError(
            "send the header 'Authorization: Bearer KEY'; create a key with `vlm-ood keys create`"
        )

    async def _holder(self, token: str) -> Principal:
        key = await self.keys.find(token)
        access = frozenset(part for part in get_args(Access) if part in key.access)
        return Principal(key.tenant, access, key.id, key.images_per_minute)


def tenant_of(scope: Scope) -> str:
    """The tenant of the caller; empty on an open path, where nobody is identified."""
    principal = scope.get("state", {}).get("principal")
    return principal.tenant if isinstance(principal, Principal) else ""


def is_open(path: str) -> bool:
    """Whether the path needs no key."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)
