"""Whole runs on trained tiny models into a LanceDB store; ``world`` and those that say so are by Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ray
from helpers import synthetic, worlds

import mmfeat
from mmfeat.schemas.errors import GateFailed, UnknownFeature, UnknownItems, UsageError

FEATURES, N_ITEMS = worlds.FEATURES, worlds.N_ITEMS
RAY = {"executor": "ray"}


@pytest.fixture(scope="module")
def store(world) -> mmfeat.FeatureStore:
    return mmfeat.open(world / "store")


def counts(report) -> dict[str, tuple[int, int, int, int]]:
    return {f.version.partition("@")[0]: (f.up_to_date, f.ok, f.missing, f.failed) for f in report.features}


def test_every_item_has_every_feature(store):
    found = store.lookup()
    assert len(found.ids) == N_ITEMS
    assert {name: int(column.mask.sum()) for name, column in found.items()} == dict.fromkeys(
        FEATURES, N_ITEMS
    )
    assert found["clip"].matrix.shape == (N_ITEMS, 64)


def test_captions_in_the_store_name_the_colour_and_shape_of_their_own_item(store, scenes):
    ids = [f"item-{n:03d}" for n in range(N_ITEMS)]
    texts = store.lookup(ids, ["caption"])["caption"].texts
    right = [s.colour in t.split() and s.shape in t.split() for s, t in zip(scenes, texts, strict=True)]
    assert np.mean(right) >= 0.95


def test_searching_by_text_finds_the_picture_that_shows_it(store, scenes):
    first = [store.search("clip", text=scene.caption, k=1)[0].item_id for scene in scenes[:50]]
    assert np.mean([hit == f"item-{n:03d}" for n, hit in enumerate(first)]) >= 0.9


def test_searching_by_an_items_own_picture_finds_it_and_by_item_leaves_it_out(store, world):
    picture = world / "media" / "covers" / "item-007.png"
    hits = store.search("clip", image=picture, k=3)
    assert hits[0].item_id == "item-007"
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    assert "item-007" not in [h.item_id for h in store.search("clip", item="item-007", k=10)]


def test_a_caption_is_searched_by_text_through_its_own_encoder(store, scenes):
    said = store.lookup(["item-003"], ["caption"])["caption"].texts[0]
    assert "item-003" in [h.item_id for h in store.search("caption_clip", text=said, k=3)]


def test_every_caption_records_whether_the_token_cap_cut_it(store, tmp_path, scenes):
    facts = store.facts("caption")
    assert len(facts) == N_ITEMS
    assert {f["finish_reason"] for f in facts.values()} == {"stop"}
    worlds.cover_folder(tmp_path / "media", scenes[:2])
    capped = {"caption": {**worlds.CAPTION, "max_new_tokens": 3}}
    mmfeat.extract(**worlds.job(tmp_path / "media", tmp_path / "store", capped))
    cut = mmfeat.open(tmp_path / "store").facts("caption")
    assert [(f["finish_reason"], f["new_tokens"]) for f in cut.values()] == [("length", 3)] * 2
    assert store.facts("clip") == {}


def test_rows_come_in_the_order_asked(store):
    ids = ["item-031", "item-002", "item-031", "item-017"]
    found = store.lookup(ids, ["dino"])
    alone = [store.lookup([i], ["dino"])["dino"].matrix[0] for i in ids]
    assert found.ids == ids
    np.testing.assert_array_equal(found["dino"].matrix, np.stack(alone))


def test_unknown_ids_are_named_or_masked(store):
    with pytest.raises(UnknownItems, match=r"'nope'"):
        store.lookup(["item-001", "nope"], ["clip"])
    found = store.lookup(["item-001", "nope"], ["clip"], unknown="mask")
    assert found["clip"].mask.tolist() == [True, False]
    assert np.isnan(found["clip"].matrix[1]).all()


def test_a_question_that_the_feature_cannot_answer_is_refused(store):
    with pytest.raises(UsageError, match="cannot be searched by a text: transformers makes it of cover"):
        store.search("dino", text="a red circle")
    with pytest.raises(UsageError, match="holds texts"):
        store.search("caption", text="a red circle")
    with pytest.raises(UsageError, match="exactly one"):
        store.search("clip", text="a", item="item-001")
    with pytest.raises(UnknownFeature, match="clap"):
        store.search("clap", text="a")


def test_a_second_run_computes_nothing_and_loads_no_model(world):
    job = worlds.job(world / "media", world / "store", FEATURES)
    program = (
        "import sys; from pathlib import PosixPath; import mmfeat;"
        f"report = mmfeat.extract(**{job!r});"
        "assert report.computed == report.copied == 0, report;"
        "assert [f.up_to_date for f in report.features] == [56] * 4, report;"
        "print(sorted({'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


CHANGING = {name: FEATURES[name] for name in ("clip", "caption", "caption_clip")}


class TestWhatChangedAndNothingElse:
    """One after the other on a store of its own: a changed cover, a new item, a changed prompt."""

    @pytest.fixture(scope="class")
    def place(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("changes")
        worlds.cover_folder(folder / "media", synthetic.held_out(6))
        mmfeat.extract(**worlds.job(folder / "media", folder / "store", CHANGING))
        return folder

    def run(self, place: Path, features=None):
        return mmfeat.extract(**worlds.job(place / "media", place / "store", features or CHANGING))

    def test_one_changed_cover_recomputes_that_items_features_alone(self, place):
        before = mmfeat.open(place / "store").lookup()
        blue_ring = synthetic.scene(synthetic.HELD_OUT_FROM + 77, "blue", "ring")
        worlds.write_cover(place / "media", "item-002", blue_ring)
        report = self.run(place)
        assert report.computed == 1
        assert counts(report) == dict.fromkeys(CHANGING, (5, 1, 0, 0))
        after = mmfeat.open(place / "store").lookup()
        assert {"blue", "ring"} <= set(after["caption"].texts[2].split())
        changed = (before["clip"].matrix != after["clip"].matrix).any(axis=1)
        assert changed.tolist() == [False, False, True, False, False, False]

    def test_new_items_cost_only_themselves(self, place):
        worlds.write_cover(place / "media", "item-006", synthetic.held_out(7)[6])
        report = self.run(place)
        assert report.computed == 1
        assert counts(report) == dict.fromkeys(CHANGING, (6, 1, 0, 0))

    def test_an_item_with_a_known_picture_costs_no_computation(self, place):
        source = place / "media" / "covers" / "item-001.png"
        (place / "media" / "covers" / "copy.png").write_bytes(source.read_bytes())
        report = self.run(place)
        assert (report.computed, counts(report)["clip"]) == (0, (7, 1, 0, 0))
        found = mmfeat.open(place / "store").lookup(["copy", "item-001"])
        np.testing.assert_array_equal(found["clip"].matrix[0], found["clip"].matrix[1])
        assert found["caption"].texts[0] == found["caption"].texts[1]

    def test_a_changed_prompt_recomputes_captions_and_their_readers_and_keeps_the_old_version(self, place):
        store = mmfeat.open(place / "store")
        old = {status.version for status in store.status()}
        before = store.lookup()["caption"].texts
        prompt = place / "briefly.toml"
        prompt.write_text('name = "briefly"\nversion = 1\ntext = "Describe what you see. Answer briefly."\n')
        features = {**CHANGING, "caption": {**worlds.CAPTION, "prompt": str(prompt)}}
        report = self.run(place, features)
        assert counts(report) == {"clip": (8, 0, 0, 0), "caption": (0, 8, 0, 0), "caption_clip": (0, 8, 0, 0)}
        store = mmfeat.open(place / "store")
        assert max(len(t.split()) for t in store.lookup()["caption"].texts) == 2
        (old_caption,) = [v for v in old if v.startswith("caption@")]
        assert store.lookup(features=[old_caption])["caption"].texts == before
        assert {s.version for s in store.status() if s.current}.isdisjoint({old_caption})

    def test_a_cover_that_is_gone_leaves_a_missing_row(self, place):
        (place / "media" / "covers" / "item-004.png").unlink()
        (place / "media" / "titles.csv").write_text("item,title\nitem-004,still in the catalog\n")
        report = self.run(place)
        assert counts(report)["clip"][2] == 1
        column = mmfeat.open(place / "store").lookup(["item-004"], ["clip"])["clip"]
        assert (column.status[0], bool(column.mask[0])) == ("missing", False)


def test_each_item_of_a_shuffled_run_with_failures_has_the_vector_it_gets_alone(tmp_path, scenes, store):
    rng = np.random.default_rng(5)
    names = [f"x{n:03d}.{rng.integers(1000)}" for n in rng.permutation(N_ITEMS)]
    worlds.cover_folder(tmp_path / "media", scenes, names)
    broken = [f"a{n}" for n in range(4)]
    for name in broken:
        (tmp_path / "media" / "covers" / f"{name}.png").write_bytes(b"no picture")
    features = {name: FEATURES[name] for name in ("clip", "dino", "caption")}
    job = worlds.job(tmp_path / "media", tmp_path / "store", features, run={"max_failed": 0.5})
    report = mmfeat.extract(**{**job, "resources": {"workers": 2, "threads": 1, "batch_size": 7, **RAY}})
    assert [f.failed for f in report.features] == [4, 4, 4]
    shuffled = mmfeat.open(tmp_path / "store").lookup(names)
    ids = [f"item-{n:03d}" for n in range(N_ITEMS)]
    for name in ("clip", "dino"):
        alone = store.lookup(ids, [name])[name].matrix
        assert worlds.cosines(shuffled[name].matrix, alone).min() > 0.99999
    assert shuffled["caption"].texts == store.lookup(ids, ["caption"])["caption"].texts


def test_too_many_failures_are_a_gate_that_fell_short_and_keep_what_succeeded(tmp_path):
    worlds.cover_folder(tmp_path / "media", synthetic.held_out(3))
    (tmp_path / "media" / "covers" / "bad.png").write_bytes(b"")
    job = worlds.job(tmp_path / "media", tmp_path / "store", {"clip": worlds.CLIP})
    for _ in range(2):  # a gate that fell short is not forgotten by the next run
        with pytest.raises(GateFailed, match=r"25\.0% of the rows failed"):
            mmfeat.extract(**job)
    opened = mmfeat.open(tmp_path / "store")
    assert opened.lookup()["clip"].mask.sum() == 3
    assert opened.failures("clip").to_pylist() == [
        {"item_id": "bad", "stage": "read", "reason": "file is empty"}
    ]


def test_a_hopeless_run_stops_early_with_the_commonest_reason(tmp_path):
    covers = tmp_path / "media" / "covers"
    covers.mkdir(parents=True)
    for number in range(400):
        (covers / f"{number}.png").write_bytes(b"no picture %d" % number)
    job = worlds.job(tmp_path / "media", tmp_path / "store", {"clip": worlds.CLIP}, resources=RAY)
    with pytest.raises(GateFailed, match=r"[0-9]+ x decode: not an image") as stopped:
        mmfeat.extract(**job)
    assert stopped.value.report is None  # it did not get to the end
    assert not ray.is_initialized()
    assert 100 <= mmfeat.open(tmp_path / "store").status()[0].failed < 400


def test_every_run_leaves_a_record(tmp_path):
    worlds.cover_folder(tmp_path / "media", synthetic.held_out(2))
    job = worlds.job(tmp_path / "media", tmp_path / "store", {"clip": worlds.CLIP})
    report = mmfeat.extract(**job)
    (record,) = mmfeat.open(tmp_path / "store").runs()
    assert (record["run_id"], record["end"]) == (report.run_id, "completed")
    assert record["packages"]["torch"]
    assert record["versions"] == [report.features[0].version]
