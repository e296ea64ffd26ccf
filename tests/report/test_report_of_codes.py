"""``report codes``: figures that are those of the stored codes, and a page with items down their tree."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import mmfeat
from mmfeat.pipelines.quantize import quantize
from mmfeat.report.page import render
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.inputs import Input
from mmfeat.schemas.outputs import VectorOut
from mmfeat.schemas.spec import FeatureSpec, Weights
from mmfeat.store import Store, rows_schema

N = 30
STRANGE = "<script>alert(1)</script>"


def vector_spec(edition: int = 1) -> FeatureSpec:
    return FeatureSpec(
        name="vectors",
        inputs=(Input(source="cover", modality="image"),),
        output=VectorOut(dims=4),
        method="some",
        method_version=edition,
        model="m",
        weights=Weights(origin="package", ref="x"),
    )


def put_vectors(store: Store, ids: list[str], edition: int = 1, scale: float = 1.0) -> None:
    spec, rng = vector_spec(edition), np.random.default_rng(len(ids))
    rows = [
        {
            "item_id": item_id,
            "status": "ok",
            "vector": (scale * rng.standard_normal(4)).astype(np.float32),
            "content_hash": item_id,
            "created": datetime.now(UTC),
        }
        for item_id in ids
    ]
    with store.lease("test"):
        version = store.add_version(spec)
        store.commit(version, pa.Table.from_pylist(rows, schema=rows_schema(spec)), replace=False)
        store.promotion.promote([version])


@pytest.fixture(scope="module")
def uri(tmp_path_factory) -> str:
    """Thirty items with covers and codes, two of which came after the fit."""
    folder = tmp_path_factory.mktemp("codes")
    Image.new("RGB", (40, 30), (200, 30, 30)).save(folder / "red.png")
    ids = [f"item-{n:02}" for n in range(N)]
    store = Store.open(str(folder / "store"), create=True)
    with store.lease("test"):
        items = [{"item_id": i, "title": f"{STRANGE} {i}", "cover": str(folder / "red.png")} for i in ids]
        items[0]["cover"] = str(folder / "lost.png")
        store.put_catalog(pa.Table.from_pylist(items, schema=CATALOG_SCHEMA), {"name": "test"})
    put_vectors(store, ids[:-2])
    options = {"levels": 2, "codebook_size": 3, "collision_level": True}
    quantize(store, "vectors", name="codes", **options)
    put_vectors(store, ids[-2:], scale=5.0)
    quantize(store, "vectors", name="codes", **options)
    return store.uri


@pytest.fixture(scope="module")
def report(uri):
    return mmfeat.open(uri).report_codes()


def test_the_figures_are_those_of_the_stored_codes(uri, report):
    codes = mmfeat.open(uri).lookup(features=["codes"])["codes"].matrix[:, :2]
    assert [level.used for level in report.levels] == [len(set(level)) / 3 for level in codes.T.tolist()]
    sizes = Counter(map(tuple, codes.tolist()))
    assert report.collisions.largest == max(sizes.values())
    assert report.collisions.rate == sum(n for n in sizes.values() if n > 1) / N
    assert sum(size * count for size, count in report.collisions.sizes.items()) == report.ok == N
    assert (report.drift.items, report.drift.error > 2) == (2, True)
    assert 0 < report.relative_mse < 1


def test_branches_are_the_largest_and_hold_items_with_their_codes_titles_and_pictures(uri, report):
    codes = mmfeat.open(uri).lookup(features=["codes"])["codes"].matrix.tolist()
    branches = Counter(tuple(code[:2]) for code in codes)
    for branch in report.branches:
        assert branch.items == branches[branch.code]
        assert 0 < len(branch.leaves) <= 4
        for leaf in branch.leaves:
            assert leaf.code[:2] == branch.code and list(leaf.code) in codes
            assert leaf.title.endswith(leaf.item_id)
            assert bool(leaf.shown.pictures) == (leaf.item_id != "item-00")
    assert report == report.model_validate_json(report.model_dump_json())


def test_the_page_holds_everything_and_nothing_in_it_can_run(report):
    page = render(report)
    for said in ("Use of the codebooks", "Collisions", "Down the tree", "data:image/jpeg;base64,", "drift"):
        assert said in page
    assert STRANGE not in page and "&lt;script&gt;alert(1)" in page
    assert 'id="item-data"' not in page and "report codes --json" in page
    for branch in report.branches:
        assert f"Codes that begin with {', '.join(map(str, branch.code))}" in page


def test_the_command_prints_writes_and_gives_json(run, uri, tmp_path):
    status, out, err = run("report", "codes", "--out", str(tmp_path / "codes.html"), "--store", uri)
    assert status == 0, err
    assert "Largest branches" in out and (tmp_path / "codes.html").exists()
    status, out, _ = run("report", "codes", "--feature", "codes", "--json", "--store", uri)
    assert json.loads(out)["drift"]["items"] == 2
    status, _, err = run("report", "codes", "--feature", "vectors", "--store", uri)
    assert (status, "holds no codes" in err) == (2, True)


def test_a_store_without_codes_says_how_they_are_made(tmp_path):
    Store.open(str(tmp_path / "empty"), create=True)
    with pytest.raises(UsageError, match="no features of codes") as caught:
        mmfeat.open(tmp_path / "empty").report_codes()
    assert "mmfeat quantize" in caught.value.hint
