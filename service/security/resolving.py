"""Looks host names up in the DNS without threads, so that a name server that doesn't answer delays nobody else."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver

from service.errors import UrlError
from service.security.urls import literal_of

Resolve = Callable[[str], Awaitable[list[str]]]

LOOK_UP_S: Final = 5.0  # for all name servers of the machine together
_TYPES: Final = ("A", "AAAA")  # IPv4 first: many servers have no route for IPv6


async def resolve(host: str) -> list[str]:
    """All IP addresses of a host name, IPv4 first; those of a host that is an address are itself.

    The name is looked up as it stands: no search domains, and not in the machine's own list of hosts, whose names are
    those of an inner network.

    Raises:
        UrlError: the name has no address, or the look-up failed.
    """
    literal = literal_of(host)
    if literal is not None:
        return [literal]
    try:
        resolver = dns.asyncresolver.Resolver()  # reads the machine's name servers, which may have changed
        return await look_up(host, resolver)
    except (dns.exception.DNSException, OSError):
        raise UrlError(f"{host} can't be resolved: check the URL, or try again") from None


async def look_up(host: str, resolver: dns.asyncresolver.Resolver) -> list[str]:
    """The addresses that the resolver's name servers give for the host.

    Raises:
        DNSException: a look-up failed, and the other one gives no address.
    """
    name = dns.name.from_text(host)
    asked = (resolver.resolve(name, kind, raise_on_no_answer=False, lifetime=LOOK_UP_S) for kind in _TYPES)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    found = [record.address for answer in answers if not isinstance(answer, BaseException) for record in answer]
    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    if failed and not found:
        raise failed[0]
    return found
