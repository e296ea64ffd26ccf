"""``store["feature"].nearest("item")``: what a search found, at a prompt and in a notebook."""

from __future__ import annotations

import base64
import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.storing import make_rows, text_spec, vector_spec
from PIL import Image
from rich.cells import cell_len

import mmfeat
from mmfeat.datasets.base import build_items
from mmfeat.schemas.catalog import Column
from mmfeat.schemas.errors import MissingExtra, UnknownFeature, UsageError
from mmfeat.store import Store

MARKUP = "<script>[bold]alert(1)</script>"
LONG = "猫が好きな人のための、とても長い題名。" * 8
COLORS = {"red": (220, 0, 0), "orange": (240, 120, 0), "blue": (0, 0, 220), "bare": None}
TITLES = {"red": MARKUP, "orange": LONG, "blue": None, "bare": "no cover"}


def make_store(folder: Path, column: str, titles: dict[str, str | None]) -> Path:
    """A store of items with a picture of one color each, if any, in a column; vectors are the colors."""
    places = {}
    for item_id, color in COLORS.items():
        if color is not None:
            places[item_id] = str(folder / f"{item_id}.png")
            Image.new("RGB", (640, 320), color).save(places[item_id])
    own = [] if column == "cover" else [Column(column, "image")]
    store = Store.open(str(folder / "store"), create=True)
    with store.lease("test"):
        store.put_catalog(build_items([*COLORS], {"title": titles, column: places}, own), {"name": "test"})
        vectors = [np.array([*(color or (9, 9, 9)), 1], np.float16) / 255 for color in COLORS.values()]
        for spec, values in ((vector_spec(), vectors), (text_spec(), ["a text"] * len(COLORS))):
            version = store.add_version(spec)
            store.commit(version, make_rows(spec, [*COLORS], values), replace=False)
            store.set_current(version.name, version.fingerprint)
    return folder / "store"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A store of four items, three of them with a cover."""
    return make_store(tmp_path_factory.mktemp("nearest"), "cover", TITLES)


@pytest.fixture
def found(folder):
    return mmfeat.open(folder)["clip_image"].nearest("red", k=3)


def pictures_of(html: str) -> list[Image.Image]:
    files = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(file))) for file in files]


def test_a_feature_of_a_store_names_the_nearest_items_as_search_does(folder, found):
    store = mmfeat.open(folder)
    assert found.hits[0].item_id == "orange" and len(found) == 3
    assert list(found) == store.search("clip_image", item="red", k=3)
    assert list(store["clip_image"].nearest(k=1, item="blue")) == store.search("clip_image", item="blue", k=1)
    assert store["clip_image"].spec.version == store.spec("clip_image").version


def test_a_store_lists_the_names_that_it_can_be_asked_for(folder):
    store = mmfeat.open(folder)
    assert sorted(store) == ["caption", "clip_image"]
    assert "clip_image" in store and "cover" not in store
    with pytest.raises(UnknownFeature):
        store["cover"]
    with pytest.raises(UsageError):
        store["caption"].nearest("red")
    with pytest.raises(UsageError, match="exactly one"):
        store["clip_image"].nearest()


def test_a_notebook_shows_the_pictures_of_the_item_and_of_those_found(found):
    html = found._repr_html_()
    drawn = pictures_of(html)
    corners = [tuple(round(v / 40) * 40 for v in one.getpixel((5, 5))) for one in drawn]
    assert corners[:2] == [(240, 0, 0), (240, 120, 0)]  # red, then orange
    # "bare" has no cover, and is there all the same.
    assert len(drawn) == 3 and html.count("<tr>") == 1 + 4 and "no cover" in html
    assert all(max(one.size) <= 160 for one in drawn) and len(html) < 40_000
    assert "<script>" not in html and "alert(1)" in html


def test_a_prompt_shows_a_table_of_80_columns(found, capsys):
    found.show()
    printed = capsys.readouterr().out
    assert printed == f"{found!r}\n"
    assert max(map(cell_len, printed.splitlines())) <= 80
    assert MARKUP in printed and f"{found.hits[0].score:.4f}" in printed
    assert [line.split()[0] for line in printed.splitlines()[2:]] == ["red", *(h.item_id for h in found)]


def test_without_what_reads_pictures_the_table_says_what_to_install(found, monkeypatch):
    # Python takes a module that is None in sys.modules for one that is not installed.
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    html = found._repr_html_()
    assert pictures_of(html) == [] and "orange" in html
    assert "mmfeat[extract]" in html
    with pytest.raises(MissingExtra):
        found.pictures()


def test_a_store_without_covers_is_shown_by_its_own_column_of_pictures(tmp_path):
    opened = mmfeat.open(make_store(tmp_path, "photos", {}))
    found = opened["clip_image"].nearest("red", k=1)
    assert len(pictures_of(found._repr_html_())) == 2
    assert opened.pictures("caption", ["bare"])["bare"].absent
