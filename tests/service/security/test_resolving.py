"""Look-ups against live name servers on loopback: addresses, failures, and servers that never answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest

from service.errors import UrlError
from service.security import resolving

Zone = Callable[[str, str], list[str] | dns.rcode.Rcode | None]


class NameServer(asyncio.DatagramProtocol):
    """Answers by the zone: addresses, a failure, or not at all."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.asked: list[tuple[str, str]] = []
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        question = dns.message.from_wire(data)
        name, kind = question.question[0].name, dns.rdatatype.to_text(question.question[0].rdtype)
        self.asked.append((name.to_text(), kind))
        found = self.zone(name.to_text(), kind)
        if found is None:
            return
        answer = dns.message.make_response(question, recursion_available=True)
        if isinstance(found, dns.rcode.Rcode):
            answer.set_rcode(found)
        elif found:
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", kind, *found))
        self.transport.sendto(answer.to_wire(), addr)


@asynccontextmanager
async def name_server(zone: Zone) -> AsyncIterator[tuple[NameServer, dns.asyncresolver.Resolver]]:
    """A live name server, and a resolver that asks it alone."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: NameServer(zone), ("127.0.0.1", 0))
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], transport.get_extra_info("sockname")[1]
    resolver.search = [dns.name.from_text("inner.example")]
    try:
        yield server, resolver
    finally:
        transport.close()


async def test_addresses_of_both_kinds_are_found_by_the_full_name_alone() -> None:
    found = {"A": ["93.184.216.34", "1.1.1.1"], "AAAA": ["2606:2800:220:1:248:1893:25c8:1946"]}
    async with name_server(lambda name, kind: found[kind]) as (server, resolver):
        assert sorted(await resolving.look_up("a.example.org", resolver)) == sorted(found["A"] + found["AAAA"])
        assert (await resolving.look_up("a.example.org", resolver))[-1] == found["AAAA"][0], "IPv4 first"
        assert set(server.asked) == {("a.example.org.", "A"), ("a.example.org.", "AAAA")}, "no search domain"


@pytest.mark.parametrize("failure", [dns.rcode.SERVFAIL, dns.rcode.NXDOMAIN, dns.rcode.REFUSED, None])
async def test_one_kind_is_enough_where_the_other_fails(
    failure: dns.rcode.Rcode | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolving, "LOOK_UP_S", 0.2)
    async with name_server(lambda _, kind: ["1.1.1.1"] if kind == "A" else failure) as (_, resolver):
        assert await resolving.look_up("a.example.org", resolver) == ["1.1.1.1"]


@pytest.mark.parametrize("failure", [dns.rcode.SERVFAIL, dns.rcode.NXDOMAIN, None])
async def test_a_failure_is_said_in_the_words_of_the_caller(
    failure: dns.rcode.Rcode | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolving, "LOOK_UP_S", 0.2)
    async with name_server(lambda *_: failure) as (_, resolver):
        monkeypatch.setattr(dns.asyncresolver, "Resolver", lambda: resolver)
        with pytest.raises(UrlError, match=r"a\.example\.org can't be resolved: check the URL, or try again"):
            await resolving.resolve("a.example.org")


async def test_a_name_without_addresses_has_none() -> None:
    async with name_server(lambda *_: []) as (_, resolver):
        assert await resolving.look_up("a.example.org", resolver) == []


async def test_a_machine_without_name_servers_is_an_error_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.asyncresolver, "Resolver", none)
    with pytest.raises(UrlError, match="can't be resolved"):
        await resolving.resolve("a.example.org")


async def test_a_dead_name_server_delays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 look-ups hang at a server that never answers; another one is answered, and no thread is used for any."""
    loop = asyncio.get_running_loop()

    def forbidden(*_: object) -> None:
        raise AssertionError("a look-up in a thread of the loop")

    monkeypatch.setattr(loop, "run_in_executor", forbidden)
    async with name_server(lambda *_: None) as (dead, silent), name_server(lambda *_: ["1.1.1.1"]) as (_, resolver):
        hanging = [asyncio.create_task(resolving.look_up(f"a{row}.example.org", silent)) for row in range(200)]
        while len(dead.asked) < 400:
            await asyncio.sleep(0)
        monkeypatch.setattr(resolving, "_TYPES", ("A",))
        assert await resolving.look_up("b.example.org", resolver) == ["1.1.1.1"]
        assert not any(task.done() for task in hanging)
        for task in hanging:
            task.cancel()
        gone = await asyncio.gather(*hanging, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in gone)


async def test_a_literal_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden() -> None:
        raise AssertionError("looked up")

    monkeypatch.setattr(dns.asyncresolver, "Resolver", forbidden)
    assert await resolving.resolve("93.184.216.34") == ["93.184.216.34"]
    assert await resolving.resolve("2606:2800:220:1::1") == ["2606:2800:220:1::1"]
