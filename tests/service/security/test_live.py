"""Every guard of the fetcher against live servers on loopback, over real sockets."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trustme

from service.errors import UrlError
from tests.service.security.sites import (
    OTHER,
    PRIVATE,
    PUBLIC,
    Answer,
    Exchange,
    Names,
    Site,
    fetcher_of,
    loopback,
    raw,
    site,
    text,
)

__all__ = ["loopback"]
pytestmark = pytest.mark.usefixtures("loopback")

INNER_HOSTS = (
    PRIVATE,
    "inner.test",
    "[::ffff:127.0.0.1]",
    "[::1]",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "2130706433",
    "127.1",
    "0.0.0.0",
    "[64:ff9b::7f00:1]",
    "localhost",
)


@asynccontextmanager
async def inner() -> AsyncIterator[Site]:
    """A server of the inner network, which must never see a connection."""
    async with site(text(body=b"secret"), PRIVATE) as secret:
        yield secret
        assert secret.connections == 0


async def test_an_image_arrives_and_the_request_tells_nothing_of_the_caller() -> None:
    async with site(text()) as public:
        fetch = fetcher_of(Names({"a.test": [PUBLIC]}), public)
        assert await fetch.fetch(f"http://a.test:{public.port}/a.png?b#c") == b"picture"
        (seen,) = public.heads
        assert seen.path == "/a.png?b"
        assert seen.header("Host") == f"a.test:{public.port}"
        assert seen.header("Accept-Encoding") == "identity"
        names = {line.partition(":")[0].lower() for line in seen.head.split("\r\n")[1:] if line}
        assert names == {"host", "accept", "accept-encoding", "connection", "user-agent"}
        await fetch.close()


async def test_a_name_that_changes_between_look_ups_reaches_nothing_else() -> None:
    """DNS rebinding: the second answer is private. One look-up per hop, and the connection is to what was checked."""
    names = Names({"a.test": [PUBLIC]})
    async with site(text()) as public, site(text(body=b"secret"), PRIVATE, port=public.port) as secret:
        fetch = fetcher_of(names, public)
        url = f"http://a.test:{public.port}/"
        assert await fetch.fetch(url) == b"picture"
        names.names["a.test"] = [PRIVATE]
        with pytest.raises(UrlError, match=r"a\.test is not a public address"):
            await fetch.fetch(url)
        assert names.asked == ["a.test", "a.test"]
        assert secret.connections == 0
        await fetch.close()


@pytest.mark.parametrize("hops", [0, 1, 2, 3])
@pytest.mark.parametrize("host", INNER_HOSTS)
async def test_no_hop_leads_to_the_inner_network(host: str, hops: int) -> None:
    async with inner() as secret:
        target = f"http://{host}:{secret.port}/"

        async def lead(exchange: Exchange) -> None:
            left = int(exchange.path[1:])
            to = f"http://a.test:{public.port}/{left - 1}" if left > 1 else target
            await text("302 Found", Location=to)(exchange)

        async with site(lead) as public:
            names = Names({"a.test": [PUBLIC], "inner.test": [PRIVATE], "localhost": [PRIVATE]})
            fetch = fetcher_of(names, public, secret)
            with pytest.raises(UrlError) as refused:
                await fetch.fetch(f"http://a.test:{public.port}/{hops}" if hops else target)
            assert public.connections == hops
            assert "secret" not in str(refused.value)
            await fetch.close()


async def test_one_private_address_among_public_ones_stops_all_connections() -> None:
    async with inner() as secret, site(text(), port=secret.port) as public:
        fetch = fetcher_of(Names({"a.test": [PUBLIC, PRIVATE]}), public)
        with pytest.raises(UrlError, match="not a public address"):
            await fetch.fetch(f"http://a.test:{public.port}/")
        assert public.connections == 0
        await fetch.close()


@pytest.mark.parametrize("location", ["https://user:pass@a.test/", "ftp://a.test/", "http://a.test:1/", "//", ""])
async def test_a_redirect_is_checked_like_the_first_url(location: str) -> None:
    async with site(text("301 Moved", Location=location)) as public:
        fetch = fetcher_of(Names({"a.test": [PUBLIC]}), public)
        with pytest.raises(UrlError, match="redirect"):
            await fetch.fetch(f"http://a.test:{public.port}/")
        await fetch.close()


async def test_cookies_stay_with_nobody() -> None:
    """Not on the next hop, and not in the next fetch, which may be another tenant's."""

    async def lead(exchange: Exchange) -> None:
        end = text(Set_Cookie="who=me; Path=/")
        await (text("307 On", Location="/end", Set_Cookie="who=me; Path=/") if exchange.path == "/" else end)(exchange)

    async with site(lead) as public:
        fetch = fetcher_of(Names({"a.test": [PUBLIC]}), public)
        for _ in range(2):
            assert await fetch.fetch(f"http://a.test:{public.port}/") == b"picture"
        assert [seen.path for seen in public.heads] == ["/", "/end"] * 2
        assert all(seen.header("Cookie") is None for seen in public.heads)
        await fetch.close()


