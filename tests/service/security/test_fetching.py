"""Images by URL: only public addresses are reached (no SSRF); resolver and transport are fakes."""

import socket
from collections.abc import AsyncIterator, Callable, Mapping

import httpx
import pytest

from service.errors import UrlError
from service.security.addresses import is_public
from service.security.fetching import Fetcher
from service.security.pinned import PinnedTransport

PUBLIC = "93.184.216.34"
Handler = Callable[[httpx.Request], httpx.Response]


class Network(httpx.AsyncBaseTransport):
    """Answers by handler and remembers where it was asked to connect."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.handler(request)


def fetcher(handler: Handler, names: Mapping[str, list[str]], max_bytes: int = 1000) -> tuple[Fetcher, Network]:
    async def resolve(host: str) -> list[str]:
        return names.get(host, [host])

    network = Network(handler)
    return Fetcher(max_bytes, transport=PinnedTransport(network, resolve)), network


def ok(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, stream=httpx.ByteStream(b"picture"))


async def test_the_connection_goes_to_the_checked_address_under_the_name_of_the_url() -> None:
    fetch, network = fetcher(ok, {"example.org": [PUBLIC]})
    assert await fetch.fetch("https://example.org/a.png") == b"picture"
    request = network.requests[0]
    assert request.url.host == PUBLIC
    assert request.headers["host"] == "example.org"
    assert request.extensions["sni_hostname"] == "example.org"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1",
        "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::a00:1",
        "2002:7f00:1::", "2002:a00:1::1", "2001:0:7f00:1::", "2001:db8::1", "not an address", "", "168.63.129.16",
        "::ffff:168.63.129.16", "192.88.99.1", "64:ff9b:1:808:8:800::", "3fff::1", "fec0::1", "2001:4860::5efe:7f00:1",
        "2001:4860::200:5efe:a00:1", "::ffff:0:127.0.0.1", "2002:a83f:8110::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_of_the_open_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "2606:2800:220:1:248:1893:25c8:1946"])
def test_addresses_of_the_open_internet(address: str) -> None:
    assert is_public(address)


async def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    fetch, network = fetcher(ok, {"example.org": [PUBLIC, "10.0.0.1"]})
    with pytest.raises(UrlError, match="not a public address"):
        await fetch.fetch("https://example.org/")
    assert not network.requests


async def test_each_redirect_is_checked_anew() -> None:
    def to(target: str) -> Handler:
        return lambda request: (
            httpx.Response(302, headers={"location": target}) if request.url.path == "/start" else ok(request)
        )

    names = {"example.org": [PUBLIC], "inside.example": ["10.0.0.1"], "other.example": ["1.1.1.1"]}
    for target, message in [
        ("https://inside.example/", "not a public address"),
        ("https://127.0.0.1/", "not a public address"),
        ("http://other.example/", "scheme"),
        ("https://other.example:8443/", "port"),
        ("file:///etc/passwd", "scheme"),
        ("https://user@other.example/", "user"),
    ]:
        fetch, network = fetcher(to(target), names)
        with pytest.raises(UrlError, match=message):
            await fetch.fetch("https://example.org/start")
        assert len(network.requests) == 1
    fetch, network = fetcher(to("https://other.example/end"), names)
    assert await fetch.fetch("https://example.org/start") == b"picture"
    assert [request.url.host for request in network.requests] == [PUBLIC, "1.1.1.1"]


async def test_redirects_in_a_circle_end() -> None:
    fetch, network = fetcher(lambda _: httpx.Response(302, headers={"location": "/"}), {"example.org": [PUBLIC]})
    with pytest.raises(UrlError, match="redirects"):
        await fetch.fetch("https://example.org/")
    assert len(network.requests) == 4


async def test_a_name_is_looked_up_once_a_hop() -> None:
    asked: list[str] = []

    async def rebinding(host: str) -> list[str]:
        asked.append(host)
        return [PUBLIC] if len(asked) == 1 else ["127.0.0.1"]

    network = Network(ok)
    await Fetcher(1000, transport=PinnedTransport(network, rebinding)).fetch("https://example.org/")
    assert asked == ["example.org"]
    assert network.requests[0].url.host == PUBLIC


async def test_bytes_are_counted_while_they_stream() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 100
            yield bytes(100)

    fetch, _ = fetcher(lambda _: httpx.Response(200, content=endless()), {"example.org": [PUBLIC]})
    with pytest.raises(UrlError, match="larger than 1,000 bytes"):
        await fetch.fetch("https://example.org/")
    assert sent <= 1200


async def test_compressed_answers_are_refused() -> None:
    def zipped(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"x"))

    fetch, _ = fetcher(zipped, {"example.org": [PUBLIC]})
    with pytest.raises(UrlError, match="compressed"):
        await fetch.fetch("https://example.org/")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/", "ftp://example.org/", "file:///etc/passwd", "gopher://example.org", "//example.org",
        "https://", "https://user:pass@example.org/", "https://example.org:22/", "https://example.org\\@10.0.0.1/",
        "https://exa mple.org/", "https://example.org/" + 2048 * "a", "data:image/png;base64,AA==", "", "https://[::1",
        "https://xn--a/", "https://xn--a.example.org/", "https://example.org:0/", "https://example.org:99999/",
        "https://[fe80::1%25eth0]/", "https://[2606:2800:220:1::1%eth0]/", "https://example..org/", "https://.org/",
        "https://example.org../", "https://-a.example.org/", "https://exa%6dple.org/", "https://intranet/",
        "https://1572395042/", "https://0x5db8d822/", "https://93.184.216/", "https://0135.184.216.34/",
        "https://example.0x1/", "https://a.example.org/\u202e", "https://a.example.org/\n",
        "https://" + 64 * "a" + ".org",
    ],
)  # fmt: skip
async def test_what_is_not_a_plain_https_url_is_refused_before_any_look_up(url: str) -> None:
    fetch, network = fetcher(ok, {"example.org": [PUBLIC]})
    with pytest.raises(UrlError):
        await fetch.fetch(url)
    assert not network.requests


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "[::ffff:127.0.0.1]", "[::1]", "127.0.0.1"])
async def test_forms_of_loopback_are_refused_by_their_meaning(host: str) -> None:
    """Not because nothing listens there: the names resolve to what C's `inet_aton` makes of them."""

    async def as_c_does(name: str) -> list[str]:
        return [name if ":" in name else socket.inet_ntoa(socket.inet_aton(name))]

    network = Network(ok)
    with pytest.raises(UrlError, match=r"not a public address|is a number"):
        await Fetcher(1000, transport=PinnedTransport(network, as_c_does)).fetch(f"https://{host}/")
    assert not network.requests


async def test_other_peoples_errors_are_the_items() -> None:
    fetch, _ = fetcher(lambda _: httpx.Response(404), {"example.org": [PUBLIC]})
    with pytest.raises(UrlError, match="404"):
        await fetch.fetch("https://example.org/")

    def broken(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused by 93.184.216.34")

    fetch, _ = fetcher(broken, {"example.org": [PUBLIC]})
    with pytest.raises(UrlError, match="no connection") as raised:
        await fetch.fetch("https://example.org/")
    assert PUBLIC not in str(raised.value)
