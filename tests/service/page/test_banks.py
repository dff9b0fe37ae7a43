"""Banks on the page: listed, shown, uploaded, deleted, and chosen for what a method reads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect

from service.app import create_app
from service.settings import Settings
from tests.service.banks.files import bank_file, colours
from tests.service.fakes import FakeEngine, png
from tests.service.page.browser import BROWSER, PICTURES, picture, score
from tests.service.running import running

pytestmark = BROWSER


def bank(*names: str, encoder: str = "fake") -> FilePayload:
    """A file with a bank of these names, called after them."""
    content = bank_file(colours(*names, encoder=encoder))
    return {"name": f"{'-'.join(names)}.safetensors", "mimeType": "application/octet-stream", "buffer": content}


def upload(page: Page, file: FilePayload, label: str) -> None:
    open_banks(page)
    page.get_by_label("Name of a new bank").fill(label)
    page.set_input_files("#bank-file", file)
    expect(page.locator("#bank-status")).to_contain_text(f"Stored as {label}")


def open_banks(page: Page) -> None:
    if page.locator("#banks").get_attribute("open") is None:
        page.locator("#banks > summary").click()


def collect(page: Page, name: str, *colours: str) -> None:
    page.get_by_label("Class of the next images").fill(name)
    page.set_input_files("#labelled-files", [picture(f"{colour}.png", png(colour)) for colour in colours])
    expect(page.locator("#labelled-list")).to_contain_text(f"{name}: ")


def sent_in(page: Page) -> Callable[[], list[dict[str, str]]]:
    """The fields of each score request from now on; Chromium shows no form that has files to Playwright."""
    page.evaluate(
        """() => {
            window.sent = [];
            const send = window.fetch;
            window.fetch = (path, options) => {
                if (path.endsWith("/score")) {
                    const fields = [...options.body].filter(([name]) => name !== "images");
                    sent.push(Object.fromEntries(fields));
                }
                return send(path, options);
            };
        }"""
    )
    return lambda: page.evaluate("sent")


def test_a_bank_is_uploaded_shown_and_deleted(page: Page) -> None:
    open_banks(page)
    expect(page.get_by_text("There are none yet.")).to_be_visible()
    page.set_input_files("#bank-file", bank("red", "maroon", "blue"))
    row = page.get_by_role("list", name="Banks").get_by_role("listitem")
    expect(row.get_by_role("heading")).to_have_text("red-maroon-blue")
    expect(row.locator(".facts")).to_have_text("names, 3 rows, fake")
    show = page.get_by_role("button", name="Preview red-maroon-blue")
    show.click()
    expect(show).to_have_attribute("aria-expanded", "true")
    expect(row.get_by_role("row")).to_have_count(3)
    expect(row.get_by_role("row").first).to_have_text("redmaroon 0.69, blue −0.44")
    show.click()
    expect(row.get_by_role("table")).to_be_hidden()
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Delete red-maroon-blue").click()
    expect(row).to_have_count(1)
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete red-maroon-blue").click()
    expect(row).to_have_count(0)
    expect(page.locator("#bank-status")).to_have_text("Deleted red-maroon-blue.")
    expect(page.locator("#classes-source-field")).to_be_hidden()


def test_what_is_no_bank_is_told_where_it_was_given(page: Page) -> None:
    open_banks(page)
    page.set_input_files("#bank-file", {"name": "x.safetensors", "mimeType": "", "buffer": b"no bank"})
    expect(page.locator("#bank-problem")).to_contain_text("Vectors can't be used")
    expect(page.locator("#problem")).to_be_hidden()
    expect(page.locator("#bank-file")).to_be_enabled()


def test_classes_are_taken_from_a_bank_and_the_fields_of_names_are_not_sent(page: Page) -> None:
    upload(page, bank("red", "blue"), "two colours")
    bodies = sent_in(page)
    page.get_by_label("Classes from").select_option("two colours (2 names)")
    expect(page.get_by_label("Class names")).to_be_hidden()
    page.set_input_files("#files", PICTURES)
    page.get_by_role("button", name="Score images").click()
    expect(page.locator("#cards .card")).to_have_count(3)
    red = page.locator(".card", has=page.get_by_role("heading", name="red.png"))
    expect(red.locator(".classes span").first).to_have_text("red")
    (body,) = bodies()
    assert body["classes"].startswith('{"bank":"bnk_')
    assert sorted(body) == ["classes", "encoder", "method", "top"]


def test_negatives_are_taken_from_a_bank_and_not_sent_to_a_method_that_reads_none(page: Page) -> None:
    upload(page, bank("lime", "yellow"), "others")
    bodies = sent_in(page)
    page.get_by_label("Method").select_option("neglabel")
    expect(page.locator("#method-hint")).to_contain_text("It needs negatives besides the classes.")
    page.get_by_label("Negatives").select_option("others (2 names)")
    expect(page.locator("#negatives-hint")).to_be_hidden()
    score(page, *PICTURES)
    first = page.locator("#cards .card").first
    expect(first.get_by_role("heading")).to_have_text("green.png")
    expect(first.locator(".negatives")).to_contain_text("lime")
    page.get_by_label("Method").select_option("mcm")
    expect(page.locator("#negatives-field")).to_be_hidden()
    page.get_by_role("button", name="Score images").click()
    expect(page.locator("#origin")).to_contain_text("mcm on fake")
    assert ["negatives" in body for body in bodies()] == [True, False]
    assert bodies()[0]["negatives"].startswith('{"bank":"bnk_')


def test_negated_prompts_from_a_bank_are_asked_for_before_anything_is_sent(page: Page) -> None:
    upload(page, bank("red", "blue"), "classes")
    bodies = sent_in(page)
    page.set_input_files("#files", PICTURES)
    page.get_by_label("Method").select_option("clipn")
    page.get_by_label("Classes from").select_option("classes (2 names)")
    page.get_by_role("button", name="Score images").click()
    expect(page.locator("#problem-detail")).to_contain_text(
        "clipn needs negated prompts: choose a bank with the same names"
    )
    assert bodies() == []
    page.get_by_label("Negated prompts").select_option("classes (2 names)")
    page.get_by_role("button", name="Score images").click()
    expect(page.locator("#cards .card")).to_have_count(3)
    (body,) = bodies()
    assert body["no"] == body["classes"]
    assert "no_templates" not in body


def test_a_bank_of_another_encoder_is_listed_and_not_offered(page: Page) -> None:
    open_banks(page)
    page.get_by_label("Encoder of its vectors").select_option("other")
    upload(page, bank("red", "blue", encoder="other"), "elsewhere")
    expect(page.locator("#bank-list .facts")).to_have_text("names, 2 rows, other")
    expect(page.locator("#classes-source-field")).to_be_hidden()
    page.get_by_label("Encoder", exact=True).select_option("other")
    expect(page.get_by_label("Classes from").locator("option")).to_have_text(["the names below", "elsewhere (2 names)"])


def test_labelled_images_are_collected_by_class_and_serve_a_method_that_needs_them(knn: str, page: Page) -> None:
    bodies = sent_in(page)
    page.get_by_label("Method").select_option(knn)
    expect(page.locator("#method-hint")).to_contain_text("It needs labelled images besides the classes.")
    page.set_input_files("#files", PICTURES)
    page.get_by_label("Class names").fill("red, blue")
    page.get_by_role("button", name="Score images").click()
    expect(page.locator("#problem-detail")).to_contain_text(f"{knn} needs labelled images: upload some under Banks")
    assert bodies() == []

    open_banks(page)
    page.set_input_files("#labelled-files", PICTURES)
    expect(page.locator("#bank-problem")).to_contain_text("Name the class of these images first.")
    collect(page, "red", "red", "maroon")
    collect(page, "green", "lime")
    page.get_by_role("button", name="Remove the images of green").click()
    collect(page, "blue", "blue", "navy")
    collect(page, "red", "darkred")
    expect(page.locator("#labelled-list span")).to_have_text(["red: 3 images", "blue: 2 images"])
    page.get_by_role("button", name="Upload 5 images").click()
    expect(page.locator("#bank-status")).to_have_text("Stored as labelled images: 5 images.")
    expect(page.locator("#labelled-list li")).to_have_count(0)
    page.get_by_role("button", name="Preview labelled images").click()
    expect(page.locator("#bank-list").get_by_role("row")).to_have_text(["red3", "blue2"])

    expect(page.get_by_label("Labelled images", exact=True).locator("option")).to_have_text(
        "labelled images (5 images)"
    )
    page.get_by_role("button", name="Score images").click()
    expect(page.locator("#cards .card").first.get_by_role("heading")).to_have_text("green.png")
    expect(page.locator("#problem")).to_be_hidden()


def test_a_labelled_image_that_is_none_is_named(page: Page) -> None:
    open_banks(page)
    collect(page, "red", "red")
    page.get_by_label("Class of the next images").fill("red")
    page.set_input_files("#labelled-files", picture("broken.png", b"\x89PNG no picture"))
    page.get_by_role("button", name="Upload 2 images").click()
    expect(page.locator("#bank-status")).to_contain_text("1 image. 1 image could not be used, first broken.png: ")


def test_a_bank_that_a_detector_uses_is_kept(page: Page, tmp_path: Path) -> None:
    upload(page, bank("red", "blue"), "used")
    page.get_by_label("Classes from").select_option("used (2 names)")
    folder = tmp_path / "red"
    folder.mkdir()
    (folder / "red.png").write_bytes(png("red"))
    page.get_by_text("Templates and calibration").click()
    page.set_input_files("#folder", folder)
    expect(page.locator("#calibrated")).to_contain_text("from 1 image by the empirical rule")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete used").click()
    expect(page.locator("#bank-problem")).to_contain_text("det_")
    expect(page.get_by_role("button", name="Delete used")).to_be_enabled()


def test_the_keyboard_reaches_every_part_of_the_banks(page: Page) -> None:
    upload(page, bank("red", "blue"), "colours")
    collect(page, "red", "red")
    page.locator("#banks > summary").focus()
    reached = []
    for _ in range(9):
        page.keyboard.press("Tab")
        element = "document.activeElement"
        reached.append(page.evaluate(f"{element}.id || {element}.getAttribute('aria-label')"))
    assert reached == [
        "Preview colours", "Delete colours", "bank-label", "bank-encoder", "bank-file", "labelled-class",
        "labelled-files", "labelled-send", "Remove the images of red",
    ]  # fmt: skip


def test_nothing_is_wider_than_a_telephone(page: Page) -> None:
    upload(page, bank("red", "blue"), "a" * 200)
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("table")).to_be_visible()
    collect(page, "b" * 200, "red")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_hostile_names_in_a_bank_are_shown_as_text(page: Page) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    upload(page, bank(hostile, "red"), hostile)
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("rowheader").first).to_have_text(hostile)
    expect(page.locator("#banks img")).to_have_count(0)


def test_every_page_of_the_list_is_read(page: Page) -> None:
    def answer(route: Any) -> None:
        after = "after=next" in route.request.url
        entry = {"kind": "text", "encoder": "fake", "rows": None if after else 2, "label": ""}
        route.fulfill(json={"banks": [entry | {"id": f"bnk_{after}"}], "next": None if after else "next"})

    page.route("**/v1/banks?*", answer)
    page.reload()
    open_banks(page)
    expect(page.locator("#bank-list h3")).to_have_text(["bnk_False", "bnk_True"])
    expect(page.locator("#bank-list .facts").last).to_have_text("names, not made yet, fake")


def test_a_bank_that_is_being_made_is_looked_at_again_while_the_section_is_open(page: Page) -> None:
    rows: list[int | None] = [None]
    asked: list[str] = []

    def answer(route: Any) -> None:
        asked.append(route.request.url)
        entry = {"id": "bnk_1", "kind": "text", "encoder": "fake", "rows": rows[0], "label": "mined"}
        route.fulfill(json={"banks": [entry], "next": None})

    page.route("**/v1/banks?*", answer)
    page.clock.install()
    page.reload()
    expect(page.locator("#bank-list .facts")).to_have_text("names, not made yet, fake")
    page.clock.run_for(60_000)
    assert len(asked) == 1, "the section is closed"
    open_banks(page)
    page.get_by_role("button", name="Preview mined").focus()
    with page.expect_response("**/v1/banks?*"):
        page.clock.run_for(5_000)
    expect(page.get_by_role("button", name="Preview mined")).to_be_focused()
    rows[0] = 3
    with page.expect_response("**/v1/banks?*"):
        page.clock.run_for(5_000)
    expect(page.locator("#bank-list .facts")).to_have_text("names, 3 rows, fake")
    expect(page.locator("#bank-list")).to_be_focused()
    expect(page.get_by_label("Classes from").locator("option").last).to_have_text("mined (3 names)")
    page.clock.run_for(60_000)
    assert len(asked) == 3, "all banks are made"


def test_more_labelled_images_than_a_request_holds_are_refused_before_they_are_sent(page: Page) -> None:
    open_banks(page)
    collect(page, "red", "red")
    page.get_by_label("Class of the next images").fill("blue")
    page.set_input_files("#labelled-files", [picture(f"{row}.png", png("blue")) for row in range(512)])
    expect(page.locator("#bank-problem")).to_contain_text("there would be 513 images")
    expect(page.get_by_label("Class of the next images")).to_have_value("blue")
    expect(page.get_by_role("button", name="Upload 1 image")).to_be_visible()


def test_a_key_that_may_only_score_has_no_banks(browser: Browser, tmp_path: Path) -> None:
    engine = FakeEngine()
    settings = Settings(data=tmp_path, encoders=engine.encoder_names())
    app = create_app(settings, engine)
    with running(app, settings) as url:
        _, token = app.state.services.keys.create("a", ("score",))
        page = browser.new_page()
        page.goto(url)
        page.get_by_label("This server wants an API key").fill(token)
        page.get_by_role("button", name="Use key").click()
        expect(page.locator("#method-hint")).not_to_be_empty()  # the last of what is loaded
        expect(page.locator("#problem")).to_be_hidden()
        score(page, *PICTURES)
        expect(page.locator("#banks")).to_be_hidden()
        expect(page.locator("#problem")).to_be_hidden()
        page.close()


@pytest.mark.parametrize(("images", "rule", "noted"), [(3, "empirical", True), (20, "conformal", False)])
def test_a_calibration_says_its_rule_and_what_to_know(
    page: Page, tmp_path: Path, images: int, rule: str, noted: bool
) -> None:
    folder = tmp_path / "red"
    folder.mkdir()
    for row in range(images):
        (folder / f"{row}.png").write_bytes(png(f"#{200 + row:02x}0000"))
    page.get_by_label("Class names").fill("red, blue")
    page.get_by_text("Templates and calibration").click()
    page.set_input_files("#folder", folder)
    expect(page.locator("#calibrated")).to_contain_text(f"from {images} images by the {rule} rule")
    note = page.locator("#calibration-note")
    if noted:
        expect(note).to_contain_text("the guarantee needs 19 images or more")
    else:
        expect(note).to_be_hidden()
    page.get_by_label("Class names").fill("dog, boat")
    expect(note).to_be_hidden()
