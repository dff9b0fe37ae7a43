"""A server on a fake engine, and callers with and without keys."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi import FastAPI
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.service.fakes import FakeEngine

Start = Callable[..., TestClient]


@pytest.fixture(autouse=True)
def _plain_logs() -> Iterator[None]:
    """Not those of a terminal: their tracebacks take seconds to draw."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(),
        ]
    )
    yield
    structlog.reset_defaults()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def start(tmp_path: Path, engine: FakeEngine) -> Iterator[Start]:
    """Start a server with these settings; stopped after the test."""
    with ExitStack() as running:

        def begin(**settings: Any) -> TestClient:
            own: dict[str, Any] = {"data": tmp_path, "encoders": engine.encoder_names()} | settings
            app = create_app(Settings(**own), engine)
            return running.enter_context(
                TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
            )

        yield begin


@pytest.fixture
def client(start: Start) -> TestClient:
    """The local user of a server without keys."""
    return start()


@pytest.fixture
def key(client: TestClient) -> Callable[..., dict[str, str]]:
    """Make a key; the header that carries it."""

    def make(tenant: str = "a", *access: str, **more: Any) -> dict[str, str]:
        _, token = services_of(client).keys.create(tenant, access or ("score", "manage", "metrics"), **more)
        return {"Authorization": f"Bearer {token}"}

    return make


def services_of(client: TestClient) -> Any:
    """What the server behind a client is made of."""
    assert isinstance(client.app, FastAPI)
    return client.app.state.services
