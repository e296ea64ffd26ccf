"""The pictures in the README: pages as a browser shows them, of the tests' own data.

``pytest tests/browser/test_pictures.py --pictures docs/images`` takes them anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import report_pages, taste, toy_vectors
from PIL import Image

import mmfeat
from mmfeat.report.page import render
from mmfeat.report.vectors.build import VectorsOptions
from mmfeat.web import stylesheet

SIZE = {"width": 1280, "height": 800}


def caption_report(folder: Path) -> str:
    return render(report_pages.report())


def vectors_report(folder: Path) -> str:
    store = mmfeat.open(toy_vectors.make_store(folder))
    return render(store.report_vectors("look", VectorsOptions(beside=("late",), colour="kind")))


def evaluation(folder: Path) -> str:
    """As a notebook shows it: users follow what the sound shows, and not the title."""
    made = taste.world("sound", 2)
    chosen = {name: made.vectors[name] for name in ("sound", "title")}
    uri = taste.stored(made, str(folder / "features"), chosen).uri
    found = mmfeat.open(uri).evaluate(["sound", "title"])
    # Where the store lies differs from run to run.
    shown = found._repr_html_().replace(uri, "features")
    return f"<style>{stylesheet()}</style><main style='padding: 1rem 2rem'>{shown}</main>"


@pytest.mark.parametrize(
    ("name", "make", "shown"),
    [("caption-report", caption_report, "h1"), ("vectors", vectors_report, "#map"),
     ("evaluation", evaluation, "table")],
)  # fmt: skip
def test_a_page_looks_like_its_picture_in_the_readme(chromium, pytestconfig, tmp_path, name, make, shown):
    page = chromium.new_page(viewport=SIZE)
    (tmp_path / "page.html").write_text(make(tmp_path), "utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    page.locator(shown).first.scroll_into_view_if_needed()
    folder = Path(pytestconfig.getoption("--pictures") or tmp_path)
    page.screenshot(path=folder / f"{name}.png")
    page.close()
    taken = Image.open(folder / f"{name}.png")
    kept = Image.open(Path(__file__).parents[2] / "docs" / "images" / f"{name}.png")
    assert taken.size == kept.size
    # Fonts differ between machines; what is drawn where does not.
    small = [image.convert("L").resize((16, 10)) for image in (taken, kept)]
    assert max(abs(a - b) for a, b in zip(*(image.tobytes() for image in small), strict=True)) < 64
