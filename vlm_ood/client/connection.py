"""The URL and the headers with which both clients send requests."""

import httpx

from vlm_ood.errors import InputError


def checked_url(base_url: str) -> httpx.URL:
    """Check the URL of a server.

    Raises:
        InputError: it is not an HTTP URL.
    """
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise InputError(f"server {base_url!r}: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise InputError(f"server {base_url!r}: give a URL such as http://127.0.0.1:8000")
    return url


def headers(api_key: str | None) -> dict[str, str]:
    """The headers of every request."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}
