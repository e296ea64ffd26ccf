"""Two exports that are used together have one id map, or are refused: ``ids_of``."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.echo import assert_echo, every_role, expected, make_input
from helpers.export_readers import READERS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmfeat.export import Request, export, verify
from mmfeat.export.manifest import read_manifest
from mmfeat.schemas.errors import UsageError

IDS = ["a", "b", "c", "d", "e"]
MAPS = ("id_map.parquet", "user_map.parquet")


def make(format, out, ids=IDS, mask=None, data=None, **settings):
    """An export with every role; of ``ids`` in this order."""
    data = data or make_input(format, sorted(ids), mask)
    return export(data, Request(format, out, every_role(format), items=list(ids), **settings))


@pytest.fixture
def codes(tmp_path):
    """An export to LC-Rec whose rows are in an order of their own."""
    make("lc-rec", tmp_path / "codes", ["d", "a", "e", "b", "c"])
    return tmp_path / "codes"


def test_an_export_made_to_be_used_with_another_has_its_maps_and_every_item_its_own_value(codes, tmp_path):
    data = make_input("unisrec", IDS)
    # Interactions in another order, so that users would get other numbers.
    rows = data.interactions.take(pa.array(range(len(data.interactions) - 1, -1, -1)))
    export(replace(data, interactions=rows), Request("unisrec", tmp_path / "vectors", ids_of=codes))
    for name in MAPS:
        assert pq.read_table(codes / name).equals(pq.read_table(tmp_path / "vectors" / name)), name
    assert_echo(READERS["unisrec"](tmp_path / "vectors"), expected("unisrec", IDS))
    assert verify(tmp_path / "vectors").ok
    record = read_manifest(tmp_path / "vectors")["ids_of"]
    digest = read_manifest(codes)["files"]["id_map.parquet"]["sha256"]
    assert record == {"name": "codes", "format": "lc-rec", "id_map": digest}
    assert read_manifest(codes)["ids_of"] is None


@pytest.mark.parametrize("theirs", [["a", "b", "c"], ["c", "d", "e"]])
def test_items_that_one_has_and_the_other_lacks_are_named_with_what_to_do(tmp_path, theirs):
    make("lc-rec", tmp_path / "codes", theirs)
    ours = ["a", "b", "c", "d"]
    with pytest.raises(UsageError) as caught:
        make("unisrec", tmp_path / "vectors", ours, ids_of=tmp_path / "codes")
    for item_id in IDS:
        named = repr(item_id) in caught.value.message
        assert named == ((item_id in ours) != (item_id in theirs)), item_id
    assert "codes (lc-rec)" in caught.value.message and "--missing" in caught.value.hint
    assert not (tmp_path / "vectors").exists()


def test_an_item_that_its_policy_drops_is_missed_by_the_other_exports_map(codes, tmp_path):
    mask = [True, False, True, True, True]
    with pytest.raises(UsageError, match=r"1 items of codes \(lc-rec\) are not in this export: 'b'"):
        make("unisrec", tmp_path / "vectors", mask=mask, missing="drop", ids_of=codes)
    make("unisrec", tmp_path / "vectors", mask=mask, missing="mean", ids_of=codes)


def test_users_that_one_has_and_the_other_lacks_are_named(codes, tmp_path):
    data = make_input("unisrec", IDS)
    users = data.interactions["user_id"].to_pylist()
    less = data.interactions.filter(pa.array([user != "user 2" for user in users]))
    with pytest.raises(UsageError, match=r"1 users of codes \(lc-rec\) are not in this export: 'user 2'"):
        make("unisrec", tmp_path / "vectors", data=replace(data, interactions=less), ids_of=codes)


def test_a_map_of_other_numbers_is_a_clash(codes, tmp_path):
    with pytest.raises(UsageError, match="counts items from 0 and fmrlrec from 1"):
        make("fmrlrec", tmp_path / "out", ids_of=codes)
    with pytest.raises(UsageError, match="counts items from 0 and pixelrec from 1"):
        make("pixelrec", tmp_path / "out", ids_of=codes)


def test_a_format_that_goes_by_raw_ids_takes_the_order_of_any_map(codes, tmp_path):
    make("parquet", tmp_path / "table", ids_of=codes)
    found = pq.read_table(tmp_path / "table" / "features.parquet")["item_id"].to_pylist()
    assert found == ["d", "a", "e", "b", "c"]


@pytest.mark.parametrize("name", MAPS)
def test_a_map_that_was_changed_since_is_refused(codes, tmp_path, name):
    table = pq.read_table(codes / name)
    pq.write_table(table.take(pa.array(range(len(table) - 1, -1, -1))), codes / name)
    with pytest.raises(UsageError, match=f"{name} is not as the export wrote it"):
        make("unisrec", tmp_path / "vectors", ids_of=codes)


def test_a_folder_that_is_no_export_has_no_map(tmp_path):
    with pytest.raises(UsageError, match="no export of mmfeat"):
        make("unisrec", tmp_path / "vectors", ids_of=tmp_path)


@pytest.mark.parametrize("lost", ["format", "id_base", "files"])
def test_a_manifest_that_lost_a_part_is_told_and_no_traceback(codes, tmp_path, lost):
    path = codes / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest[lost]
    path.write_text(json.dumps(manifest))
    for use in (lambda: make("unisrec", tmp_path / "vectors", ids_of=codes), lambda: verify(codes)):
        with pytest.raises(UsageError, match="not as an export writes it"):
            use()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_two_exports_of_the_same_items_can_share_a_map(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("any")
    ids = data.draw(st.lists(st.sampled_from(IDS), min_size=1, unique=True))
    first, second = (data.draw(st.sampled_from(["npy", "elliot", "lc-rec", "unisrec"])) for _ in range(2))
    make(first, folder / "first", data.draw(st.permutations(ids)))
    make(second, folder / "second", data.draw(st.permutations(ids)), ids_of=folder / "first")
    maps = [pq.read_table(folder / name / "id_map.parquet") for name in ("first", "second")]
    assert maps[0].equals(maps[1])
    assert verify(folder / "second").ok
