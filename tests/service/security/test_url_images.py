"""URLs of requests: fetched within the limits of a request, of a tenant and of the server's bytes in flight."""

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from prometheus_client import CollectorRegistry

from service.errors import BodyTooLargeError, BusyError, UrlError
from service.http.body import Upload
from service.images.urls import REQUEST_AT_ONCE, UrlImages
from service.observability.metrics import HttpMetrics
from service.security.budget import ByteBudget
from service.security.fetch_slots import FetchSlots
from service.security.fetching import Fetcher
from service.security.pinned import PinnedTransport
from service.security.waits import OutsideWaits
from tests.service.conftest import Start, services_of
from tests.service.fakes import in_base64, png
from tests.service.security.test_fetching import PUBLIC, Network, fetcher, ok

URLS = [Upload(str(row), f"https://example.org/{row}") for row in range(40)]
CONTENT = len(b"picture")


def unlimited() -> OutsideWaits:
    return OutsideWaits(1000, 1000, HttpMetrics(CollectorRegistry()))


def images(fetch: Fetcher, *, limit: int = 10_000, budget: ByteBudget | None = None, tenant: int = 64) -> UrlImages:
    return UrlImages(fetch, budget or ByteBudget(10**6), FetchSlots(tenant, 5), unlimited(), limit)


async def contents(urls: UrlImages, uploads: list[Upload], tenant: str = "a") -> list[object]:
    async with urls.fetched(tenant, uploads) as found:
        return [upload.content for upload in found]


async def test_images_behind_urls_are_bounded_together() -> None:
    fetch, network = fetcher(ok, {"example.org": [PUBLIC]})
    limited = images(fetch, limit=3 * CONTENT)
    assert await contents(limited, URLS[:3]) == [b"picture"] * 3
    network.requests.clear()
    with pytest.raises(BodyTooLargeError, match="over 21 bytes together"):
        await contents(limited, URLS)
    assert len(network.requests) <= 3 + REQUEST_AT_ONCE, "nothing more is fetched once the limit is exceeded"
    assert len(await contents(images(fetch, limit=len(URLS) * CONTENT), URLS)) == len(URLS)


class Body(httpx.AsyncByteStream):
    """The body of one answer of `Held`."""

    def __init__(self, held: "Held") -> None:
        self._held = held

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await self._held.note(1, 0)
        while True:
            yield self._held.piece
            await self._held.more.acquire()

    async def aclose(self) -> None:
        self._held.reading, self._held.left = self._held.reading - 1, self._held.left + 1


class Held:
    """A server whose answers consist of pieces that are released one by one; knows who reads and who has left."""

    def __init__(self, piece: bytes = b"x" * 10) -> None:
        self.piece, self.reading, self.left = piece, 0, 0
        self.changed, self.more = asyncio.Condition(), asyncio.Semaphore(0)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Body(self))

    async def until(self, holds: Callable[[], bool]) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(holds), timeout=5)

    async def note(self, reading: int, left: int) -> None:
        async with self.changed:
            self.reading, self.left = self.reading + reading, self.left + left
            self.changed.notify_all()


async def settled() -> None:
    """Let every task that can go on do so."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_bytes_count_while_they_arrive_and_are_given_back() -> None:
    held, budget = Held(), ByteBudget(1000)
    fetch, _ = fetcher(held, {"example.org": [PUBLIC]})
    urls = images(fetch, budget=budget)
    task = asyncio.create_task(contents(urls, URLS[:2]))
    await held.until(lambda: held.reading == 2)
    await settled()
    assert budget.used == 20
    for _ in range(2):
        held.more.release()
    await settled()
    assert budget.used == 40
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert budget.used == 0
    assert (held.reading, held.left) == (0, 2), "a caller who leaves ends the fetches"


async def test_bytes_of_images_that_are_encoded_still_count() -> None:
    budget = ByteBudget(1000)
    fetch, _ = fetcher(ok, {"example.org": [PUBLIC]})
    async with images(fetch, budget=budget).fetched("a", URLS[:3]):
        assert budget.used == 3 * CONTENT
    assert budget.used == 0


async def test_over_the_budget_the_request_is_refused_and_its_other_fetches_end() -> None:
    held, budget = Held(), ByteBudget(100)
    fetch, _ = fetcher(held, {"example.org": [PUBLIC]})
    with budget.share("b") as others:
        others.take(75)
        with pytest.raises(BusyError) as refused:
            await contents(images(fetch, budget=budget), URLS[:5])
        assert refused.value.retry_after_s >= 1
        assert held.reading == 0
        assert budget.used == 75


async def test_one_tenant_leaves_bytes_to_the_others() -> None:
    budget = ByteBudget(100)
    with budget.share("a") as first, budget.share("b") as second:
        first.take(75)
        with pytest.raises(BusyError, match="your requests hold 75 bytes"):
            first.take(1)
        second.take(20)
        with pytest.raises(BusyError, match="the server holds 100 bytes"):
            second.take(5)
    assert budget.used == 0


async def test_one_tenant_leaves_slots_to_the_others() -> None:
    """Another tenant's image arrives while all that the first one may fetch at once hangs."""
    held = Held()
    network = Network(lambda request: held(request) if request.url.path == "/slow" else ok(request))

    async def resolve(host: str) -> list[str]:
        return [PUBLIC]

    fetch = Fetcher(1000, transport=PinnedTransport(network, resolve))
    urls = UrlImages(fetch, ByteBudget(10**6), FetchSlots(2, 5, server=3), unlimited(), 1000)
    slow = [Upload("slow", "https://example.org/slow")] * 5
    hanging = asyncio.create_task(contents(urls, slow, "a"))
    await held.until(lambda: held.reading == 2)
    await settled()
    assert held.reading == 2
    assert await contents(urls, URLS[:4], "b") == [b"picture"] * 4
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert await contents(urls, URLS[:4], "a") == [b"picture"] * 4, "slots are given back"


async def test_a_url_that_finds_no_slot_in_time_is_its_own_error() -> None:
    slots = FetchSlots(1, 0.01)
    async with slots.slot("a"):
        with pytest.raises(UrlError, match="send fewer at once"):
            async with slots.slot("a"):
                pass
        async with slots.slot("b"):
            pass
    async with slots.slot("a"):
        pass


BODY = {"classes": ["red", "blue"]}


def test_a_request_over_the_bytes_in_flight_is_503_with_a_time(start: Start) -> None:
    """Over the application: the fetched image does not fit beside the body that asked for it."""
    client = start(url_input=True, max_bytes_in_flight=4000)
    services = services_of(client)
    large = Network(lambda _: httpx.Response(200, stream=httpx.ByteStream(bytes(5000))))

    async def resolve(host: str) -> list[str]:
        return [PUBLIC]

    fetch = Fetcher(10_000, transport=PinnedTransport(large, resolve))
    object.__setattr__(services.scorer.images.urls, "fetcher", fetch)
    sent = BODY | {"images": [{"url": "https://example.org/a.png"}, *in_base64(png())]}
    answer = client.post("/v1/score", json=sent)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1"), answer.text
    assert answer.json()["type"].endswith("busy")
    assert services.in_flight.used == 0
    sent["images"] = in_base64(png())
    assert client.post("/v1/score", json=sent).status_code == 200
