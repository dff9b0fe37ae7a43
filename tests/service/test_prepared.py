"""Fitted detectors in memory: built once, limited in bytes, and a caller waits for a limited time."""

import asyncio

import pytest
import torch

from service.detectors.maker import Prepared, Wanted
from service.detectors.prepared import prepared_detectors
from service.detectors.store import id_of
from service.engine import EncoderInfo
from service.errors import BusyError, PreparingError
from tests.service.fakes import FakeEngine
from vlm_ood import Task, TextBank, create_detector
from vlm_ood.errors import TaskError
from vlm_ood.tasks import DetectorSpec, TaskSpec, TemplateBank


def spec(number: int = 0) -> DetectorSpec:
    return DetectorSpec("mcm", TaskSpec(TemplateBank((f"a{number}", f"b{number}")), "fake"))


def wanted(number: int = 0, tenant: str = "a") -> Wanted:
    return Wanted(tenant, spec(number))


class Making:
    """Makes detectors of `classes` classes, when the gate is open."""

    def __init__(self, classes: int = 1000, dim: int = 64) -> None:
        self.info: EncoderInfo | None = None
        self.made = 0
        self.tenants: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.bank = torch.randn(classes, dim, generator=torch.Generator().manual_seed(0))

    async def __call__(self, asked: Wanted) -> Prepared:
        self.made += 1
        self.tenants.append(asked.tenant)
        await self.gate.wait()
        names = tuple(f"{asked.spec.digest} {row}" for row in range(len(self.bank)))
        task = Task(classes=TextBank(names, self.bank))
        return Prepared(asked.tenant, asked.spec, create_detector("mcm").fit(task), await FakeEngine().encoder("fake"))


def test_equal_content_has_an_equal_digest_whatever_made_it() -> None:
    assert DetectorSpec.from_plain(spec().plain()).digest == spec().digest
    assert spec(1).digest != spec().digest
    assert spec(1).family == spec().family
    assert id_of("a", spec()) != id_of("b", spec())


async def test_two_hundred_class_lists_of_a_thousand_names_stay_within_the_bound() -> None:
    bound = 4 * 2**20
    prepared = prepared_detectors(Making(), max_making=8, max_bytes=bound, wait_s=10)
    for number in range(200):
        await prepared.get(wanted(number), stored=False)
        assert prepared.nbytes <= bound
    kept = [number for number in range(200) if prepared.state(wanted(number))[0] == "ready"]
    assert 2 <= len(kept) < 200
    assert kept == list(range(200 - len(kept), 200)), "the least recently used go first"


async def test_however_many_ask_a_detector_is_made_once() -> None:
    making = Making()
    prepared = prepared_detectors(making, max_making=8, max_bytes=2**30, wait_s=10)
    first, *others = await asyncio.gather(*[prepared.get(wanted(), stored=False) for _ in range(20)])
    assert making.made == 1
    assert all(other is first for other in others)


async def test_tenants_share_no_detector_and_no_error() -> None:
    making = Making()
    prepared = prepared_detectors(making, max_making=8, max_bytes=2**30, wait_s=10)
    await prepared.get(wanted(tenant="a"))
    assert prepared.state(wanted(tenant="b")) == ("cold", None)
    assert (await prepared.get(wanted(tenant="b"))).tenant == "b"
    assert making.made == 2


async def test_a_caller_waits_no_longer_than_asked_and_the_making_goes_on() -> None:
    making = Making()
    making.gate.clear()
    prepared = prepared_detectors(making, max_making=8, max_bytes=2**30, wait_s=0.01)
    with pytest.raises(PreparingError):
        await prepared.get(wanted(), stored=False)
    assert prepared.state(wanted())[0] == "preparing"
    making.gate.set()
    while prepared.state(wanted())[0] == "preparing":
        await asyncio.sleep(0)
    assert prepared.state(wanted())[0] == "ready"


async def test_a_failure_is_told_and_not_kept() -> None:
    fail = True

    async def make(asked: Wanted) -> Prepared:
        if fail:
            raise TaskError("something is missing")
        return await Making()(asked)

    prepared = prepared_detectors(make, max_making=8, max_bytes=2**30, wait_s=10)
    with pytest.raises(TaskError):
        await prepared.get(wanted(), stored=False)
    assert prepared.state(wanted()) == ("failed", "something is missing")
    fail = False
    await prepared.get(wanted(), stored=False)
    assert prepared.state(wanted()) == ("ready", None)


