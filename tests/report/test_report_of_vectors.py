"""``report vectors``: what was planted in a store is what the report tells, in figures, words and a page."""

from __future__ import annotations

import json
import sys

import numpy as np
import pyarrow as pa
import pytest
from helpers.storing import vector_spec
from helpers.toy_vectors import IDS, STRANGE, make_store, put

import mmfeat
from mmfeat.report.model import Absent
from mmfeat.report.page import render
from mmfeat.report.vectors.build import VectorsOptions
from mmfeat.schemas.catalog import catalog_schema
from mmfeat.schemas.errors import MissingExtra, UsageError
from mmfeat.store import Store


@pytest.fixture(scope="module")
def uri(tmp_path_factory) -> str:
    return make_store(tmp_path_factory.mktemp("vectors"))


@pytest.fixture(scope="module")
def report(uri):
    told = []
    options = VectorsOptions(beside=("late",), colour="kind")
    found = mmfeat.open(uri).report_vectors("look", options, lambda *said: told.append(said))
    assert {what for what, _, _ in told} >= {"vectors read", "items compared with all others"}
    return found


def test_what_was_planted_is_told(report):
    counts, dimensions, duplicates = report.counts, report.dimensions, report.duplicates
    assert (counts.ok, counts.directed, counts.without_direction) == (60, 59, ("item-59",))
    assert (dimensions.dead, dimensions.constant) == ((6,), (7,))
    # Items 0 and 1, and 20 to 29 with 30 to 39; 2 is nearly 0.
    assert duplicates.exact == 22 and duplicates.near >= 23
    assert any(
        {"item-00", "item-01", "item-02"} <= {one.item_id for one in g.some} for g in duplicates.groups
    )
    assert report.norms.n == 60 and report.norms.minimum == 0
    assert sum(cluster.items for cluster in report.clusters.clusters) == 59
    for told in ("1 vector has no direction", "1 of 8 dimensions are 0", "1 of 8 dimensions never change"):
        assert any(told in sentence for sentence in report.findings)
    assert report == report.model_validate_json(report.model_dump_json())


def test_neighbours_are_those_of_a_search(uri, report):
    store = mmfeat.open(uri)
    for one in report.neighbours:
        found = {hit.item_id for hit in store.search("look", item=one.item_id, k=12)}
        assert {near.item_id for near in one.near} <= found
        assert [near.cosine for near in one.near] == sorted((n.cosine for n in one.near), reverse=True)
        assert one.title.endswith(one.item_id)
        assert bool(one.shown.pictures) == (one.item_id < "item-20")


def test_drift_tells_which_items_moved(report):
    drift = report.drift
    assert drift.against.startswith("look@") and (drift.gained, drift.lost) == (1, 0)
    # Of 58 in both ten are others; the rest is the same.
    assert (drift.agreement.items, drift.same) == (58, 48)
    assert {one.item_id for one in drift.moved} <= set(IDS)
    assert 0 < drift.agreement.jaccard < 1 and drift.cosine.minimum < 0.9
    assert drift.moved[0].kept <= drift.agreement.kept


def test_against_a_snapshot_the_same_version_has_not_moved(uri):
    store = mmfeat.open(uri)
    first = mmfeat.open(uri, "before").report_vectors("look")
    assert isinstance(first.drift, Absent) and "first version" in first.drift.absent
    options = VectorsOptions(against_snapshot="before")
    still = store.report_vectors(first.subject.version, options).drift
    assert (still.agreement.kept, still.same, still.moved) == (1, 59, ())
    assert "in the snapshot before" in still.against
    assert store.report_vectors("look", options).drift.agreement.kept < 1


def test_agreement_with_another_feature_is_counted_on_the_items_of_both(uri, report):
    (found,) = report.beside
    assert found.feature.startswith("late@") and (found.items, found.k) == (40, 10)
    store = mmfeat.open(uri)
    directions = {}
    for name in ("look", "late"):
        column = store.lookup(IDS[:40], [name])[name]
        values = column.tokens if name == "late" else [one[None] for one in column.matrix]
        units = [(v / np.linalg.norm(v, axis=1, keepdims=True)).astype(float).mean(axis=0) for v in values]
        directions[name] = np.array([v / np.linalg.norm(v) for v in units])
    shares = []
    for row in range(40):
        near = []
        for vectors in directions.values():
            scores = vectors @ vectors[row]
            scores[row] = -2
            near.append(set(np.argsort(-scores)[:10].tolist()))
        shares.append(len(near[0] & near[1]) / len(near[0] | near[1]))
    # Equal vectors may stand in either order.
    assert found.jaccard == pytest.approx(np.mean(shares), abs=0.02)
    assert found.chance < 0.2


