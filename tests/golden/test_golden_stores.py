"""Stores of format 1, kept as bytes: they open, answer as they did, and go on.

How the stores were written is in ``write_stores.py``; what they answered then in ``answers.json`` (statuses,
texts, neighbours) and ``answers.npz`` (vectors, codes). Rows are read with Lance itself if their content
hashes are looked at.

Of what may get another name, ``standing`` of a feature's status and ``api.quantize`` are used. Should codes
be fitted to something else one day, ``test_the_same_codes_are_not_fitted_again`` changes; those that are in
the store stay.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest
from golden_stores import (
    BROKEN,
    FILMED,
    FORGOTTEN,
    HERE,
    LEFT,
    MODIFIED_NS,
    TOLD_IDS,
    TWINS,
    UNDESCRIBED,
    UNTITLED,
    answers,
    shop_features,
    shop_job,
    told_features,
    told_job,
    touch,
    unpacked,
    values_of,
)

import mmfeat
from mmfeat import api
from mmfeat.export import verify
from mmfeat.report.build import ReportOptions
from mmfeat.schemas.spec import text_hash

# Where an answer was asked: store, snapshot and items.
ASKED = {
    "shop": ("shop", None, LEFT),
    "first": ("shop", "first", LEFT),
    "second": ("shop", "second", LEFT),
    "told": ("told", None, TOLD_IDS),
}
# Their rows have no content hash: what was fitted is in their spec.
CODES = ("clip_codes", "clip_ids")
READ_TITLE = {"title_text", "titled"}


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """The stores and their media, for tests that only read."""
    return unpacked(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """The stores and their media, to go on with."""
    return unpacked(tmp_path)


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return answers()


def opened(folder: Path, asked: str) -> mmfeat.FeatureStore:
    store, snapshot, _ = ASKED[asked]
    return mmfeat.open(folder / store, snapshot)


def full_ref(golden: dict[str, Any], name: str, asked: str = "shop") -> str:
    """``name@fingerprint`` of the version that a name alone meant."""
    current = {v for v, standing in golden[asked]["current"].items() if standing == "current"}
    (ref,) = (
        r for r in golden[asked]["rows"] if r.partition("@")[0] == name and r[: len(name) + 9] in current
    )
    return str(ref)


def counts(report: Any) -> dict[str, tuple[int, int, int, int]]:
    """Feature to its items: up to date, and committed as ok, missing, failed."""
    return {f.version.partition("@")[0]: (f.up_to_date, f.ok, f.missing, f.failed) for f in report.features}


def rows_of(folder: Path, ref: str) -> dict[str, dict[str, Any]]:
    """The committed rows of a version in ``folder`` by item, as they lie in its table."""
    name, _, fingerprint = ref.partition("@")
    table = lance.dataset(str(folder / f"{name}-{fingerprint[:16]}.lance"))
    columns = ["item_id", "status", "content_hash", "stamp"]
    return {row["item_id"]: row for row in table.to_table(columns=columns).to_pylist()}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- what is in them


def test_a_store_of_format_1_opens_with_its_items_and_interactions(kept):
    store = mmfeat.open(kept / "shop")
    assert sorted(store.ids) == sorted(LEFT)
    assert store.interactions is not None
    assert len(store.interactions) == 48
    assert store.items.column_names[:3] == ["item_id", "title", "description"]
    assert mmfeat.open(kept / "told").ids == TOLD_IDS


@pytest.mark.parametrize("asked", ASKED)
def test_versions_are_what_they_were_promoted_or_rolled_back_to(kept, golden, asked):
    assert {s.version: s.state for s in opened(kept, asked).status()} == golden[asked]["current"]


@pytest.mark.parametrize("asked", ASKED)
def test_every_version_gives_the_values_that_it_gave(kept, golden, asked):
    rows, arrays = values_of(opened(kept, asked), ASKED[asked][2])
    assert rows == golden[asked]["rows"]
    with np.load(HERE / "answers.npz") as expected:
        wanted = {k.partition("/")[2]: expected[k] for k in expected.files if k.startswith(f"{asked}/")}
    assert set(arrays) == set(wanted)
    for ref, array in arrays.items():
        assert array.dtype == wanted[ref].dtype, ref
        np.testing.assert_array_equal(array, wanted[ref], err_msg=ref)


def test_status_counts_the_items_of_every_version(kept, golden):
    for status in mmfeat.open(kept / "shop").status():
        (rows,) = (r for ref, r in golden["shop"]["rows"].items() if ref.startswith(status.version))
        found = Counter(rows["status"])
        assert (status.ok, status.missing, status.failed, status.absent, status.problem) == (
            found["ok"], found["missing"], found["failed"], 0, ""
        )  # fmt: skip


@pytest.mark.parametrize("asked", ASKED)
def test_a_search_by_item_gives_the_neighbours_that_it_gave(kept, golden, asked):
    store = opened(kept, asked)
    for ref, near in golden[asked]["near"].items():
        for item, expected in near.items():
            _check_hits(store.search(ref, item=item, k=3), expected)


def test_a_search_by_vector_gives_the_item_itself_and_its_neighbours(kept, golden):
    store = mmfeat.open(kept / "shop")
    near = golden["shop"]["near"][full_ref(golden, "clip")]
    for item in set(near) - set(TWINS):
        vector = store.lookup([item], ["clip"])["clip"].matrix[0]
        itself, *others = store.search("clip", vector=vector, k=4)
        assert (itself.item_id, itself.score) == (item, pytest.approx(1, abs=1e-4))
        _check_hits(others, near[item])


def _check_hits(hits: list[Any], expected: list[list[Any]]) -> None:
    """Items of equal score may change places."""
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], abs=2e-4)
    last = expected[-1][1]
    assert {h.item_id for h in hits if h.score > last + 2e-4} == {i for i, s in expected if s > last + 2e-4}


def test_captions_keep_their_facts(kept):
    facts = mmfeat.open(kept / "shop").facts("titled")
    assert set(facts) == set(LEFT) - {UNTITLED, BROKEN}
    assert {fact["finish_reason"] for fact in facts.values()} == {"stop"}
    assert (facts["101"]["prompt_tokens"], facts["101"]["new_tokens"]) == (55, 3)


def test_failures_keep_stage_and_reason(kept):
    store = mmfeat.open(kept / "shop")
    failed = [{"item_id": BROKEN, "stage": "decode", "reason": "not an image that can be read"}]
    assert store.failures("clip").to_pylist() == failed
    assert store.failures("clip_codes")["stage"].to_pylist() == ["upstream"]


# --- what rows were made from


def test_a_texts_hash_is_that_of_its_bytes():
    assert {text: text_hash(text) for text in ("", "a", "Über das Café", "🎬", "e\u0301", "\u00e9")} == {
        "": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "a": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
        "Über das Café": "07ab8458316cfa5ee28a1cbec60d84ee0b476640a953668f247597796b643f9a",
        "🎬": "0de8a531e8d5e3a2efc0c55bb20c8de9d23245ded183ddcd3d981eeffde5aa9b",
        "e\u0301": "bf12767b0f2a56b2190075bae8169f656e3ce8d6357d4aff184bc6c7ea48f9f6",
        "\u00e9": "4a99557e4033c3539de2eb65472017cad5f9557f7a0625a09f1c3f6e2ba69c4c",
    }


def test_rows_hold_the_hashes_of_what_they_were_made_from(kept, golden):
    """Media by their bytes, texts by theirs; of media and texts read together the hashes of all, media first
    and texts by the alphabet, joined by ``+``."""
    for asked in ("shop", "told"):
        expected = _content_hashes(kept, asked)
        for ref, answer in golden[asked]["rows"].items():
            name = ref.partition("@")[0]
            rows = rows_of(kept / asked, ref)
            assert set(rows) == set(ASKED[asked][2])
            for item, status in zip(ASKED[asked][2], answer["status"], strict=True):
                wanted = None if status == "missing" or name in CODES else expected[name][item]
                assert rows[item]["content_hash"] == wanted, (ref, item)


def test_rows_of_media_hold_size_and_time_of_the_file(kept, golden):
    rows = rows_of(kept / "shop", full_ref(golden, "clip_video"))
    for item in FILMED:
        size = (kept / "media" / "shop" / "videos" / f"{item}.mp4").stat().st_size
        assert rows[item]["stamp"] == f"{size}:{MODIFIED_NS}"


def _content_hashes(folder: Path, asked: str) -> dict[str, dict[str, str]]:
    """Feature to item to the hash of what it reads, of the items that have it."""
    store, media = mmfeat.open(folder / asked), folder / "media" / asked
    texts = {
        source: {
            row["item_id"]: sha256(row[source].encode()) for row in store.items.to_pylist() if row[source]
        }
        for source in ("title", "description")
    }
    covers = {
        path.stem: sha256(path.read_bytes()) for kind in ("jpg", "png") for path in media.rglob(f"*.{kind}")
    }
    clips = {path.stem: sha256(path.read_bytes()) for path in media.rglob("*.mp4")}

    def written(feature: str) -> dict[str, str]:
        found = store.lookup(None, [feature])
        said = zip(found.ids, found[feature].texts, strict=True)
        return {item: sha256(text.encode()) for item, text in said if text is not None}

    if asked == "told":
        joint = {
            i: "+".join([covers[i], texts["description"][i], texts["title"][i]]) for i in texts["description"]
        }
        return {"told": joint, "told_clip": written("told"), "description_clip": texts["description"]}
    return {
        **dict.fromkeys(("clip", "states", "tags"), covers),
        "clip_video": clips,
        "title_text": texts["title"],
        # Where the tags failed, what they were to be made from.
        "tags_text": {BROKEN: covers[BROKEN], **written("tags")},
        "titled": {i: f"{covers[i]}+{title}" for i, title in texts["title"].items() if i in covers},
    }


# --- what a store keeps beside features


def test_nothing_of_it_is_damaged(kept):
    for name in ("shop", "told"):
        assert mmfeat.open(kept / name).examine(deep=True) == []


def test_what_was_forgotten_is_gone_and_known_to_be(kept):
    found = mmfeat.open(kept / "shop").verify_forgotten()
    assert found.ok
    assert [(t.item_id, t.reason) for t in found.forgotten] == [(FORGOTTEN, "asked for by its seller")]
    assert [(e.format, e.items, e.host) for e in found.stale_exports] == [("npy", 8, "host")]
    with pytest.raises(mmfeat.MmfeatError, match=FORGOTTEN):
        mmfeat.open(kept / "shop").lookup([FORGOTTEN], ["clip"])


def test_runs_keep_their_records_and_logs(kept):
    store = mmfeat.open(kept / "shop")
    runs = store.runs()
    kinds = ["extract", "extract", "extract", "rollback", "quantize", "quantize"]
    assert [(run["kind"], run["end"]) for run in runs] == [(kind, "completed") for kind in kinds]
    assert runs[0]["report"]["computed"] == 16
    assert "extract started by user@host" in store.run_log(runs[0]["run_id"])[0][1]


def test_snapshots_stay_what_they_were_but_for_what_was_forgotten(kept):
    store = mmfeat.open(kept / "shop")
    assert [snapshot.name for snapshot in store.snapshots()] == ["first", "second"]
    first = mmfeat.open(kept / "shop", snapshot="first")
    assert sorted(first.ids) == sorted(LEFT)
    assert {s.version.partition("@")[0] for s in first.status()} == set(shop_features())
    difference = {feature.name: feature for feature in store.diff("first", "second").features}
    assert difference["clip"].spec == {"normalize": (True, False)}


# --- what is made of them


def test_its_features_are_exported_as_they_are(kept, golden, tmp_path):
    store = mmfeat.open(kept / "shop")
    names = ["clip", "title_text", "tags", "titled", "states", *CODES]
    out = store.export("npy", tmp_path / "out", features=names, items=LEFT, missing="mask").path
    assert verify(out).ok
    assert json.loads((out / "ids.json").read_text()) == LEFT
    with np.load(HERE / "answers.npz") as expected:
        for name in names:
            ref = full_ref(golden, name)
            if (texts := golden["shop"]["rows"][ref].get("texts")) is not None:
                assert json.loads((out / f"{name}.json").read_text()) == texts
            else:
                np.testing.assert_array_equal(np.load(out / f"{name}.npy"), expected[f"shop/{ref}"])


def test_it_is_exported_for_mmrec_with_its_interactions(kept, golden, tmp_path):
    store = mmfeat.open(kept / "shop")
    roles = {"image": "clip", "text": "title_text"}
    out = store.export("mmrec", tmp_path / "shop", features=roles, missing="mean").path
    assert verify(out).ok
    ids = [line.split("\t")[0].strip('"') for line in (out / "i_id_mapping.csv").read_text().splitlines()[1:]]
    assert sorted(ids) == sorted(LEFT)
    with np.load(HERE / "answers.npz") as expected:
        clip = dict(zip(LEFT, expected[f"shop/{full_ref(golden, 'clip')}"], strict=True))
    for item, row in zip(ids, np.load(out / "image_feat.npy"), strict=True):
        if item != BROKEN:
            np.testing.assert_array_equal(row, clip[item])
    assert len((out / "shop.inter").read_text().splitlines()) == 1 + 48


def test_its_captions_are_reported_on(folder):
    # The catalog names media where they lie now once a run has seen them.
    mmfeat.extract(**shop_job(folder))
    report = mmfeat.open(folder / "shop").report_captions(ReportOptions(feature="titled"))
    found = json.loads(report.model_dump_json())
    assert found["subject"]["version"].startswith("titled@")
    assert (found["coverage"]["ok"], found["coverage"]["failed"], found["coverage"]["missing"]) == (5, 1, 1)


# --- how they go on


@pytest.mark.parametrize("clip", [1, 2])
@pytest.mark.parametrize("modified", [MODIFIED_NS, MODIFIED_NS + 1], ids=["untouched", "touched"])
def test_the_same_job_computes_nothing_and_changes_no_version(folder, golden, clip, modified):
    """The job of the current version of ``clip`` and of the one that was rolled back, which stays so. Where
    only the files' times are others, their content is compared."""
    touch(folder, modified)
    report = mmfeat.extract(**shop_job(folder, clip=clip))
    assert (report.items, report.forgotten, report.computed, report.copied) == (7, 1, 0, 0)
    assert counts(report) == dict.fromkeys(shop_features(), (7, 0, 0, 0))
    store = mmfeat.open(folder / "shop")
    assert {s.version: s.state for s in store.status()} == golden["shop"]["current"]
    assert values_of(store, LEFT)[0] == golden["shop"]["rows"]


