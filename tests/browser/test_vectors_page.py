"""The map of a report on vectors in a real browser: it is coloured, and a click shows the item."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from helpers import toy_vectors
from playwright.sync_api import expect

import mmfeat
from mmfeat.report.page import render
from mmfeat.report.vectors.build import VectorsOptions

FILLS = "circles => circles.map((circle) => getComputedStyle(circle).fill)"


def test_a_click_on_the_map_shows_the_item_and_colours_follow_the_field(chromium, tmp_path):
    store = mmfeat.open(toy_vectors.make_store(tmp_path))
    report = store.report_vectors("look", VectorsOptions(beside=("late",), colour="kind"))
    path, complaints = tmp_path / "vectors.html", []
    path.write_text(render(report), "utf-8")
    for scheme, viewport in (
        ("light", {"width": 1280, "height": 900}),
        ("dark", {"width": 390, "height": 844}),
    ):
        context = chromium.new_context(viewport=viewport, color_scheme=scheme)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        points = [point.item_id for point in report.map.points]
        at = points.index("item-05")
        page.locator("#map circle").nth(at).dispatch_event("click")
        expect(page.locator("#map-item .id")).to_have_text("item-05")
        expect(page.locator("#map-item")).to_contain_text("kind: cup")
        assert page.locator("#map-item img").evaluate("image => image.naturalWidth") > 0
        page.fill("#map-search", "ITEM-44")
        expect(page.locator("#map-item .id")).to_have_text("item-44")
        expect(page.locator("#map-item")).to_contain_text(toy_vectors.STRANGE)
        expect(page.locator("#map-legend li")).to_have_count(3)
        assert len(set(page.locator("#map circle").evaluate_all(FILLS))) == 3
        page.select_option("#map-colour", label="status of caption")
        expect(page.locator("#map-legend")).to_contain_text("failed")
        assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
        page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        context.close()
    assert complaints == []
