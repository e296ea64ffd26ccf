"""The caption report's page as people see it: opened from a file in a real browser."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from helpers import report_pages
from playwright.sync_api import expect

from mmfeat.report.page import render

LAPTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
MANY = 10_000


@dataclass
class Opened:
    """A page with everything it asked for and complained of."""

    page: object
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(report_pages.report()), "utf-8")
    return path


@pytest.fixture
def opened(chromium, file):
    """Open the report: ``opened(viewport=..., color_scheme=...)``."""
    contexts = []

    def open_(path: Path = file, **options) -> Opened:
        context = chromium.new_context(**{"viewport": LAPTOP, **options})
        contexts.append(context)
        found = Opened(context.new_page())
        found.page.on("request", lambda request: found.requests.append(request.url))
        found.page.on("console", lambda message: found.complaints.append(message.text))
        found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
        found.page.goto(path.as_uri())
        return found

    yield open_
    for context in contexts:
        context.close()


def ids(page) -> list[str]:
    return page.locator("#item-rows .id").all_inner_texts()


def test_no_request_leaves_the_page_and_the_console_stays_empty(opened, file):
    found = opened()
    found.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    found.page.wait_for_load_state("networkidle")
    outside = [url for url in found.requests if not url.startswith("data:")]
    assert outside == [file.as_uri()]
    assert found.complaints == []


def test_every_picture_is_decoded(opened):
    broken = "[...document.images].filter((image) => !image.complete || image.naturalWidth === 0).length"
    page = opened().page
    assert page.locator("img").count() > 20
    assert page.evaluate(broken) == 0


def test_texts_of_strangers_stay_texts(opened):
    page = opened().page
    assert page.locator("#item-rows").get_by_text(report_pages.SCRIPT, exact=True).count() == 2
    assert page.locator("#gallery").get_by_text(report_pages.SCRIPT).count() >= 1
    assert page.locator("#item-rows").get_by_text(report_pages.CLOSER, exact=True).count() == 1
    assert page.evaluate("window.ran") is None
    assert page.locator("script").count() == 2


def test_a_policy_stops_a_script_that_got_in_all_the_same(opened):
    found = opened()
    found.page.evaluate(
        """document.body.append(
            Object.assign(document.createElement("script"), {textContent: "window.ran = true"}))"""
    )
    assert found.page.evaluate("window.ran") is None
    assert "Content Security Policy" in found.complaints[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [LAPTOP, PHONE], ids=["laptop", "phone"])
def test_it_is_accessible(opened, scheme, viewport):
    page = opened(viewport=viewport, color_scheme=scheme).page
    # What is folded is judged as well.
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_the_two_themes_differ_and_pictures_follow(opened):
    seen = []
    for scheme in ("light", "dark"):
        page = opened(color_scheme=scheme).page
        seen.append(
            page.evaluate(
                """() => [getComputedStyle(document.body).backgroundColor,
                getComputedStyle(document.querySelector(".chart .fill-accent")).fill,
                getComputedStyle(document.querySelector(".chart text")).fill]"""
            )
        )
    light, dark = seen
    assert light[0] == "rgb(255, 255, 255)"
    assert all(one != other for one, other in zip(light, dark, strict=True))


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_never_scrolls_sideways(opened, width):
    page = opened(viewport={"width": width, "height": 844}).page
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_items_are_shown_in_pages(opened):
    page = opened().page
    assert len(ids(page)) == 50
    assert page.locator("#item-count").inner_text() == "Items 1 to 50 of 120"
    assert page.locator("#item-previous").is_disabled()
    page.click("#item-next")
    page.click("#item-next")
    assert ids(page) == [f"item-{number:05}" for number in range(100, 120)]
    assert page.locator("#item-next").is_disabled()


def test_search_finds_ids_titles_captions_and_reasons(opened):
    page = opened().page
    for words, expected in [
        ("ITEM-00042", ["item-00042"]),
        ("number 77", ["item-00077"]),
        ("القهوة", ["item-00001"]),
        ("window.ran decode", ["item-00009"]),
        ("no such words", []),
    ]:
        page.fill("#item-search", words)
        expect(page.locator("#item-rows .id")).to_have_text(expected)
    assert page.locator("#item-count").inner_text() == "No item matches (of 120)."
    page.click("#item-clear")
    assert len(ids(page)) == 50


def test_filters_keep_what_they_name(opened):
    items = report_pages.report().items
    page = opened().page
    page.select_option("#item-status", "failed")
    assert ids(page) == [item.item_id for item in items if item.status == "failed"]
    page.select_option("#item-status", "")
    page.select_option("#item-suspect", label="loops")
    assert ids(page) == [item.item_id for item in items if "loop" in item.suspects]
    page.select_option("#item-suspect", "any")
    assert ids(page) == [item.item_id for item in items if item.suspects]


def test_a_suspicion_leads_to_its_items(opened):
    items = report_pages.report().items
    page = opened().page
    page.locator("#suspects tr", has_text="refusals").get_by_role("button").click()
    assert ids(page) == [item.item_id for item in items if "refusal" in item.suspects]
    page.locator("#coverage tr", has_text="missing").get_by_role("button").click()
    assert ids(page) == [item.item_id for item in items if item.status == "missing"]


def test_the_table_sorts_with_items_without_a_value_last(opened):
    items = report_pages.report().items
    scored = sorted((i for i in items if i.grounding is not None), key=lambda i: i.grounding)
    page = opened().page
    page.get_by_role("button", name="Grounding").click()
    assert ids(page)[:10] == [item.item_id for item in scored[:10]]
    page.get_by_role("button", name="Grounding").click()
    assert ids(page)[:10] == [item.item_id for item in scored[:-11:-1]]
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    page.click("#item-next")
    page.click("#item-next")
    assert page.locator("#item-rows tr").last.locator(".grounding").inner_text() == ""


def test_the_gallery_filters_by_group_and_words(opened):
    page = opened().page
    shown = page.locator("#gallery .card:visible")
    assert shown.count() == 28
    page.select_option("#gallery-group", "failures")
    assert shown.locator(".id").all_inner_texts() == ["item-00009", "item-00019", "item-00029", "item-00039"]
    page.fill("#gallery-search", "item-00019")
    assert shown.count() == 1
    assert page.locator("#gallery-count").inner_text() == "1 item shown"


def test_it_is_read_by_keyboard(opened):
    page = opened().page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert page.evaluate("document.activeElement.hash") == "#verdict" and outline == "solid"


def test_paper_has_no_controls_and_all_examples(opened):
    page = opened(color_scheme="dark").page
    page.emulate_media(media="print")
    assert page.locator(".toolbar:visible, nav:visible, button:visible").count() == 0
    assert page.locator("#suspects .examples").first.locator("li").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_without_scripts_all_but_the_table_is_there(opened):
    page = opened(java_script_enabled=False).page
    assert page.locator("noscript").is_visible()
    assert page.get_by_text("Failed: 2 of 4 gates").is_visible()
    assert page.locator("#gallery .card").count() == 28


def test_ten_thousand_items_fit_and_are_searched(opened, tmp_path):
    path = tmp_path / "many.html"
    path.write_text(render(report_pages.report(MANY, words=80)), "utf-8")
    size = path.stat().st_size
    began = time.perf_counter()
    page = opened(path).page
    page.locator("#item-rows tr").first.wait_for()
    print(f"{MANY:,} items: {size / 1e6:.1f} MB, open in {time.perf_counter() - began:.2f} s")
    assert size < 15_000_000
    assert page.locator("#item-count").inner_text() == "Items 1 to 50 of 10,000"
    page.fill("#item-search", "item-09998")
    expect(page.locator("#item-rows .id")).to_have_text(["item-09998"])
