"""Fields on the command line: shown beside features, and conditions on them for lookup, search and export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.storing import make_rows, vector_spec

import mmfeat
from mmfeat.datasets.base import build_items
from mmfeat.schemas.catalog import Column
from mmfeat.store import Store

COLUMNS = [Column("brand", "text"), Column("price", "number"), Column("tags", "text", several=True)]
VALUES = {
    "title": {"a": "Red shoe", "b": "Blue lamp"},
    "brand": {"a": "Nike", "b": "O'Neil", "d": "Nike"},
    "price": {"a": 12, "b": 30.5, "d": 99},
    "tags": {"a": ["x", "y"]},
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Items a to d, each nearer to a than the one after it."""
    opened = Store.open(str(tmp_path / "features"), create=True)
    with opened.lease("test"):
        opened.put_catalog(build_items("abcd", VALUES, COLUMNS), {"name": "test"})
        spec = vector_spec("clip")
        rows = [np.array([1, n, 0, 0], np.float16) for n in range(4)]
        version = opened.add_version(spec)
        opened.commit(version, make_rows(spec, list("abcd"), rows), replace=False)
        opened.finish(version)
        opened.set_current(version.name, version.fingerprint)
    return tmp_path / "features"


def test_lookup_shows_fields_as_texts_and_gives_machines_their_values(run, store):
    code, out, _ = run("lookup", "b", "a", "--fields", "price,tags,brand", "--store", store)
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["b", "30.5", "O'Neil"] in lines
    assert ["a", "12", "x,", "y", "Nike"] in lines
    _, out, _ = run("lookup", "b", "a", "--fields", "price,tags", "--store", store, "--json")
    assert json.loads(out)["fields"] == {"price": [30.5, 12], "tags": [None, ["x", "y"]]}
    _, out, _ = run("lookup", "b", "--store", store, "--json")
    assert "fields" not in json.loads(out)
    _, out, _ = run(
        "lookup", "z", "--fields", "price", "--unknown", "mask", "--store", store, "--json"
    )  # fmt: skip
    assert json.loads(out)["fields"] == {"price": [None]}


def test_where_chooses_what_is_looked_up(run, store):
    _, out, _ = run("lookup", "--where", "brand = 'Nike' and price > 20", "--store", store, "--json")
    assert json.loads(out)["ids"] == ["d"]
    code, _, err = run("lookup", "--where", "brnd = 'x'", "--store", store)
    assert (code, "No field named brnd" in err, "brand, price, tags" in err) == (2, True, True)
    for words in (["lookup"], ["lookup", "a", "--where", "price > 1"]):
        code, _, err = run(*words, "--store", store)
        assert (code, "--where" in err) == (2, True)


def test_where_chooses_among_what_search_finds_however_few_fit(run, store):
    def found(*words: object) -> list[str]:
        _, out, _ = run("search", "--feature", "clip", "--store", store, "--json", *words)
        return [hit["item_id"] for hit in json.loads(out)]

    assert found("--item", "a") == ["b", "c", "d"]
    assert found("--item", "a", "--where", "price > 50", "-k", 1) == ["d"]
    assert found("--item", "a", "--where", "brand is null") == ["c"]
    assert found("--item", "a", "--where", "price > 1000") == []


def test_where_chooses_what_is_exported(run, store, tmp_path):
    words = ["export", "parquet", "--store", store, "--fields", "brand"]
    code, _, _ = run(*words, "--where", "price < 50", "--out", tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "features.parquet")
    assert (code, table["item_id"].to_pylist(), table["brand"].to_pylist()) == (
        0,
        ["a", "b"],
        ["Nike", "O'Neil"],
    )
    for more in (["--where", "price < 0"], ["--where", "price < 50", "--items", "all"]):
        code, _, err = run(*words, *more, "--out", tmp_path / "none")
        assert (code, (tmp_path / "none").exists(), "Traceback" in err) == (2, False, False)


def test_in_python_a_search_takes_the_same_condition(store):
    opened = mmfeat.open(store)
    assert [hit.item_id for hit in opened.search("clip", item="a", where="price > 20")] == ["b", "d"]
    assert opened.lookup(opened.ids_where("price > 20"), ["clip"]).ids == ["b", "d"]


def test_a_condition_that_no_item_fits_shows_nothing_and_is_no_error(run, store):
    code, out, _ = run("lookup", "--where", "price > 1000", "--fields", "price", "--store", store, "--json")
    body = json.loads(out)
    assert (code, body["ids"], body["fields"]) == (0, [], {"price": []})
    assert run("lookup", "--where", "price > 1000", "--fields", "price", "--store", store)[0] == 0
