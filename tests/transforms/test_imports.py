"""Vectors that others made: imported by id, versioned by their file, and usable like any other feature."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import unrayed
from helpers.plugins import on_path
from safetensors.numpy import save_file
from transform_jobs import run
from typer.testing import CliRunner

import mmfeat
from mmfeat import api
from mmfeat.cli import app
from mmfeat.export.request import Shaping
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.errors import GateFailed, UsageError
from mmfeat.store import Store

IDS = ["30", "1", "2", "3"]
X = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)


def make_store(folder: Path, ids=IDS) -> str:
    uri = str(folder / "store")
    put_items(uri, ids)
    return uri


def put_items(uri: str, ids) -> None:
    store = Store.open(uri, create=True)
    with store.lease("test"):
        rows = [{"item_id": i, "title": f"title {i}"} for i in ids]
        items = pa.Table.from_pylist(rows, schema=CATALOG_SCHEMA)
        store.put_catalog(items, {"name": "sample"}, whole=True)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return make_store(tmp_path)


def found(uri: str, name: str = "sasrec") -> dict[str, np.ndarray]:
    column = mmfeat.open(uri).lookup(features=[name])[name]
    ids = mmfeat.open(uri).lookup(features=[name]).ids
    return {i: column.matrix[k] for k, i in enumerate(ids) if column.mask[k]}


def same(uri: str, expected: dict[str, np.ndarray], name: str = "sasrec") -> bool:
    there = found(uri, name)
    return there.keys() == expected.keys() and all(np.array_equal(there[i], expected[i]) for i in expected)


BY_ID = dict(zip(IDS, X, strict=True))


def write(folder: Path, kind: str) -> dict[str, object]:
    """The four vectors in a file of some kind, and the settings by which it is read."""
    (folder / "ids.json").write_text(json.dumps(IDS))
    path, ids = folder / f"v.{kind}", {"ids": folder / "ids.json"}
    if kind == "npy":
        np.save(path, X)
        return {"vectors": path, **ids}
    if kind == "safetensors":
        save_file({"item": X, "bias": X[0]}, path)
        return {"vectors": path, **ids}
    if kind == "json":
        path.write_text(json.dumps({i: row.tolist() for i, row in BY_ID.items()}))
        return {"vectors": path}
    lists = pa.array(X.tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.table({"item_id": [int(i) for i in IDS], "emb": lists}), path)
    return {"vectors": path}


@pytest.mark.parametrize("kind", ["npy", "safetensors", "parquet", "json"])
def test_every_kind_of_file_gives_each_item_its_own_vector(uri, tmp_path, kind):
    report = api.import_vectors("sasrec", store=uri, **write(tmp_path, kind))
    assert (report.ok, report.missing, report.committed, report.promoted) == (4, 0, 4, True)
    assert same(uri, BY_ID)
    spec = Store.open(uri).resolve("sasrec").spec
    assert spec.is_imported and spec.weights.digest == report.digest and report.digest.startswith("sha256:")


@pytest.mark.parametrize("format", ["npy", "parquet", "safetensors", "hf", "recbole"])
def test_what_mmfeat_exports_it_imports_again(uri, tmp_path, format):
    api.import_vectors("sasrec", X, store=uri, ids=IDS)
    mmfeat.open(uri).export(format, tmp_path / "out", features=["sasrec"], missing="drop")
    again = make_store(tmp_path / "again", [*IDS, "new"]) if (tmp_path / "again").mkdir() is None else ""
    report = api.import_vectors("sasrec", tmp_path / "out", store=again)
    assert (report.ok, report.missing) == (4, 1)
    assert all(np.allclose(found(again)[i], BY_ID[i], atol=1e-6) for i in IDS)


@pytest.mark.parametrize("policy", ["mean", "zero"])
def test_rows_that_an_export_filled_in_are_missing_when_it_is_imported(uri, tmp_path, policy):
    api.import_vectors("sasrec", X[:3], store=uri, ids=IDS[:3])
    mmfeat.open(uri).export("npy", tmp_path / "out", features=["sasrec"], missing=policy)
    report = api.import_vectors("again", tmp_path / "out", store=uri)
    assert (report.vectors, report.ok, report.missing) == (3, 3, 1)
    assert any("1 rows of" in notice and "filled in" in notice for notice in report.notices)
    assert same(uri, {i: BY_ID[i] for i in IDS[:3]}, "again")


def test_whole_numbers_of_an_export_come_back_in_their_scales(uri, tmp_path):
    api.import_vectors("sasrec", X, store=uri, ids=IDS)
    shaping = Shaping(quantize=["sasrec"])
    mmfeat.open(uri).export("npy", tmp_path / "out", features=["sasrec"], shaping=shaping)
    api.import_vectors("again", tmp_path / "out", store=uri)
    back = found(uri, "again")
    assert all(np.allclose(back[i], BY_ID[i], atol=np.abs(X).max() / 127) for i in IDS)
    assert Store.open(uri).resolve("again").spec.options["scaled"]
    assert "scaled" not in Store.open(uri).resolve("sasrec").spec.options


def test_an_export_that_does_not_say_what_it_filled_in_is_refused(uri, tmp_path):
    api.import_vectors("sasrec", X, store=uri, ids=IDS)
    mmfeat.open(uri).export("npy", tmp_path / "out", features=["sasrec"])
    manifest = tmp_path / "out" / "manifest.json"
    document = json.loads(manifest.read_text())
    del document["missing"]
    manifest.write_text(json.dumps(document))
    with pytest.raises(UsageError, match="does not say which vectors the export filled in"):
        api.import_vectors("again", tmp_path / "out", store=uri)


def test_codes_of_an_export_are_not_taken_for_vectors(uri, tmp_path):
    api.import_vectors("sasrec", X, store=uri, ids=IDS)
    api.quantize("sasrec", store=uri, levels=1, codebook_size=2)
    mmfeat.open(uri).export("parquet", tmp_path / "out", features=["sasrec_codes"])
    with pytest.raises(UsageError, match="has no single feature of one vector per item"):
        api.import_vectors("again", tmp_path / "out", store=uri)


@pytest.mark.parametrize(
    ("rule", "ids"),
    [
        ("zero-based", ["0", "1", "2", "3"]),
        ("one-based", ["1", "2", "3", "4"]),
        ("microlens", ["1", "2", "3", "4"]),
        ("padded", [None, "1", "2", "3"]),
    ],
)
def test_a_rule_says_whose_a_row_is(tmp_path, rule, ids):
    own = [i for i in ids if i is not None]
    uri = make_store(tmp_path, own)
    api.import_vectors("released", X, store=uri, rows=rule)
    assert same(uri, {i: X[k] for k, i in enumerate(ids) if i is not None}, "released")


def test_microlens_features_go_to_a_part_of_its_items_where_that_is_asked_for(tmp_path):
    uri = make_store(tmp_path, ["1", "3", "9"])
    with pytest.raises(UsageError, match=r"rows of 2 items \('2', '4'\), which the store does not know"):
        api.import_vectors("released", X, store=uri, rows="microlens")
    assert Store.open(uri).versions() == []
    report = api.import_vectors("released", X, store=uri, rows="microlens", unknown="skip")
    assert (report.ok, report.missing, report.skipped) == (2, 1, 2)
    assert same(uri, {"1": X[0], "3": X[2]}, "released")
    reason = mmfeat.open(uri).lookup(["9"], ["released"])["released"].reason[0]
    assert reason == "the imported file has no vector of it"


def bad(row: int, value: float) -> np.ndarray:
    changed = X.copy()
    changed[row, :] = value
    return changed


@pytest.mark.parametrize(
    ("vectors", "settings", "said"),
    [
        (X, {"ids": IDS[:3]}, "has 4 rows, and there are 3 ids"),
        (bad(1, np.nan), {"ids": IDS}, r"holds NaN or infinity for 1 item \('1'\)"),
        (bad(2, 0), {"ids": IDS}, r"holds rows of zeros for 1 item \('2'\)"),
        (X, {"ids": ["30", "1", "2", "77"]}, r"rows of 1 item \('77'\), which the store does not know"),
        (X, {"ids": ["30", "1", "1", "3"]}, r"several rows of 1 item \('1'\)"),
        (X, {"ids": ["a", "b", "c", "d"], "unknown": "skip"}, "has no vector of an item of"),
        (X, {}, "does not say whose a row is"),
        (X, {"rows": "micro-lens"}, "no rule 'micro-lens'"),
        (X, {"rows": "microlens", "ids": IDS}, "Both ids and a rule"),
        (X[0], {"ids": IDS}, "has the shape 6, and not one vector per row"),
        (X.astype(object), {"ids": IDS}, "holds object, and no numbers"),
        (X.astype(np.float64) * 1e300, {"ids": IDS}, "holds NaN or infinity for 4 items"),
        (X * np.nan, {"ids": IDS, "empty": "missing"}, "nothing but rows that are no vectors"),
        (bad(1, 1e30), {"ids": IDS}, "holds numbers too large for a length for 1 item"),
        (bad(1, 1e-30), {"ids": IDS}, "holds numbers too small for a length for 1 item"),
        (X, {"ids": ["30", "1", "2", "77"], "unknown": "skipp"}, "unknown is 'skipp'. Did you mean 'skip'"),
        (bad(1, np.nan), {"ids": IDS, "empty": "mising"}, "empty is 'mising'. Did you mean 'missing'"),
        (np.ma.masked_array(X, X > 1), {"ids": IDS}, "The array is masked"),
        (X.tolist(), {"ids": IDS}, "a list is neither"),
        ("no folder", {}, "There is no file no folder"),
        ("nowhere.npy", {"ids": IDS}, "There is no file nowhere.npy"),
        (Path(__file__), {"ids": IDS}, "of no kind that vectors are imported from"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_is_written(uri, vectors, settings, said):
    with pytest.raises(UsageError, match=said):
        api.import_vectors("sasrec", vectors, store=uri, **settings)
    assert Store.open(uri).versions() == []


def test_an_id_twice_and_a_row_without_one_are_refused_in_files_too(uri, tmp_path):
    (tmp_path / "twice.json").write_text('{"30": [1, 2], "1": [3, 4], "30": [5, 6]}')
    with pytest.raises(UsageError, match=r"several rows of 1 item \('30'\)"):
        api.import_vectors("sasrec", tmp_path / "twice.json", store=uri)
    rows = pa.table({"item_id": ["30", None], "vector": [[1.0, 2.0], [3.0, 4.0]]})
    pq.write_table(rows, tmp_path / "unnamed.parquet")
    with pytest.raises(UsageError, match="1 rows without item_id"):
        api.import_vectors("sasrec", tmp_path / "unnamed.parquet", store=uri)
    assert Store.open(uri).versions() == []


class Bomb:
    """What must not be read: a pickle of it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_objects_are_never_unpickled(uri, tmp_path):
    bomb = Bomb(tmp_path / "exploded")
    np.save(tmp_path / "objects.npy", np.array([[bomb]], object), allow_pickle=True)
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(bomb))
    np.save(tmp_path / "ids.npy", np.array([bomb] * 4, object), allow_pickle=True)
    for vectors, ids in (("objects.npy", IDS), ("pickle.npy", IDS), (X, tmp_path / "ids.npy")):
        path = tmp_path / vectors if isinstance(vectors, str) else vectors
        with pytest.raises(UsageError, match="Python objects, and no pickle is read"):
            api.import_vectors("sasrec", path, store=uri, ids=ids)
    assert not bomb.path.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.npy", b""),
        ("cut.npy", b"\x93NUMPY\x01\x00v\x00"),
        ("empty.json", b""),
        ("deep.json", b"[" * 100_000),
        ("large.json", b'{"30": [' + b"9" * 400 + b"]}"),
        ("empty.parquet", b""),
        ("empty.safetensors", b""),
    ],
)
def test_a_damaged_file_is_said_to_be_one(uri, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=f"Cannot read .*{name}: .*[^.]\\.$"):
        api.import_vectors("sasrec", tmp_path / name, store=uri, ids=IDS if name.endswith("npy") else None)


