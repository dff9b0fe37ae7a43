"""The page at / in a real browser, against the application on a fake engine."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Browser, ConsoleMessage, FilePayload, Page, Request, Route, expect, sync_playwright

from service.app import create_app
from service.settings import Settings
from tests.service.fakes import FakeEngine, png
from tests.service.running import running

CHROMIUM: Final = Path("/usr/bin/chromium")
SWITCHES: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no Chromium at {CHROMIUM}"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    engine = FakeEngine()
    settings = Settings(data=tmp_path, encoders=engine.encoder_names())
    with running(create_app(settings, engine), settings) as url:
        yield url


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """Open and loaded; whatever it logs as an error or asks of another host fails the test."""
    page = browser.new_page(viewport={"width": 390, "height": 844}, reduced_motion="reduce")
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error" and not re.search(
            "status of (422|503)", message.text
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


def picture(name: str, content: bytes) -> FilePayload:
    return {"name": name, "mimeType": "image/png", "buffer": content}


PICTURES: Final = [picture("red.png", png("red")), picture("green.png", png("lime")), picture("blue.png", png("blue"))]


def score(page: Page, *pictures: FilePayload) -> None:
    page.set_input_files("#files", pictures)
    page.get_by_label("What belongs").fill("cat, cup of coffee\nrocket")
    page.get_by_role("button", name="Score images").click()
    expect(page.locator("#cards .card")).to_have_count(len(pictures))


def test_a_broken_file_has_its_error_on_its_own_card(page: Page) -> None:
    score(page, PICTURES[0], picture("broken.png", b"\x89PNG no picture"), PICTURES[2])
    failed = page.locator(".card", has_text="not scored")
    expect(failed).to_have_count(1)
    expect(failed.get_by_role("heading")).to_have_text("broken.png")
    expect(failed.locator(".error")).not_to_be_empty()
    expect(page.locator(".card .score")).to_have_count(2)
    expect(page.locator("#problem")).to_be_hidden()


def test_negative_words_say_what_pulled_an_image_out(page: Page) -> None:
    page.get_by_label("Method").select_option("neglabel")
    page.get_by_label("Words that don’t belong are mined from").select_option("your own words")
    page.set_input_files("#files", PICTURES)
    page.get_by_label("What belongs").fill("red, blue")
    page.get_by_role("button", name="Score images").click()
    expect(page.locator("#problem-detail")).to_have_text("Give at least one word for what doesn’t belong.")
    page.get_by_label("Words for what doesn’t belong").fill("lime, yellow")
    page.get_by_role("button", name="Score images").click()
    expect(page.locator("#cards .card")).to_have_count(3)
    first = page.locator("#cards .card").first
    expect(first.get_by_role("heading")).to_have_text("green.png")
    expect(first.locator(".against")).to_be_visible()
    expect(first.locator(".negatives")).to_contain_text("lime")


def test_sentences_that_deny_a_class(page: Page) -> None:
    page.get_by_label("Method").select_option("clipn")
    expect(page.get_by_label("Sentences that deny a class")).to_be_visible()
    score(page, *PICTURES)
    expect(page.locator(".card .score")).to_have_count(3)


def test_dragging_the_threshold_flips_decisions(page: Page) -> None:
    score(page, *PICTURES)
    expect(page.locator(".badge")).to_have_text(["undecided"] * 3)
    box = page.get_by_role("slider").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 1, middle, steps=4)
    expect(page.locator(".badge")).to_have_text(["does not belong"] * 3)
    page.mouse.move(box["x"] + box["width"] - 1, middle, steps=4)
    expect(page.locator(".badge")).to_have_text(["belongs"] * 3)
    page.mouse.up()
    expect(page.locator("#summary")).to_have_text("0 of 3 images do not belong")


def test_the_keyboard_alone_is_enough(page: Page) -> None:
    page.set_input_files("#files", PICTURES)  # the chooser itself belongs to the system
    page.locator("#files").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_label("What belongs")).to_be_focused()
    page.keyboard.type("cat, rocket")
    for _ in range(5):  # method, encoder, the details, the score button
        if page.evaluate("document.activeElement.id") == "score":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#summary")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("slider")).to_be_focused()
    page.keyboard.press("Home")
    expect(page.locator(".badge")).to_have_text(["does not belong"] * 3)
    page.keyboard.press("End")
    expect(page.locator(".badge")).to_have_text(["belongs"] * 3)


def test_a_problem_of_the_server_is_told_in_its_words(page: Page) -> None:
    page.set_input_files("#files", PICTURES)
    page.get_by_label("What belongs").fill("cat, " + "x" * 201)
    page.get_by_role("button", name="Score images").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The request doesn't fit the schema")
    expect(alert).to_contain_text("at most 200 characters")
    expect(page.locator("#results")).to_be_hidden()


def test_hostile_names_are_shown_as_text(page: Page) -> None:
    hostile = "<img src=x onerror=alert(1)>.png"
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    page.set_input_files("#files", [picture(hostile, png("red"))])
    page.get_by_label("What belongs").fill("<b>cat</b>, <script>alert(2)</script>")
    page.get_by_role("button", name="Score images").click()
    expect(page.locator(".card h3")).to_have_text(hostile)
    expect(page.locator(".card .classes")).to_contain_text("<b>cat</b>")
    expect(page.locator(".card h3 img, .card .classes b, .card .classes script")).to_have_count(0)


def test_a_folder_of_images_gives_the_threshold(page: Page, tmp_path: Path) -> None:
    folder = tmp_path / "belong"
    folder.mkdir()
    for colour in ("red", "maroon", "orange"):
        (folder / f"{colour}.png").write_bytes(png(colour))
    (folder / "notes.txt").write_text("not a picture")
    score(page, *PICTURES)
    page.get_by_text("Templates and calibration").click()
    page.set_input_files("#folder", folder)
    expect(page.locator("#calibrated")).to_contain_text("from 3 images")
    expect(page.locator("#origin")).to_contain_text("95 % of 3 calibration images")
    expect(page.locator(".card .p")).to_have_text([re.compile(r"p = \d\.\d{3}")] * 3)
    page.get_by_label("What belongs").fill("dog, boat")
    expect(page.locator("#calibrated")).to_contain_text("doesn’t carry over")


def test_more_images_than_a_request_may_hold_go_in_several(page: Page) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.url.endswith("/score") else None)
    score(page, *(picture(f"{row}.png", png("red")) for row in range(70)))
    assert len(sent) == 2
    expect(page.locator("#progress")).to_be_hidden()


def test_a_key_is_asked_for_and_kept_for_this_tab(browser: Browser, tmp_path: Path) -> None:
    engine = FakeEngine()
    settings = Settings(data=tmp_path, encoders=engine.encoder_names())
    app = create_app(settings, engine)
    with running(app, settings) as url:
        _, token = app.state.services.keys.create("a", ("score", "manage"))
        page = browser.new_page()
        page.goto(url)
        page.get_by_label("This server wants an API key").fill(token)
        page.get_by_role("button", name="Use key").click()
        expect(page.locator("#method option").first).to_be_attached()
        expect(page.locator("#key-form")).to_be_hidden()
        expect(page.locator("#problem")).to_be_hidden()
        score(page, *PICTURES)
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        page.close()


def test_a_busy_server_is_asked_again_when_it_said_so(page: Page) -> None:
    busy = {"type": "urn:vlm-ood:problem:queue-full", "title": "The queue is full", "detail": "try again"}

    def refuse(route: Route) -> None:
        route.fulfill(status=503, headers={"Retry-After": "1"}, json=busy)

    page.route("**/v1/score", refuse, times=1)
    page.set_input_files("#files", PICTURES)
    page.get_by_label("What belongs").fill("cat, rocket")
    page.get_by_role("button", name="Score images").click()
    expect(page.get_by_role("status")).to_have_text("The queue is full; trying again in 1 s")
    expect(page.locator("#cards .card")).to_have_count(3)
    expect(page.locator("#problem")).to_be_hidden()
