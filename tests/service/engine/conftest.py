"""Engines that are stopped when the test is over."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from service.engine import EngineSettings, LocalEngine
from tests.service.engine.stand_ins import Gate

Start = Callable[[EngineSettings], Awaitable[LocalEngine]]


@pytest.fixture
def gate() -> Gate:
    """Open."""
    return Gate()


@pytest_asyncio.fixture
async def start(gate: Gate) -> AsyncIterator[Start]:
    """Make and start an engine."""
    engines: list[LocalEngine] = []

    async def make(settings: EngineSettings) -> LocalEngine:
        engine = LocalEngine(settings)
        await engine.start()
        engines.append(engine)
        return engine

    yield make
    gate.open()
    for engine in engines:
        await engine.stop()