def test_a_job_of_an_earlier_version_makes_it_current_again_and_computes_nothing(folder, golden):
    report = mmfeat.extract(**shop_job(folder, clip=0))
    assert (report.computed, report.copied) == (0, 0)
    (earlier,) = (v for v, standing in golden["shop"]["current"].items() if standing == "previous")
    assert report.promoted == [earlier]
    assert mmfeat.open(folder / "shop").spec("clip").version == earlier


def test_a_table_of_described_items_computes_nothing_either(folder, golden):
    touch(folder, MODIFIED_NS + 1)
    report = mmfeat.extract(**told_job(folder))
    assert report.computed == 0
    assert counts(report) == dict.fromkeys(told_features(), (3, 0, 0, 0))
    assert values_of(mmfeat.open(folder / "told"), TOLD_IDS)[0] == golden["told"]["rows"]


def test_a_changed_title_recomputes_what_reads_it_and_nothing_else(folder, golden):
    titles = folder / "media" / "shop" / "titles.csv"
    titles.write_text(titles.read_text().replace('101,"Red running shoes"', '101,"Blue sandals"'))
    report = mmfeat.extract(**shop_job(folder))
    changed = {name for name, found in counts(report).items() if found != (7, 0, 0, 0)}
    assert changed == READ_TITLE
    assert {counts(report)[name] for name in READ_TITLE} == {(6, 1, 0, 0)}
    store = folder / "shop"
    cover = sha256((folder / "media" / "shop" / "covers" / "101.jpg").read_bytes())
    title = text_hash("Blue sandals")
    assert rows_of(store, full_ref(golden, "title_text"))["101"]["content_hash"] == title
    assert rows_of(store, full_ref(golden, "titled"))["101"]["content_hash"] == f"{cover}+{title}"
    again = mmfeat.extract(**shop_job(folder))
    assert counts(again) == dict.fromkeys(shop_features(), (7, 0, 0, 0))


