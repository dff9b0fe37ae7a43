"""Where the browser is, and what every test of the page does."""

from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import FilePayload, Page, expect

from tests.service.fakes import png

CHROMIUM: Final = Path("/usr/bin/chromium")
BROWSER: Final = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no Chromium at {CHROMIUM}"),
]


def picture(name: str, content: bytes) -> FilePayload:
    return {"name": name, "mimeType": "image/png", "buffer": content}


PICTURES: Final = [picture("red.png", png("red")), picture("green.png", png("lime")), picture("blue.png", png("blue"))]


def score(page: Page, *pictures: FilePayload) -> None:
    page.set_input_files("#files", pictures)
    page.get_by_label("Class names").fill("cat, cup of coffee\nrocket")
    page.get_by_role("button", name="Score images").click()
    expect(page.locator("#cards .card")).to_have_count(len(pictures))
