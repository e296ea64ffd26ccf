"""The service's pages in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from axe_playwright_python.sync_playwright import Axe
from helpers import serving

import mmfeat

LAPTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SEARCH = "/search?" + urlencode({"feature": "clip", "text": "a red circle"})
PAGES = ["/", "/items", "/item?" + urlencode({"id": "item-1"}), SEARCH, "/failures"]


@pytest.fixture(scope="module")
def browsed(tmp_path_factory) -> Iterator[serving.Running]:
    store = serving.make_store(tmp_path_factory.mktemp("browsed"))
    with serving.running(store, ui=True, timeout_seconds=300) as service:
        yield service


@pytest.fixture
def open_page(chromium, browsed):
    """Open a page; at the end nothing may have left the service, been blocked or been said on the console."""
    wrong: list[str] = []
    contexts = []

    def opened(path: str, size=LAPTOP, scheme="light"):
        context = chromium.new_context(viewport=size, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("dialog", lambda d: (wrong.append(f"dialog: {d.message}"), d.dismiss()))
        page.on("request", lambda r: None if r.url.startswith(browsed.url) else wrong.append(r.url))
        # A picture that cannot be made is a 404, which the console reports.
        page.on("console", lambda m: None if "404" in m.text else wrong.append(m.text))
        page.goto(browsed.url + path, wait_until="networkidle")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_a_laptop_and_a_phone_and_is_accessible_in_both_themes(open_page, path):
    for size, scheme in ((LAPTOP, "light"), (PHONE, "dark")):
        page = open_page(path, size, scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == {
            "light": "rgb(255, 255, 255)",
            "dark": "rgb(18, 21, 26)",
        }.get(scheme)
        violations = Axe().run(page).response["violations"]
        assert violations == [], [(v["id"], [n["html"] for n in v["nodes"]]) for v in violations]


def test_a_title_that_is_a_script_is_read_and_not_run(open_page):
    page = open_page("/item?" + urlencode({"id": "item-1"}))
    assert page.locator("h1").inner_text() == serving.SCRIPT


def test_from_the_overview_over_the_items_to_an_item_its_picture_and_its_neighbours(open_page):
    page = open_page("/")
    page.get_by_role("link", name="Items").click()
    page.get_by_role("link", name="Title of ü 🎬 %2F").click()
    assert page.locator("h1").inner_text() == "Title of ü 🎬 %2F"
    picture = page.locator(".of-item img").first
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    columns = page.locator(".columns > div")
    assert columns.count() == 2
    columns.first.locator("a").first.click()
    assert page.locator("h1").inner_text() != "Title of ü 🎬 %2F"


def test_a_search_by_text_and_one_by_picture_show_the_nearest_items_first(open_page, browsed):
    opened = mmfeat.open(browsed.app.state.service.live.uri)
    page = open_page("/search")
    page.get_by_role("searchbox").fill("a red circle")
    page.locator("select").first.select_option(opened.spec("clip").version)
    page.get_by_role("button", name="Search by text").click()
    shown = page.locator(".card .id").all_inner_texts()
    assert shown == [hit.item_id for hit in opened.search("clip", text="a red circle")]

    cover = Path(opened.items.to_pylist()[2]["cover"])
    page.locator("select").last.select_option(opened.spec("clip").version)
    page.locator("input[type=file]").set_input_files(cover)
    page.get_by_role("button", name="Search by picture").click()
    assert page.locator(".card .id").first.inner_text() == "item-2"


def test_failures_lead_to_the_item_that_failed_which_says_why(open_page):
    page = open_page("/failures")
    page.get_by_role("link", name="broken").click()
    assert "cannot decode broken" in page.locator("table").inner_text()