async def settled() -> None:
    """What is ready to run has run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_each_tenant_has_so_many_in_the_making_and_no_more() -> None:
    making = Making()
    making.gate.clear()
    prepared = prepared_detectors(making, max_making=3, max_bytes=2**30, wait_s=10)
    first = [asyncio.create_task(prepared.get(wanted(number), stored=False)) for number in range(3)]
    await settled()
    with pytest.raises(BusyError, match=r"3 detectors of yours.*limit is 3 \(VLM_OOD_MAX_PREPARING\)"):
        await prepared.get(wanted(3), stored=False)
    again = asyncio.create_task(prepared.get(wanted(0), stored=False))  # it is in the making already
    other = asyncio.create_task(prepared.get(wanted(3, "b"), stored=False))
    await settled()
    assert making.tenants == ["a", "a", "a", "b"]
    making.gate.set()
    await asyncio.gather(*first, again, other)
    await prepared.get(wanted(4), stored=False)
    await prepared.close()


async def test_closing_stops_what_is_being_made() -> None:
    making = Making()
    making.gate.clear()
    prepared = prepared_detectors(making, max_making=8, max_bytes=2**30, wait_s=0.01)
    with pytest.raises(PreparingError):
        await prepared.get(wanted(), stored=True)
    await prepared.close()
    assert prepared.state(wanted())[0] == "cold"


@pytest.mark.parametrize("stored", [True, False])
async def test_the_making_stops_with_its_last_caller_unless_it_is_of_a_stored_detector(stored: bool) -> None:
    making = Making()
    making.gate.clear()
    prepared = prepared_detectors(making, max_making=8, max_bytes=2**30, wait_s=10)
    callers = [asyncio.create_task(prepared.get(wanted(), stored=False)) for _ in range(2)]
    await settled()
    if stored:
        prepared.keep(wanted())
    for caller, state in zip(callers, ("preparing", "preparing" if stored else "cold"), strict=True):
        caller.cancel()
        await settled()
        assert prepared.state(wanted())[0] == state
    making.gate.set()
    await settled()
    assert prepared.state(wanted())[0] == ("ready" if stored else "cold")


async def test_a_caller_of_a_stored_detector_that_leaves_does_not_stop_its_making() -> None:
    making = Making()
    making.gate.clear()
    prepared = prepared_detectors(making, max_making=8, max_bytes=2**30, wait_s=10)
    caller = asyncio.create_task(prepared.get(wanted(), stored=True))
    await settled()
    caller.cancel()
    await settled()
    assert prepared.state(wanted())[0] == "preparing"
    await prepared.close()


async def test_the_making_goes_on_a_while_for_a_caller_that_was_told_to_ask_again() -> None:
    making = Making()
    making.gate.clear()
    prepared = prepared_detectors(making, max_making=8, max_bytes=2**30, wait_s=0.01, linger_s=0.05)
    with pytest.raises(PreparingError):
        await prepared.get(wanted(), stored=False)
    passing = asyncio.create_task(prepared.get(wanted(), stored=False))
    await settled()
    passing.cancel()
    await settled()
    assert prepared.state(wanted())[0] == "preparing", "the first caller may ask again"
    async with asyncio.timeout(10):
        while prepared.state(wanted())[0] == "preparing":
            await asyncio.sleep(0.001)
    assert prepared.state(wanted())[0] == "cold"
    making.gate.set()
    await prepared.get(wanted(), stored=False)
    assert making.made == 2


async def test_a_detector_larger_than_the_cache_is_used_and_displaces_no_other() -> None:
    sizes = iter([100, 100, 100_000])

    async def make(asked: Wanted) -> Prepared:
        return await Making(classes=next(sizes), dim=4)(asked)

    prepared = prepared_detectors(make, max_making=8, max_bytes=2**20, wait_s=10)
    for number in range(3):
        assert (await prepared.get(wanted(number), stored=False)).spec == spec(number)
    assert [prepared.state(wanted(number))[0] for number in range(3)] == ["ready", "ready", "cold"]


async def test_asking_for_the_state_is_no_use_of_a_detector() -> None:
    making = Making()
    prepared = prepared_detectors(making, max_making=8, max_bytes=2**30, wait_s=10)
    await prepared.get(wanted(), stored=False)
    one = prepared.nbytes
    prepared = prepared_detectors(making, max_making=8, max_bytes=2 * one + 1000, wait_s=10)
    for number in range(3):
        await prepared.get(wanted(number), stored=False)
        prepared.state(wanted(0))
    assert [prepared.state(wanted(number))[0] for number in range(3)] == ["cold", "ready", "ready"]