def test_a_changed_description_and_a_new_item_are_all_that_is_computed(folder, golden):
    media = folder / "media" / "told"
    (media / "d.jpg").write_bytes((media / "a.jpg").read_bytes() + b"\0")
    table = media / "items.csv"
    table.write_text(table.read_text().replace("Number 1", "The last") + "d,New,Just in.,d.jpg\n")
    report = mmfeat.extract(**told_job(folder))
    assert {name: found[:2] for name, found in counts(report).items()} == dict.fromkeys(
        told_features(), (2, 2)
    )
    rows = rows_of(folder / "told", full_ref(golden, "told", "told"))
    for item, title, description in (
        ("b", "The b of letters", "The last of the shelf."),
        ("d", "New", "Just in."),
    ):
        cover = sha256((media / f"{item}.jpg").read_bytes())
        assert rows[item]["content_hash"] == f"{cover}+{text_hash(description)}+{text_hash(title)}"
    assert rows[UNDESCRIBED]["status"] == "missing"


@pytest.mark.parametrize(("name", "more"), [("clip_codes", {}), ("clip_ids", {"collision_level": True})])
def test_codes_of_the_first_format_are_taken_over_and_not_fitted_again(folder, golden, name, more):
    before = mmfeat.open(folder / "shop").lookup(features=[name])[name].values
    settings = {"store": str(folder / "shop"), "name": name, "levels": 2, "codebook_size": 3, **more}
    report = api.quantize("clip", **settings)
    assert not report.fitted
    assert report.version != full_ref(golden, name)[: len(name) + 9], "its spec names the codebooks"
    after = mmfeat.open(folder / "shop").lookup(features=[name])[name]
    assert after.spec.version == report.version
    np.testing.assert_array_equal(after.values, before)
    again = api.quantize("clip", **settings)
    assert (again.fitted, again.committed, again.version) == (False, 0, report.version)
