"""The page at / in a real browser, against the application on a fake engine."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from service.app import create_app
from service.settings import Settings
from tests.service.fakes import FakeEngine, png
from tests.service.page.browser import BROWSER, PICTURES, picture, score
from tests.service.running import running

pytestmark = BROWSER


def test_the_button_is_as_wide_as_the_column_of_a_telephone(page: Page) -> None:
    button, column = page.locator("#score").bounding_box(), page.locator("#classes").bounding_box()
    assert button is not None
    assert column is not None
    assert (button["x"], button["width"]) == (column["x"], column["width"])


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
    page.get_by_label("Negatives").select_option("your own words")
    page.set_input_files("#files", PICTURES)
    page.get_by_label("Class names").fill("red, blue")
    page.get_by_role("button", name="Score images").click()
    expect(page.locator("#problem-detail")).to_have_text("Give at least one negative word.")
    page.get_by_label("Negative words").fill("lime, yellow")
    page.get_by_role("button", name="Score images").click()
    expect(page.locator("#cards .card")).to_have_count(3)
    first = page.locator("#cards .card").first
    expect(first.get_by_role("heading")).to_have_text("green.png")
    expect(first.locator(".against")).to_be_visible()
    expect(first.locator(".negatives")).to_contain_text("lime")


def test_negated_prompts_decide_by_the_rule_of_the_method(page: Page) -> None:
    page.get_by_label("Method").select_option("clipn")
    expect(page.get_by_label("Negated prompts")).to_be_visible()
    with page.expect_response("**/v1/score") as answered:
        score(page, *PICTURES)
    expect(page.locator(".card .score")).to_have_count(3)
    results = answered.value.json()["results"]
    ruled = {each["image"]: each["decision"] for each in results}
    assert set(ruled.values()) <= {"in", "out"}
    out = list(ruled.values()).count("out")
    for image, decision in ruled.items():
        card = page.locator(".card", has=page.get_by_role("heading", name=image))
        expect(card.locator(".badge")).to_have_text({"in": "in-distribution", "out": "out-of-distribution"}[decision])
    expect(page.locator("#summary")).to_contain_text(f"{out} of 3 images")
    expect(page.locator("#threshold-value")).to_have_text("the method's own rule")
    expect(page.locator("#origin")).to_contain_text("the method's own rule decides")
    page.get_by_role("slider").focus()
    page.keyboard.press("Home")  # a threshold of the user's own takes the place of the rule
    expect(page.locator(".badge")).to_have_text(["out-of-distribution"] * 3)


def test_dragging_the_threshold_flips_decisions(page: Page) -> None:
    score(page, *PICTURES)
    expect(page.locator(".badge")).to_have_text(["undecided"] * 3)
    box = page.get_by_role("slider").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 1, middle, steps=4)
    expect(page.locator(".badge")).to_have_text(["out-of-distribution"] * 3)
    page.mouse.move(box["x"] + box["width"] - 1, middle, steps=4)
    expect(page.locator(".badge")).to_have_text(["in-distribution"] * 3)
    page.mouse.up()
    expect(page.locator("#summary")).to_have_text("0 of 3 images are out-of-distribution")


def test_the_keyboard_alone_is_enough(page: Page) -> None:
    page.set_input_files("#files", PICTURES)  # the chooser itself belongs to the system
    page.locator("#files").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Class names")).to_be_focused()
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
    expect(page.locator(".badge")).to_have_text(["out-of-distribution"] * 3)
    page.keyboard.press("End")
    expect(page.locator(".badge")).to_have_text(["in-distribution"] * 3)


def test_a_problem_of_the_server_is_told_in_its_words(page: Page) -> None:
    page.set_input_files("#files", PICTURES)
    page.get_by_label("Class names").fill("cat, " + "x" * 201)
    page.get_by_role("button", name="Score images").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The request doesn't fit the schema")
    expect(alert).to_contain_text("at most 200 characters")
    expect(page.locator("#results")).to_be_hidden()


def test_hostile_names_are_shown_as_text(page: Page) -> None:
    hostile = "<img src=x onerror=alert(1)>.png"
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    page.set_input_files("#files", [picture(hostile, png("red"))])
    page.get_by_label("Class names").fill("<b>cat</b>, <script>alert(2)</script>")
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
    page.get_by_label("Class names").fill("dog, boat")
    expect(page.locator("#calibrated")).to_contain_text("no longer applies")


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
    page.get_by_label("Class names").fill("cat, rocket")
    page.get_by_role("button", name="Score images").click()
    expect(page.get_by_role("status")).to_have_text("The queue is full; trying again in 1 s")
    expect(page.locator("#cards .card")).to_have_count(3)
    expect(page.locator("#problem")).to_be_hidden()