@pytest.mark.parametrize("dtype", ["<f8", ">f4", ">f2", "<i4", "u1"])
def test_whatever_numbers_a_file_holds_in_whatever_order_each_item_gets_its_own(uri, tmp_path, dtype):
    vectors = np.asfortranarray(np.abs(X * 40).astype(dtype))
    np.save(tmp_path / "v.npy", vectors)
    (tmp_path / "ids.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(IDS).encode() + b"\r\n")
    api.import_vectors("sasrec", tmp_path / "v.npy", store=uri, ids=tmp_path / "ids.txt")
    assert same(uri, dict(zip(IDS, vectors.astype(np.float32), strict=True)))


def test_bfloat16_is_read_as_it_is(uri, tmp_path):
    upper = (X.view(np.uint32) >> 16).astype("<u2")
    tensor = {"dtype": "BF16", "shape": X.shape, "data_offsets": [0, upper.nbytes]}
    header = json.dumps({"item": tensor}).encode()
    (tmp_path / "v.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + upper.tobytes())
    api.import_vectors("sasrec", tmp_path / "v.safetensors", store=uri, ids=IDS)
    kept = (upper.astype(np.uint32) << 16).view(np.float32)
    assert same(uri, dict(zip(IDS, kept, strict=True))) and np.allclose(kept, X, rtol=0.01)


def test_rows_that_are_no_vectors_make_their_items_missing_where_that_is_asked_for(uri):
    report = api.import_vectors("sasrec", bad(2, 0), store=uri, ids=IDS, empty="missing")
    assert (report.ok, report.missing, report.empty) == (3, 1, 1)


def test_the_same_file_again_changes_nothing_and_another_makes_a_version(uri, tmp_path):
    settings = write(tmp_path, "npy")
    first = api.import_vectors("sasrec", store=uri, **settings)
    again = api.import_vectors("sasrec", store=uri, **settings)
    assert (again.version, again.committed, again.promoted) == (first.version, 0, False)
    put_items(uri, [*IDS, "new"])
    grown = api.import_vectors("sasrec", store=uri, **settings)
    assert (grown.version, grown.committed, grown.missing) == (first.version, 1, 1)
    np.save(settings["vectors"], X * 2)
    other = api.import_vectors("sasrec", store=uri, **settings)
    assert other.version != first.version and len(Store.open(uri).versions("sasrec")) == 2
    mmfeat.open(uri).lifecycle.rollback(["sasrec"])
    assert same(uri, BY_ID)


def test_rows_of_items_that_are_gone_are_left_out_and_a_file_of_nothing_else_is_refused(uri):
    put_items(uri, IDS[:2])  # the last two are gone
    report = api.import_vectors("sasrec", X[1:], store=uri, ids=IDS[1:])
    assert (report.vectors, report.ok, report.missing, report.skipped) == (3, 1, 1, 2)
    assert "2 rows of items that no dataset has any more are left out" in report.notices
    before = Store.open(uri).versions()
    with pytest.raises(UsageError, match=r"has no vector of an item of .* 2 are of items that no dataset"):
        api.import_vectors("sasrec", X[2:], store=uri, ids=IDS[2:])
    assert Store.open(uri).versions() == before
    put_items(uri, IDS)
    back = api.import_vectors("sasrec", X[1:], store=uri, ids=IDS[1:])
    assert (back.version, back.ok, back.committed, back.skipped) == (report.version, 3, 2, 0)


def test_other_ids_of_the_same_rows_make_another_version(uri):
    first = api.import_vectors("sasrec", X, store=uri, ids=IDS)
    assert api.import_vectors("sasrec", X, store=uri, ids=IDS[::-1]).version != first.version


def test_imported_vectors_are_searched_quantized_exported_forgotten_and_collected(uri, tmp_path):
    api.import_vectors("sasrec", np.concatenate([X[:3], X[:1] * 3]), store=uri, ids=IDS)
    store = mmfeat.open(uri)
    assert [hit.item_id for hit in store.search("sasrec", item="30", k=1)] == ["3"]
    with pytest.raises(UsageError, match="was imported"):
        store.search("sasrec", text="a title")
    codes = api.quantize("sasrec", store=uri, levels=1, codebook_size=2)
    assert codes.ok == 4
    store.export("npy", tmp_path / "out", features=["sasrec"])
    store.forget(["3"], "asked")
    assert set(found(uri)) == {"30", "1", "2"}
    with pytest.raises(UsageError, match="of which 1 were forgotten"):
        api.import_vectors("sasrec", X, store=uri, ids=IDS)
    api.import_vectors("sasrec", X[:3], store=uri, ids=IDS[:3])
    api.import_vectors("sasrec", X[:3] + 1, store=uri, ids=IDS[:3])
    assert store.spec("sasrec").weights.origin == "imported"


def test_a_gate_that_falls_short_keeps_the_version_a_candidate(uri):
    api.import_vectors("sasrec", X, store=uri, ids=IDS)
    with pytest.raises(GateFailed, match="min_coverage"):
        api.import_vectors("sasrec", X[:1], store=uri, ids=IDS[:1], min_coverage=0.5, empty="missing")
    assert same(uri, BY_ID)


def test_a_gate_that_falls_short_of_a_current_version_says_that_it_stays_current(uri):
    first = api.import_vectors("sasrec", X, store=uri, ids=IDS)
    put_items(uri, [*IDS, *"abcdefgh"])
    with pytest.raises(GateFailed, match=rf"{first.version}: stays current, as before") as failed:
        api.import_vectors("sasrec", X, store=uri, ids=IDS, min_coverage=0.5)
    assert "candidate" not in str(failed.value) and "mmfeat rollback" in failed.value.hint
    assert Store.open(uri).resolve("sasrec").version == first.version
    with pytest.raises(GateFailed, match="stays a candidate"):
        api.import_vectors("sasrec", X + 1, store=uri, ids=IDS, min_coverage=0.5)


def test_a_job_fuses_imported_vectors_with_its_own(tmp_path):
    titles = {f"item-{n}": f"title {n}" for n in range(6)}
    uri = str(tmp_path / "store")
    with on_path(unrayed.PLUGIN):
        run(uri, titles, {})
        vectors = np.random.default_rng(5).standard_normal((6, 3))
        report = api.import_vectors("sasrec", vectors, store=uri, ids=list(titles))
        fused = {"whole": {"inputs": ["text", "sasrec"], "transform": "fuse"}}
        made = next(f for f in run(uri, titles, fused).features if f.version.startswith("whole@"))
    assert made.ok == 6 and report.version in made.fitted["source"]


def test_the_command_says_what_it_did(uri, tmp_path):
    write(tmp_path, "npy")
    said = ["--vectors", str(tmp_path / "v.npy"), "--ids", str(tmp_path / "ids.json"), "--store", uri]
    result = CliRunner().invoke(app, ["import", "sasrec", *said])
    assert result.exit_code == 0, result.output
    assert "4 vectors of 6 dims" in result.output and "4 of 4 items have one" in result.output
    shown = CliRunner().invoke(app, ["runs", "show", "--store", uri]).output
    assert "imported: 4 vectors of 6 dims (sha256:" in shown and "4 rows committed" in shown
    again = CliRunner().invoke(app, ["import", "sasrec", *said, "--json"])
    assert json.loads(again.output)["committed"] == 0
