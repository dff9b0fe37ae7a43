"""The page, open in a real browser against the application on a fake engine."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from service.app import create_app
from service.settings import Settings
from tests.service.fakes import FakeEngine
from tests.service.page.browser import CHROMIUM
from tests.service.running import running

SWITCHES: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]
# Nothing waits so long: tests wait for what the page shows, and a busy machine may take its time to show it.
PATIENCE_MS: Final = 60_000
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def limits() -> dict[str, int]:
    """Settings of the server other than its own; tests override it by parametrizing."""
    return {}


@pytest.fixture
def address(tmp_path: Path, limits: dict[str, int]) -> Iterator[str]:
    engine = FakeEngine()
    settings = Settings(data=tmp_path, encoders=engine.encoder_names()).model_copy(update=limits)
    with running(create_app(settings, engine), settings) as url:
        yield url


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """Open and loaded; whatever it logs as an error or asks of another host fails the test."""
    page = browser.new_page(viewport={"width": 390, "height": 844}, reduced_motion="reduce")
    page.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error" and not re.search(
            "status of (409|413|422|503)", message.text
        ):  # Chromium logs every refused request
            complaints.append(message.text)

    def watch(request: Request) -> None:
        if not request.url.startswith((address, "blob:", "data:")):
            complaints.append(request.url)

    page.on("console", listen)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", watch)
    page.goto(address)
    expect(page.locator("#method option").first).to_be_attached()
    expect(page.locator("#stop")).to_be_hidden()
    yield page
    page.close()
    assert not complaints
