"""The id under which a request is logged and answered."""

import re
import uuid
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Scope

_ACCEPTED: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def request_id_of(scope: Scope) -> str:
    """The caller's X-Request-ID when it is harmless, else one of ours; the same for the whole request."""
    state = scope.setdefault("state", {})
    if "request_id" not in state:
        given = Headers(scope=scope).get("x-request-id", "")
        state["request_id"] = given if _ACCEPTED.fullmatch(given) else uuid.uuid4().hex
    return str(state["request_id"])
