"""What the tests of the client share."""

from collections.abc import Iterator

import pytest
import structlog

from tests.client.transports import FakeClock


@pytest.fixture(autouse=True)
def _no_logs() -> Iterator[None]:
    """The server's, in a thread beside a command, would mix with what the command prints."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
