"""Codes of other vectors than the current ones: said by status, run and service, refused by an export."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers import unrayed
from helpers.plugins import on_path

import mmfeat
from mmfeat import api
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.inputs import Input
from mmfeat.schemas.outputs import VectorOut
from mmfeat.schemas.spec import FeatureSpec, Weights
from mmfeat.store import Store, rows_schema

IDS = [f"item-{n}" for n in range(20)]
NAME = "vectors_of_the_first_picture_of_an_item"


def add_vectors(store: Store, edition: int) -> str:
    """Another version of the vectors, current from now on."""
    spec = FeatureSpec(
        name=NAME,
        inputs=(Input(source="cover", modality="image"),),
        output=VectorOut(dims=4),
        method="some",
        method_version=edition,
        model="m",
        weights=Weights(origin="package", ref="x"),
    )
    matrix = np.random.default_rng(edition).standard_normal((len(IDS), 4)).astype(np.float32)
    made = datetime.now(UTC)
    rows = [
        {"item_id": i, "status": "ok", "vector": vector.tolist(), "content_hash": i, "created": made}
        for i, vector in zip(IDS, matrix, strict=True)
    ]
    with store.lease("test"):
        version = store.add_version(spec)
        store.commit(version, pa.Table.from_pylist(rows, schema=rows_schema(spec)), replace=False)
        store.promotion.promote([version])
    return version.version


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """Codes of the first vectors; the second ones are current."""
    store = Store.open(str(tmp_path / "store"), create=True)
    with store.lease("test"):
        items = pa.Table.from_pylist([{"item_id": i} for i in IDS], schema=CATALOG_SCHEMA)
        store.put_catalog(items, {"name": "test"})
    add_vectors(store, 1)
    quantize(store.uri)
    add_vectors(store, 2)
    return store.uri


def quantize(uri: str) -> str:
    return api.quantize(NAME, store=uri, name="codes", levels=2, codebook_size=4).version


def stale(uri: str) -> dict[str, str]:
    return {f.version: f.stale for f in mmfeat.open(uri).status() if f.stale}


def versions(uri: str, name: str) -> list[str]:
    return [version.version for version in Store.open(uri).versions(name)]


def test_status_says_which_version_reads_what_is_not_current_any_more(uri):
    (codes,), (old, new) = versions(uri, "codes"), versions(uri, NAME)
    assert stale(uri) == {codes: f"it reads {old}, and {new} is current"}
    made = quantize(uri)
    # The old codes are of the old vectors, and the name does not mean them any more.
    assert list(stale(uri)) == [codes]
    assert mmfeat.open(uri).lookup(IDS[:1], ["codes"])["codes"].spec.version == made
    mmfeat.open(uri).lifecycle.rollback([NAME])
    assert list(stale(uri)) == [made]


def test_the_command_says_it_in_lines_of_80_columns_and_in_json(run, uri):
    (codes,), (old, new) = versions(uri, "codes"), versions(uri, NAME)
    code, out, err = run("status", "--store", uri)
    assert code == 0, err
    said = out[out.index(f"{codes} is stale") :].splitlines()
    said = said[: next(n for n, line in enumerate(said) if "items in the catalog" in line)]
    assert all(len(line) <= 80 for line in said)
    assert " ".join(said) == (f"{codes} is stale: it reads {old}, and {new} is current. Run its job again.")
    code, out, _ = run("status", "--store", uri, "--json")
    listed = {f["version"]: f["stale"] for f in json.loads(out)["features"]}
    assert listed == {codes: f"it reads {old}, and {new} is current", old: "", new: ""}


@pytest.mark.parametrize(
    "features", [["codes"], {"codes": "codes"}, None], ids=["by name", "by role", "all that fit"]
)
def test_an_export_refuses_stale_codes_by_their_name_alone_and_says_what_to_write(uri, tmp_path, features):
    (codes,), (old, new) = versions(uri, "codes"), versions(uri, NAME)
    format = "tiger" if isinstance(features, dict) else "parquet"
    with pytest.raises(UsageError) as caught:
        mmfeat.open(uri).export(format, tmp_path / "out", features=features)
    assert f"{codes} is stale: it reads {old}, and {new} is current" in caught.value.message
    assert "would mix versions" in caught.value.message
    assert "`mmfeat run`" in caught.value.hint
    assert f"`mmfeat quantize {NAME} --name codes`" in caught.value.hint
    assert f"name their version: {codes}." in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_an_export_takes_stale_codes_by_their_version_and_other_features_by_name(uri, tmp_path):
    (codes,) = versions(uri, "codes")
    opened = mmfeat.open(uri)
    report = opened.export("parquet", tmp_path / "named", features=[codes, NAME])
    assert list(report.features.values()) == [codes, versions(uri, NAME)[1]]
    opened.export("parquet", tmp_path / "vectors", features=[NAME])
    quantize(uri)
    report = mmfeat.open(uri).export("parquet", tmp_path / "anew", features=["codes"])
    assert list(report.features.values()) == [versions(uri, "codes")[1]]


def test_codes_made_of_a_version_that_is_not_current_are_stale_at_once_and_that_is_said(run, uri):
    old, new = versions(uri, NAME)
    code, out, err = run("quantize", old, "--name", "old_codes", "--codebook-size", "4", "--store", uri)
    (made,) = versions(uri, "old_codes")
    assert code == 0, err
    assert f"Note: {made} is stale: it reads {old}, and {new} is current." in out
    code, out, _ = run("quantize", NAME, "--name", "new_codes", "--codebook-size", "4", "--store", uri)
    assert "Note" not in out


def test_a_run_that_makes_the_codes_of_others_stale_says_so(tmp_path):
    uri, table = str(tmp_path / "store"), unrayed.write_dataset(tmp_path / "items.csv", 0)
    with on_path(unrayed.PLUGIN):
        unrayed.run_once(uri, table)
        codes = api.quantize("title_vector", store=uri, levels=2, codebook_size=4).version
        assert unrayed.run_once(uri, table).notices == []
        (notice,) = unrayed.run_once(uri, table, edition=2).notices
    old, new = versions(uri, "title_vector")
    assert notice == (
        f"{codes} is stale now: it reads {old}, and {new} is current; "
        "its own job or `mmfeat quantize` brings it up to date"
    )
    (record,) = mmfeat.open(uri).runs()[-1:]
    assert record["report"]["notices"] == [notice]
