"""A process that can't start says why and ends, and one that still starts ends when it is told to."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.run import START_FAILED
from tests.conftest import ROOT
from tests.service.sockets import free_port

pytestmark = pytest.mark.slow

PATIENCE_S = 120


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def server(tmp_path: Path, port: int) -> Iterator["subprocess.Popen[str]"]:
    """A server whose encoder can't be loaded, which it takes seconds to find out."""
    settings = {"DATA": str(tmp_path), "PORT": str(port), "ENCODERS": "no-such-model/at-all"}
    environment = os.environ | {f"VLM_OOD_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "service"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(server: "subprocess.Popen[str]", port: int, path: str) -> None:
    """Until it answers 200."""
    while server.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S).status_code == 200:
                return
        except httpx.ConnectError:
            continue
    pytest.fail("the server ended before it answered")


def test_a_start_that_fails_ends_the_process_with_the_reason(server: "subprocess.Popen[str]", port: int) -> None:
    wait_for(server, port, "/livez")
    _, said = server.communicate(timeout=PATIENCE_S)
    assert server.returncode == START_FAILED
    assert said.strip().splitlines()[-1].startswith("error: the server can't start: ")
    assert "no-such-model" in said.strip().splitlines()[-1]


@pytest.mark.parametrize("path", ["/livez", "/metrics"], ids=["before the application", "while encoders are loaded"])
def test_a_signal_ends_a_process_that_still_starts(server: "subprocess.Popen[str]", port: int, path: str) -> None:
    wait_for(server, port, path)
    server.send_signal(signal.SIGTERM)
    _, said = server.communicate(timeout=PATIENCE_S)
    assert server.returncode == -signal.SIGTERM
    assert "can't start" not in said
