"""Checks a URL before anything is looked up: scheme, port, host, and nothing that programs read in different ways."""

import ipaddress
import re
from typing import Final

import httpx

from service.errors import UrlError

MAX_URL: Final = 2048
_PORTS: Final = {"http": 80, "https": 443}
_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})+")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a last label like this makes a host an IPv4 address


def checked_url(url: str, schemes: tuple[str, ...], ports: tuple[int, ...]) -> httpx.URL:
    """The URL, with the host in ASCII and without a dot at its end.

    Raises:
        UrlError: it is no plain URL, or its scheme, port or host is not allowed.
    """
    if len(url) > MAX_URL or "\\" in url or not url.isprintable() or " " in url:
        raise UrlError(f"not a plain URL of at most {MAX_URL} characters")
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode("ascii")
        _ = parsed.host  # decoded; raises an error where it is no international name although it begins with xn--
    except (httpx.InvalidURL, ValueError):
        raise UrlError("not a URL") from None
    if parsed.scheme not in schemes:
        raise UrlError(f"scheme {parsed.scheme[:20]!r} is not allowed, only {', '.join(schemes)}")
    port = port_of(parsed)
    if port not in ports:
        raise UrlError(f"port {port} is not allowed, only {', '.join(map(str, ports))}")
    if parsed.userinfo or not host:
        raise UrlError("a URL needs a host and may not hold a user or password")
    return parsed.copy_with(host=_checked_host(host))


def port_of(url: httpx.URL) -> int:
    """The port of the URL, which its scheme implies where none is given."""
    return url.port if url.port is not None else _PORTS.get(url.scheme, 0)


def literal_of(host: str) -> str | None:
    """The host if it is an IP address, else None."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def _checked_host(host: str) -> str:
    name = host.removesuffix(".")
    if literal_of(name) is not None and "%" not in name:
        return name
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        raise UrlError(f"host {host[:100]!r} is a number: write an IP address as four decimal numbers, or give a name")
    if not _NAME.fullmatch(name):
        raise UrlError(f"host {host[:100]!r} is not a full host name such as images.example.org")
    return name