def test_the_map_is_coloured_by_field_popularity_and_status(report):
    names = [one.name for one in report.map.colourings]
    assert names[0] == "kind" and {"popularity", "price", "status of caption", "cluster"} <= set(names)
    assert "title" not in names
    by_name = {one.name: one for one in report.map.colourings}
    kind = by_name["kind"]
    for point, group in zip(report.map.points, kind.of, strict=True):
        assert kind.groups[group] == ["shoe", "lamp", "cup"][int(point.item_id[-2:]) % 3]
    assert kind.same > 0.6 > 0.4 > kind.chance
    status = by_name["status of caption"]
    assert {status.groups[group] for group in status.of} == {"ok", "failed"}
    assert 0 < report.map.explained <= 1 and len(report.map.points) == 59


def test_a_sample_is_drawn_by_seed_and_said(uri):
    store = mmfeat.open(uri)
    one, again, other = (
        store.report_vectors("look", VectorsOptions(sample=20, seed=seed)) for seed in (1, 1, 2)
    )
    ids = [{point.item_id for point in found.map.points} for found in (one, again, other)]
    assert ids[0] == ids[1] != ids[2] and one.counts.sampled == 20
    assert one.spread == again.spread and one.clusters == again.clusters
    assert "20 of the 60 items" in render(one) and "drawn at random" in render(one)


def test_the_page_holds_everything_and_nothing_in_it_can_run(report):
    page = render(report)
    said = (
        "Norms and dimensions",
        "Spread",
        "Hubness",
        "Duplicates",
        "Clusters",
        "Agreement",
        "Drift",
        "by chance",
    )
    for words in (*said, 'id="map-data"', "data:image/jpeg;base64,", "Nearest to item-"):
        assert words in page
    assert STRANGE not in page and "&lt;script&gt;alert(1)" in page
    assert page.count("<circle") == 59 and "report vectors look@" in page


def test_a_feature_without_vectors_is_refused(uri):
    store = mmfeat.open(uri)
    with pytest.raises(UsageError, match=r"caption@.* holds texts") as caught:
        store.report_vectors("caption")
    assert "encoder" in caught.value.hint
    for options, words in (
        ({"beside": ("caption",)}, "holds texts"),
        ({"beside": ("look",)}, "is what is reported on"),
        ({"beside": "late"}, "one feature, where a list"),
        ({"colour": "cover"}, "no field 'cover'"),
        ({"map": "tsne"}, "no map 'tsne'"),
    ):
        with pytest.raises(UsageError, match=words):
            store.report_vectors("look", VectorsOptions(**options))


def test_umap_is_named_with_its_extra_where_it_is_not_installed(uri, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtra, match="umap") as caught:
        mmfeat.open(uri).report_vectors("look", VectorsOptions(map="umap"))
    assert "mmfeat[umap]" in caught.value.hint


@pytest.mark.slow
def test_umap_draws_the_map_where_it_is_installed(uri):
    pytest.importorskip("umap", reason="mmfeat[umap] is not installed")
    options = VectorsOptions(map="umap")
    one, again = (mmfeat.open(uri).report_vectors("look", options).map for _ in range(2))
    assert (one.method, one.explained, len(one.points)) == ("umap", None, 59)
    assert one.points == again.points


def test_too_few_vectors_are_no_report(tmp_path):
    store = Store.open(str(tmp_path / "few"), create=True)
    with store.lease("test"):
        store.put_catalog(pa.Table.from_pylist([{"item_id": "a"}], schema=catalog_schema()), {"name": "test"})
    put(store, vector_spec("look", 2), [np.ones(2)], ["a"])
    with pytest.raises(UsageError, match="1 item has a vector"):
        mmfeat.open(store.uri).report_vectors("look")


def test_the_command_prints_writes_and_gives_json(run, uri, tmp_path):
    page = tmp_path / "vectors.html"
    status, out, err = run("report", "vectors", "look", "--out", page, "--beside", "late", "--store", uri)
    assert status == 0, err
    for words in ("intrinsic dimension", "agreement with late@", "neighbours kept", "no direction"):
        assert words in out
    assert page.exists()
    status, out, _ = run("report", "vectors", "look", "--json", "--store", uri)
    assert json.loads(out)["counts"]["directed"] == 59
    status, _, err = run("report", "vectors", "caption", "--store", uri)
    assert (status, "holds texts" in err) == (2, True)
