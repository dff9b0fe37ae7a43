"""Many images in the page: several requests, smaller ones where the server asks for it, and what people read."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Response, expect

from tests.service.fakes import png
from tests.service.page.browser import BROWSER, picture

pytestmark = BROWSER

DECISIONS = {"in": "in-distribution", "out": "out-of-distribution", None: "undecided"}
COLOURS = ("red", "lime", "blue", "white")


def scored(page: Page, names: str, *pictures: Any) -> tuple[dict[str, Any], list[list[int]]]:
    """Scores pictures; what the server answered about each, and the number of images and the status of each request."""
    answers: dict[str, Any] = {}
    requests: list[list[int]] = []

    def note(response: Response) -> None:
        if response.url.endswith("/score"):
            results = response.json().get("results", [])
            requests.append([response.status, len(results)])
            answers.update({result["image"]: result for result in results})

    page.on("response", note)
    page.set_input_files("#files", pictures)
    page.get_by_label("Class names").fill(names)
    page.get_by_role("button", name="Score images").click()
    expect(page.get_by_role("status").first).to_have_text(re.compile(r"^Done: "))
    page.remove_listener("response", note)
    return answers, requests


def shown(page: Page) -> list[dict[str, Any]]:
    """What each card says, from the top."""
    read = """cards => cards.map(card => Object.fromEntries(
        ["h3", ".score", ".p", ".badge", ".error", ".classes"].map(
            part => [part, card.querySelector(part)?.textContent])))"""
    cards: list[dict[str, Any]] = page.locator("#cards .card").evaluate_all(read)
    return cards


def as_shown(score: float) -> str:
    """Four significant digits, as JavaScript's toPrecision writes them."""
    digits = f"{score:#.4g}"
    return digits.replace("-", "−")


@pytest.mark.parametrize("limits", [{"max_images": 5}], ids=str)
def test_each_card_has_the_answer_of_its_own_picture_whatever_the_server_takes(page: Page) -> None:
    pictures = [picture(f"{row}-{COLOURS[row % 4]}.png", png(COLOURS[row % 4])) for row in range(22)]
    pictures[7] = picture("broken.png", b"\x89PNG no picture")
    answers, requests = scored(page, "red, lime, blue", *pictures)
    cards = shown(page)
    assert [status for status, _ in requests].count(413) == 5  # 22, twice 11, twice 6
    assert all(count <= 5 for _, count in requests)
    assert len(answers) == len(cards) == 22
    assert {card["h3"] for card in cards} == set(answers)
    for card in cards[:-1]:
        answer = answers[card["h3"]]
        best = answer["classes"][0]
        assert card[".score"] == as_shown(answer["score"])
        assert card[".classes"].startswith(f"{best['name']}{100 * best['probability']:.0f} %")
        colour = card["h3"].partition("-")[2].removesuffix(".png")
        assert colour == "white" or best["name"] == colour
    scores = [answers[card["h3"]]["score"] for card in cards[:-1]]
    assert scores == sorted(scores, reverse=True)
    assert (cards[-1]["h3"], cards[-1][".badge"]) == ("broken.png", "not scored")
    assert cards[-1][".error"] == answers["broken.png"]["error"]["message"]


@pytest.mark.parametrize("limits", [{"max_body_bytes": 12_000}], ids=str)
def test_a_picture_too_large_alone_has_its_error_and_the_others_their_scores(page: Page) -> None:
    large = picture("large.png", png("red") + bytes(20_000))
    answers, _ = scored(page, "red, lime", *(picture(f"{row}.png", png("red")) for row in range(6)), large)
    cards = shown(page)
    assert [card[".badge"] for card in cards] == ["undecided"] * 6 + ["not scored"]
    assert {card["h3"] for card in cards[:-1]} == set(answers)
    assert cards[-1]["h3"] == "large.png"
    assert "12,000" in cards[-1][".error"]
    expect(page.locator("#problem")).to_be_hidden()


@pytest.mark.parametrize("limits", [{"max_calibration_images": 20}], ids=str)
def test_a_large_folder_calibrates_in_small_requests_and_the_cards_say_what_the_server_decided(
    page: Page, tmp_path: Path
) -> None:
    """Red images calibrate, so red ones are exactly at the threshold: a tie belongs."""
    folder = tmp_path / "belong"
    folder.mkdir()
    for row in range(70):
        (folder / f"{row:02}.png").write_bytes(png("red"))
    (folder / "50.png").write_bytes(b"no picture")
    scored(page, "red, lime", picture("red.png", png("red")), picture("blue.png", png("blue")))
    page.get_by_text("Templates and calibration").click()
    page.set_input_files("#folder", folder)
    expect(page.locator("#calibrated")).to_contain_text("from 69 images by the conformal rule")
    expect(page.locator("#origin")).to_contain_text("95 % of 69 calibration images")
    pictures = [picture("red.png", png("red")), picture("blue.png", png("blue")), picture("green.png", png("lime"))]
    answers, _ = scored(page, "red, lime", *pictures)
    cards = shown(page)
    for card in cards:
        answer = answers[card["h3"]]
        assert card[".badge"] == DECISIONS[answer["decision"]]
        assert card[".p"] == f"p = {answer['p_value']:.3f}"
        assert card[".score"] == as_shown(answer["score"])
    assert answers["red.png"]["decision"] == "in"
    assert answers["red.png"]["p_value"] == 1
    assert answers["red.png"]["score"] == pytest.approx(answers["red.png"]["threshold"])
    assert answers["blue.png"]["decision"] == "out"
    assert answers["blue.png"]["p_value"] == pytest.approx(1 / 70)


@pytest.mark.parametrize("limits", [{"max_body_bytes": 300}], ids=str)
def test_a_folder_of_pictures_that_are_all_too_large_says_so(page: Page, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    for row in range(3):
        (folder / f"{row}.png").write_bytes(png("red") + bytes(1_000))
    page.get_by_label("Class names").fill("red, lime")
    page.get_by_text("Templates and calibration").click()
    page.set_input_files("#folder", folder)
    expect(page.get_by_role("alert").first).to_contain_text("300")
    expect(page.locator("#calibrated")).to_be_hidden()