async def endless_head(exchange: Exchange) -> None:
    await exchange.send("HTTP/1.1 200 OK\r\n")
    while True:
        await exchange.send("X: " + "x" * 1000 + "\r\n")


async def trickling_head(exchange: Exchange) -> None:
    await exchange.send("HTTP/1.1 200 OK\r\nX: ")
    await exchange.until_closed()


async def informing(exchange: Exchange) -> None:
    while True:
        await exchange.send("HTTP/1.1 103 Early Hints\r\n\r\n")


async def trickling_body(exchange: Exchange) -> None:
    await exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
    await exchange.until_closed()


async def silent(exchange: Exchange) -> None:
    await exchange.until_closed()


@pytest.mark.parametrize("answer", [silent, trickling_head, informing, trickling_body])
async def test_a_slow_server_is_left_in_time(answer: Answer) -> None:
    async with site(answer) as public:
        fetch = fetcher_of(Names({"a.test": [PUBLIC]}), public, timeout_s=0.2)
        with pytest.raises(UrlError, match=r"not fetched within 0\.2 s|too slow"):
            await fetch.fetch(f"http://a.test:{public.port}/")
        await asyncio.wait_for(public.closed.wait(), timeout=5)
        await fetch.close()


async def test_the_time_is_of_all_hops_together() -> None:
    hops = 0

    async def slow(exchange: Exchange) -> None:
        nonlocal hops
        hops += 1
        await asyncio.wait([asyncio.ensure_future(exchange.until_closed())], timeout=0.15)
        await text("302 Found", Location=f"/{hops}")(exchange)

    async with site(slow) as public:
        fetch = fetcher_of(Names({"a.test": [PUBLIC]}), public, timeout_s=0.25)
        with pytest.raises(UrlError, match=r"not fetched within 0\.25 s"):
            await fetch.fetch(f"http://a.test:{public.port}/")
        assert hops < 4
        await fetch.close()


async def test_an_endless_head_is_cut() -> None:
    async with site(endless_head) as public:
        fetch = fetcher_of(Names({"a.test": [PUBLIC]}), public)
        with pytest.raises(UrlError, match="malformed"):
            await fetch.fetch(f"http://a.test:{public.port}/")
        await asyncio.wait_for(public.closed.wait(), timeout=5)
        await fetch.close()


