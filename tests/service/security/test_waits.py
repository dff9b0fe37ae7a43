"""Requests that wait for something outside are limited apart from those that are scored."""

import asyncio
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from service.app import create_app
from service.caching import prepared as prepared_module
from service.detectors.maker import Prepared, Wanted
from service.detectors.prepared import prepared_detectors
from service.errors import BusyError
from service.observability.metrics import HttpMetrics
from service.security.fetching import Fetcher
from service.security.pinned import PinnedTransport
from service.security.waits import RETRY_S, OutsideWaits
from service.settings import Settings
from tests.service.fakes import FakeEngine, files, png
from tests.service.running import LONG, running
from tests.service.security.test_fetching import PUBLIC
from tests.service.test_prepared import Making, settled, wanted

CALLERS = 200
PER_TENANT = 5


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def limited(registry: CollectorRegistry, server: int = 3, tenant: int = 2) -> OutsideWaits:
    return OutsideWaits(server, tenant, HttpMetrics(registry))


def test_a_tenant_has_its_limit_and_all_have_one(registry: CollectorRegistry) -> None:
    waits = limited(registry)
    with waits.of("a", "url"), waits.of("a", "making"):
        with pytest.raises(BusyError, match=r"2 requests of yours.*VLM_OOD_MAX_WAITING_PER_TENANT") as refused:
            waits.of("a", "url").__enter__()
        assert refused.value.retry_after_s == RETRY_S
        with waits.of("b", "url"):
            assert registry.get_sample_value("vlm_ood_http_requests_waiting", {"awaited": "url"}) == 2
            with pytest.raises(BusyError, match=r"3 requests wait.*VLM_OOD_MAX_WAITING\)"):
                waits.of("c", "url").__enter__()
    with waits.of("a", "url"), waits.of("a", "url"), waits.of("c", "url"):
        pass
    assert registry.get_sample_value("vlm_ood_http_requests_waiting", {"awaited": "url"}) == 0
    assert registry.get_sample_value("vlm_ood_http_refused_waits_total", {"limit": "tenant"}) == 1
    assert registry.get_sample_value("vlm_ood_http_refused_waits_total", {"limit": "server"}) == 1


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait is long at once."""
    monkeypatch.setattr(prepared_module, "SHORT_S", 0.001)


async def until(holds: asyncio.Event) -> None:
    async with asyncio.timeout(10):
        await holds.wait()


@pytest.mark.usefixtures("short")
async def test_callers_beyond_the_limit_are_told_to_come_back_and_the_making_goes_on(
    registry: CollectorRegistry,
) -> None:
    making, waits, counted = Making(), limited(registry), asyncio.Event()
    making.gate.clear()

    def waiting(tenant: str) -> AbstractContextManager[None]:
        found = waits.of(tenant, "making")
        counted.set()
        return found

    prepared = prepared_detectors(making, max_making=8, max_bytes=2**30, wait_s=60, waiting=waiting)
    with waits.of("a", "url"), waits.of("a", "url"), pytest.raises(BusyError, match="wait for URLs"):
        await prepared.get(wanted(), stored=False)
    assert prepared.state(wanted())[0] == "preparing"
    counted.clear()
    caller = asyncio.create_task(prepared.get(wanted(), stored=False))
    await until(counted)
    assert registry.get_sample_value("vlm_ood_http_requests_waiting", {"awaited": "making"}) == 1
    making.gate.set()
    assert (await caller).tenant == "a"
    assert making.made == 1
    assert registry.get_sample_value("vlm_ood_http_requests_waiting", {"awaited": "making"}) == 0


@pytest.mark.usefixtures("short")
async def test_what_a_long_waiting_caller_leaves_is_stopped(registry: CollectorRegistry) -> None:
    gone, counted, waits = asyncio.Event(), asyncio.Event(), limited(registry)

    async def make(_: Wanted) -> Prepared:
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        raise AssertionError

    def waiting(tenant: str) -> AbstractContextManager[None]:
        counted.set()
        return waits.of(tenant, "making")

    prepared = prepared_detectors(make, max_making=8, max_bytes=2**30, wait_s=60, waiting=waiting)
    caller = asyncio.create_task(prepared.get(wanted(), stored=False))
    await until(counted)
    await settled()
    caller.cancel()
    await until(gone)


class Silent(httpx.AsyncBaseTransport):
    """A server that never answers."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError


async def test_two_hundred_requests_for_a_url_that_never_answers_leave_the_server_to_others(tmp_path: Path) -> None:
    settings = Settings(
        data=tmp_path, encoders=("fake",), url_input=True, url_timeout_s=600, max_waiting_per_tenant=PER_TENANT
    )
    app = create_app(settings, FakeEngine(("fake",)))

    async def resolve(host: str) -> list[str]:
        return [PUBLIC]

    silent = Fetcher(1000, timeout_s=600, transport=PinnedTransport(Silent(), resolve))
    object.__setattr__(app.state.services.scorer.images.urls, "fetcher", silent)
    keys = {tenant: app.state.services.keys.create(tenant, ("score", "metrics"))[1] for tenant in ("a", "b")}
    with running(app, settings, LONG) as url:
        limits = httpx.Limits(max_connections=CALLERS + 2)
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:

            async def score(tenant: str, **sent: object) -> httpx.Response:
                headers = {"Authorization": f"Bearer {keys[tenant]}"}
                return await client.post("/v1/score", headers=headers, **sent)  # type: ignore[arg-type]

            asked = {"classes": ["red", "blue"], "images": [{"url": "https://example.org/a.png"}]}
            waiting = {asyncio.create_task(score("a", json=asked)) for _ in range(CALLERS)}
            answers: list[httpx.Response] = []
            while len(answers) < CALLERS - PER_TENANT:
                done, waiting = await asyncio.wait(waiting, timeout=60, return_when=asyncio.FIRST_COMPLETED)
                assert done, f"{len(waiting)} of {CALLERS} wait"
                answers += [task.result() for task in done]
            assert Counter(answer.status_code for answer in answers) == {503: CALLERS - PER_TENANT}
            assert {answer.headers["Retry-After"] for answer in answers} == {"5"}
            others = await asyncio.gather(
                *(score("b", files=files(png()), data={"classes": ["red", "blue"]}) for _ in range(20))
            )
            assert {answer.status_code for answer in others} == {200}
            metrics = await client.get("/metrics", headers={"Authorization": f"Bearer {keys['b']}"})
            assert f'vlm_ood_http_requests_waiting{{awaited="url"}} {PER_TENANT}.0' in metrics.text
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
