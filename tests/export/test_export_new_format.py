"""A format from another package: pad rows, ids from 1, and bounded memory come from the framework."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.echo import column, make_input, make_interactions, spec, value

from mmfeat.export import ExportInput, Request, export, get, listing, names, registry, verify
from mmfeat.export.base import Exporter, Role
from mmfeat.export.content import Entry
from mmfeat.export.files import write_npy
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import FeatureColumn, FeatureSet


class Padded(Exporter):
    """A target whose row 0 is a pad row."""

    name = "padded"
    title = "Padded"
    roles = (Role("item", dtype="float16"),)
    id_base = 1
    pad_row = True

    def write(self, out, content):
        write_npy(out / "items.npy", content.features["item"])

    def read_back(self, out, items, manifest):
        matrix = np.load(out / "items.npy")
        yield from (Entry("item", i, matrix[k]) for i, k in zip(items.ids, items.internal, strict=True))


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Another package with a format, one that cannot be imported, and one that has the name of ours."""
    info = tmp_path / "package" / "elsewhere-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{registry.ENTRY_POINT_GROUP}]\npadded = {__name__}:Padded\n"
        "broken = no_such_module:Nothing\nnpy = no_such_module:Nothing\n"
    )
    monkeypatch.syspath_prepend(str(info.parent))


def test_a_pad_row_comes_first_and_ids_count_from_one(tmp_path, installed):
    ids = ["a", "b", "c"]
    data = ExportInput(FeatureSet(ids, {"f": column(ids, "f")}), pa.table({"item_id": ids}))
    export(data, Request("padded", tmp_path / "out"))
    matrix = np.load(tmp_path / "out" / "items.npy")
    assert (matrix.shape, matrix.dtype) == ((4, 8), np.float16)
    assert not matrix[0].any()
    for item in pq.read_table(tmp_path / "out" / "id_map.parquet").to_pylist():
        np.testing.assert_array_equal(matrix[item["internal_id"]], value(item["item_id"], "vector", "f"))
    assert verify(tmp_path / "out").ok


def test_an_off_by_one_in_the_pad_row_fails_verify(tmp_path, installed):
    ids = ["a", "b", "c"]
    data = ExportInput(FeatureSet(ids, {"f": column(ids, "f")}), pa.table({"item_id": ids}))
    export(data, Request("padded", tmp_path / "out"))
    np.save(tmp_path / "out" / "items.npy", np.roll(np.load(tmp_path / "out" / "items.npy"), -1, axis=0))
    assert {p.kind for p in verify(tmp_path / "out").problems} == {"file", "echo"}


def test_other_packages_add_formats_but_never_replace_ours(installed):
    assert {"padded", "broken"} < set(names())
    assert get("padded").title == "Padded"
    assert get("npy").title == "NumPy"


def test_a_broken_format_is_told_of_and_hides_no_other(installed):
    with pytest.raises(UsageError, match="cannot be imported"):
        get("broken")
    titles = {one.name: one.title for one in listing()}
    assert list(titles) == names()
    assert "No module named 'no_such_module'" in titles["broken"]


@pytest.mark.parametrize("format", ["mmrec", "recbole", "npy", "parquet", "safetensors", "hf", "lc-rec"])
def test_no_export_copies_a_matrix_whole(tmp_path, format):
    ids = [f"i{k}" for k in range(10_000)]
    matrix = np.random.default_rng(0).standard_normal((len(ids), 512), dtype=np.float32)
    mask = np.arange(len(ids)) % 10 != 0
    made = spec("f", source="title").model_copy(update={"dims": 512})
    nothing = np.full(len(ids), "", object)
    features = FeatureSet(ids, {"f": FeatureColumn(made, matrix, mask, nothing, nothing)})
    data = ExportInput(features, pa.table({"item_id": ids}), make_interactions(ids, users=1))
    export(make_input(format, ["a"]), Request(format, tmp_path / "warm"))
    tracemalloc.start()
    export(data, Request(format, tmp_path / "out", missing="mean"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A few blocks of rows, and what Python keeps per item.
    assert peak < 0.75 * matrix.nbytes