@pytest.mark.parametrize("framing", ["Connection: close\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"])
async def test_an_endless_body_is_counted_and_cut(framing: str) -> None:
    chunked = "chunked" in framing

    async def endless(exchange: Exchange) -> None:
        await exchange.send("HTTP/1.1 200 OK\r\n" + framing)
        while True:
            await exchange.send(b"3e8\r\n" + bytes(1000) + b"\r\n" if chunked else bytes(1000))

    counted: list[int] = []
    async with site(endless) as public:
        fetch = fetcher_of(Names({"a.test": [PUBLIC]}), public, max_bytes=10_000)
        with pytest.raises(UrlError, match="larger than 10,000 bytes"):
            await fetch.fetch(f"http://a.test:{public.port}/", counted.append)
        await asyncio.wait_for(public.closed.wait(), timeout=5)
        assert 10_000 < sum(counted) <= 10_000 + 2**17, "no more than one piece over the limit is read"
        await fetch.close()


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("Content-Length: 1001", "larger than 1,000 bytes"),
        ("Content-Length: 99999999999999999999999999", "malformed"),
        ("Content-Length: 900", "ends too early"),
        ("Content-Length: -1", "malformed"),
        ("Content-Length: 1e3", "malformed"),
        ("Content-Length: 7\r\nContent-Length: 8", "malformed"),
        ("Transfer-Encoding: gzip, chunked", "malformed"),
        ("Transfer-Encoding: chunked", "malformed"),
        ("Content-Encoding: gzip", "compressed"),
        ("Content-Encoding: br\r\nContent-Length: 7", "compressed"),
        ("Content Length: 7", "malformed"),
        ("X: \x00", "malformed"),
    ],
)
async def test_headers_that_lie_are_the_error_of_this_image(head: str, message: str) -> None:
    async with site(raw(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\npicture")) as public:
        fetch = fetcher_of(Names({"a.test": [PUBLIC]}), public)
        with pytest.raises(UrlError, match=message):
            await fetch.fetch(f"http://a.test:{public.port}/")
        await fetch.close()


async def test_a_compressed_bomb_is_not_inflated() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    async with site(text(body=bomb, Content_Encoding="gzip")) as public:
        fetch = fetcher_of(Names({"a.test": [PUBLIC]}), public, max_bytes=2**20)
        with pytest.raises(UrlError, match="compressed"):
            await fetch.fetch(f"http://a.test:{public.port}/")
        await fetch.close()


async def test_the_declared_type_decides_nothing() -> None:
    """The bytes do, when they are decoded: a lying type can only lie to itself."""
    async with site(text(Content_Type="text/html; charset=utf-7")) as public:
        fetch = fetcher_of(Names({"a.test": [PUBLIC]}), public)
        assert await fetch.fetch(f"http://a.test:{public.port}/") == b"picture"
        await fetch.close()


@pytest.mark.parametrize("status", ["204 No Content", "206 Partial", "401 Key", "404 Not Found", "500 No", "999 What"])
async def test_other_statuses_are_the_error_of_this_image(status: str) -> None:
    async with site(text(status, WWW_Authenticate="Basic")) as public:
        fetch = fetcher_of(Names({"a.test": [PUBLIC]}), public)
        with pytest.raises(UrlError, match=f"answers {status[:3]}|malformed"):
            await fetch.fetch(f"http://a.test:{public.port}/")
        assert public.connections == 1
        await fetch.close()


async def test_no_http_at_all_is_the_error_of_this_image() -> None:
    async with site(raw(b"SSH-2.0-OpenSSH_9.2\r\n")) as public:
        fetch = fetcher_of(Names({"a.test": [PUBLIC]}), public)
        with pytest.raises(UrlError, match="malformed"):
            await fetch.fetch(f"http://a.test:{public.port}/")
        await fetch.close()


async def test_a_port_that_is_not_listed_is_never_connected_to() -> None:
    async with site(text()) as public, site(text()) as other:
        fetch = fetcher_of(Names({"a.test": [PUBLIC]}), public)
        with pytest.raises(UrlError, match=f"port {other.port} is not allowed"):
            await fetch.fetch(f"http://a.test:{other.port}/")
        assert other.connections == 0
        await fetch.close()


async def test_the_next_address_is_tried_where_one_refuses() -> None:
    async with site(text(), OTHER) as public:
        fetch = fetcher_of(Names({"a.test": [PUBLIC, OTHER]}), public)
        assert await fetch.fetch(f"http://a.test:{public.port}/") == b"picture"
        gone = fetcher_of(Names({"a.test": [PUBLIC, "127.0.0.4"]}), public)
        with pytest.raises(UrlError, match="no connection can be made") as refused:
            await gone.fetch(f"http://a.test:{public.port}/")
        assert "127.0.0" not in str(refused.value)
        await fetch.close()
        await gone.close()


async def test_each_request_has_its_own_connection() -> None:
    async with site(text()) as public:
        fetch = fetcher_of(Names({"a.test": [PUBLIC], "b.test": [PUBLIC]}), public)
        for name in ("a.test", "b.test", "a.test"):
            await fetch.fetch(f"http://{name}:{public.port}/")
        assert public.connections == 3
        await fetch.close()


@pytest.mark.parametrize(
    ("host", "sent"),
    [
        ("bücher.test", "xn--bcher-kva.test"),
        ("xn--bcher-kva.test", "xn--bcher-kva.test"),
        ("stra\u00dfe.test", "xn--strae-oqa.test"),
        ("A.TEST", "a.test"),
        ("a.test.", "a.test"),
        ("a\u3002test", "a.test"),
    ],
)
async def test_a_host_is_looked_up_and_named_in_one_form(host: str, sent: str) -> None:
    async with site(text()) as public:
        names = Names({sent: [PUBLIC]})
        fetch = fetcher_of(names, public)
        assert await fetch.fetch(f"http://{host}:{public.port}/") == b"picture"
        assert names.asked == [sent]
        assert public.heads[0].header("Host") == f"{sent}:{public.port}"
        await fetch.close()


async def test_a_certificate_must_be_of_the_name_in_the_url() -> None:
    authority = trustme.CA()
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("a.test", "xn--bcher-kva.test").configure_cert(ours)
    authority.configure_trust(theirs)
    async with site(text(), tls=ours) as public:
        names = Names({"a.test": [PUBLIC], "b.test": [PUBLIC], "xn--bcher-kva.test": [PUBLIC]})
        fetch = fetcher_of(names, public, verify=theirs)
        for host in ("a.test", "a.test.", "b\u00fccher.test"):
            assert await fetch.fetch(f"https://{host}:{public.port}/") == b"picture"
        for host in ("b.test", PUBLIC):
            with pytest.raises(UrlError, match="certificate is not valid"):
                await fetch.fetch(f"https://{host}:{public.port}/")
        stranger = fetcher_of(names, public, verify=ssl.create_default_context())
        with pytest.raises(UrlError, match="certificate is not valid"):
            await stranger.fetch(f"https://a.test:{public.port}/")
        await fetch.close()
        await stranger.close()


async def test_a_fetch_that_is_cancelled_closes_its_connection() -> None:
    async with site(trickling_body) as public:
        fetch = fetcher_of(Names({"a.test": [PUBLIC]}), public)
        begun = asyncio.Event()
        task = asyncio.create_task(fetch.fetch(f"http://a.test:{public.port}/", lambda _: begun.set()))
        await asyncio.wait_for(begun.wait(), timeout=5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(public.closed.wait(), timeout=5)
        await fetch.close()


async def test_what_counts_the_bytes_can_end_the_fetch() -> None:
    class FullError(Exception):
        pass

    def full(_: int) -> None:
        raise FullError

    async with site(text()) as public:
        fetch = fetcher_of(Names({"a.test": [PUBLIC]}), public)
        with pytest.raises(FullError):
            await fetch.fetch(f"http://a.test:{public.port}/", full)
        await fetch.close()
