"""The pages: what they show, and that nothing in them can run or lead out of the catalog."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.serving import IDS, SCRIPT, running
from helpers.storing import make_rows, vector_spec
from PIL import Image

from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.inputs import VECTOR, Input
from mmfeat.store import Store

PAGES = ["/", "/items", "/search", "/failures", "/item?id=item-1", "/search?feature=clip&text=a+red+circle"]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_runs_no_script_and_loads_nothing_from_elsewhere(service, path):
    answer = service.http.get(path)
    policy = answer.headers["content-security-policy"]

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in policy and "script-src" not in policy and "unsafe" not in policy
    assert "<script" not in answer.text and "style=" not in answer.text
    assert not re.search(r'(?:src|href|action)="(?!/|#)', answer.text)


def test_the_overview_leads_to_a_report_on_vectors_and_only_its_own_script_runs(service, opened):
    version = opened.spec("noise").version
    link = re.search(rf'href="(/vectors\?feature={version.replace("@", "%40")})"', service.http.get("/").text)
    answer = service.http.get(link[1])
    assert answer.status_code == 200 and "Report on vectors" in answer.text
    assert f'<h1><span class="told" dir="auto">{version}' in answer.text
    assert "script-src &#39;sha256-" in answer.text and SCRIPT not in answer.text
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    refused = service.http.get("/vectors?feature=caption")
    assert refused.status_code == 400 and "holds texts" in refused.text


def test_the_overview_says_which_current_version_is_stale(tmp_path):
    store = Store.open(str(tmp_path / "store"), create=True)
    old, new = (vector_spec("clip", method_version=n) for n in (1, 2))
    read = Input(source="clip", modality=VECTOR, upstream=old.fingerprint)
    reader = vector_spec("reader").model_copy(update={"inputs": (read,)})
    with store.lease("test"):
        store.put_catalog(pa.Table.from_pylist([{"item_id": "a"}], schema=CATALOG_SCHEMA), {"name": "test"})
        for spec in (old, new, reader):
            store.promotion.promote([store.add_version(spec)])
    with running(tmp_path / "store", ui=True) as service:
        page = service.http.get("/").text
        listed = {f["version"]: f["stale"] for f in service.http.get("/v1/features").json()["features"]}
    why = f"it reads {old.version}, and {new.version} is current"
    assert page.count(">stale</span>") == 1 and why in page
    assert listed == {old.version: "", new.version: "", reader.version: why}


def test_a_title_from_a_stranger_is_shown_as_it_is(service):
    for path in ("/items", "/item?id=item-1"):
        page = service.http.get(path).text
        assert SCRIPT not in page
        assert "&lt;script&gt;alert(&#39;title&#39;)&lt;/script&gt;" in page


@pytest.mark.parametrize("item_id", IDS)
def test_every_item_has_a_page_with_what_its_features_say(service, item_id):
    answer = service.http.get("/item", params={"id": item_id})
    assert answer.status_code == 200
    assert ("cannot decode broken" in answer.text) == (item_id == "broken")


def test_neighbours_stand_side_by_side_per_feature_the_nearest_first(service, opened):
    page = service.http.get("/item", params={"id": "item-0"}).text
    nearest = page[page.index("Nearest items") :]
    for feature in ("clip", "noise"):
        column = nearest[nearest.index(f"<code>{opened.spec(feature).version}</code>") :]
        shown = re.findall(r'dir="auto">([^<]*)</span> <span class="muted">', column)[:5]
        hits = [
            hit.item_id.replace("&", "&amp;").replace("'", "&#39;")
            for hit in opened.search(feature, item="item-0")
        ]
        assert shown == hits


def test_a_thumbnail_is_a_small_jpeg_of_the_items_own_cover(service):
    answer = service.http.get("/thumb", params={"id": "a/b?c&d=e#f", "column": "cover"})
    picture = Image.open(io.BytesIO(answer.content))
    assert answer.headers["content-type"] == "image/jpeg"
    assert picture.format == "JPEG" and max(picture.size) <= 320


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"id": "/etc/passwd", "column": "cover"}, 404),
        ({"id": "../../etc/passwd", "column": "cover"}, 404),
        ({"id": "item-0", "column": "/etc/passwd"}, 404),
        ({"id": "item-0", "column": "title"}, 404),
        ({"id": "item-0", "column": "video"}, 404),
        ({"id": "broken", "column": "cover"}, 404),
        ({"id": "item-0", "column": "cover", "at": 1}, 404),
        ({"id": "item-0", "column": "cover", "at": -1}, 422),
        ({"id": "item-0", "column": "cover", "frame": -1}, 422),
        ({"id": "item-0"}, 422),
    ],
)
def test_a_thumbnail_is_of_nothing_but_an_items_readable_media(service, query, status):
    assert service.http.get("/thumb", params=query).status_code == status


def test_failures_are_counted_by_reason_and_lead_to_their_items(service, opened):
    page = service.http.get("/failures", params={"feature": opened.spec("clip").version}).text
    assert "cannot decode broken" in page and '<a href="/item?id=broken"' in page


def test_a_page_of_failures_has_its_bounds_whatever_failed(tmp_path):
    store, spec = Store.open(str(tmp_path / "store"), create=True), vector_spec("clip")
    ids = ["x" * n for n in range(1, 251)]
    with store.lease("test"):
        store.put_catalog(
            pa.Table.from_pylist([{"item_id": i} for i in ids], schema=CATALOG_SCHEMA), {"name": "test"}
        )
        version = store.add_version(spec)
        store.commit(version, make_rows(spec, ids, [None] * len(ids)), replace=False)
        store.finish(version)
        store.set_current(version.name, version.fingerprint)
    with running(tmp_path / "store", ui=True) as service:
        page = service.http.get("/failures").text
    assert page.count("/item?id=") == 200 and "250 items failed" in page
    assert page.count("cannot decode x") == 300
    assert '<th scope="row">other reasons</th><td></td><td class="num">150</td>' in page


def test_items_are_found_by_id_or_title_in_any_case(service):
    page = service.http.get("/items", params={"q": "TITLE OF Ü"}).text
    assert "1 to 1 of 1" in page and "ü 🎬 %2F" in page
    assert "No item contains" in service.http.get("/items", params={"q": "nothing like it"}).text


@pytest.mark.parametrize(
    ("path", "status"),
    [("/item?id=nothing", 404), ("/search?feature=caption&text=x", 400), ("/failures?feature=nothing", 404)],
)
def test_what_is_not_possible_is_a_page_that_says_so(service, path, status):
    answer = service.http.get(path)
    assert answer.status_code == status
    assert "This is not possible" in answer.text and "Traceback" not in answer.text


def test_a_search_by_picture_shows_what_is_near(service, opened):
    with Path(opened.items.to_pylist()[2]["cover"]).open("rb") as picture:
        answer = service.http.post(
            "/search", data={"feature": "clip"}, files={"picture": ("<b>.png", picture)}
        )
    first = answer.text[answer.text.index("Nearest to") :]
    assert "&lt;b&gt;.png" in first
    assert first.index("item-2") < first.index("item-0")


def test_without_the_option_there_are_no_pages(served_store):
    with running(served_store) as service:
        assert service.http.get("/").status_code == 404
        assert service.http.get("/thumb", params={"id": "item-0", "column": "cover"}).status_code == 404


def test_the_search_page_begins_with_a_feature_that_can_read_the_query(tmp_path):
    store = Store.open(str(tmp_path / "store"), create=True)
    # In the order of their names: none of the first two reads a text, and the last one no picture.
    title = (Input(source="title", modality="text"),)
    specs = [
        vector_spec("a_cover").model_copy(update={"method": "timm"}),
        vector_spec("b_video").model_copy(update={"method": "transformers"}),
        vector_spec("c_clip"),
        vector_spec("d_title").model_copy(update={"method": "sentence_transformers", "inputs": title}),
    ]
    with store.lease("test"):
        store.put_catalog(pa.Table.from_pylist([{"item_id": "a"}], schema=CATALOG_SCHEMA), {"name": "test"})
        store.promotion.promote([store.add_version(spec) for spec in specs])
    with running(tmp_path / "store", ui=True) as service:
        page = service.http.get("/search").text
        asked = service.http.get("/search", params={"feature": "d_title"}).text
    assert re.findall(r'value="(\w+)@\w+" selected', page) == ["c_clip", "a_cover"]
    assert re.findall(r'value="(\w+)@\w+" selected', asked) == ["d_title", "d_title"]
