"""``mmfeat gc`` and ``[keep]``: what goes, what stays all the same, and that it is gone from the disk."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from helpers import unrayed
from helpers.storing import make_rows, vector_spec, vectors

import mmfeat
from mmfeat.schemas.inputs import VECTOR, Input
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import Retention, Store


def filled(store: Store, spec: FeatureSpec, promote: bool = True):
    """A version of 50 rows, current unless it is not to be."""
    version = store.add_version(spec)
    ids = [f"i{n}" for n in range(50)]
    store.commit(version, make_rows(spec, ids, list(vectors(50, spec.dims))), replace=False)
    if promote:
        store.promotion.promote([version])
    return version


def editions(store: Store, count: int):
    return [filled(store, vector_spec(method_version=n + 1)) for n in range(count)]


def going(store: Store, *keep: object, **more: object) -> list[str]:
    return [one.name for one in store.retaining.survey(Retention(*keep, **more)).garbage]


def tables(store: Store) -> set[str]:
    return {path.name for path in Path(store.uri).glob("clip_image-*.lance")}


def test_the_current_version_and_the_newest_others_stay_and_the_rest_leaves_the_disk(store: Store):
    first, second, third, fourth = editions(store, 4)
    survey = store.retaining.survey(Retention(2))
    assert [one.name for one in survey.garbage] == [first.version, second.version]
    assert all(one.bytes > 1_000 for one in survey.garbage)
    before = sum(f.stat().st_size for f in Path(store.uri).rglob("*") if f.is_file())
    freed = store.retaining.collect(survey)
    after = sum(f.stat().st_size for f in Path(store.uri).rglob("*") if f.is_file())
    assert freed == sum(one.bytes for one in survey.garbage)
    # What went is what was told; the list of versions took a little for its new state.
    assert before - after == pytest.approx(freed, abs=8_000)
    assert tables(store) == {f"{third.table}.lance", f"{fourth.table}.lance"}
    assert [v.version for v in Store.open(store.uri).versions()] == [third.version, fourth.version]


def test_an_old_version_that_is_current_stays_whatever_the_number(store: Store):
    first, second, third = editions(store, 3)
    store.promotion.rollback(["clip_image"])
    store.promotion.rollback(["clip_image"])
    assert store.resolve("clip_image") == first
    assert going(store, 1) == [second.version, third.version]


def test_a_removed_version_is_no_longer_one_to_roll_back_to(store: Store):
    first, second = editions(store, 2)
    store.retaining.collect(store.retaining.survey(Retention(1)))
    assert store.promotion.histories()["clip_image"].previous == ()
    assert store.promotion.state_of(second) == "current"
    assert first.version not in [v.version for v in store.versions()]


def test_what_evaluations_found_of_a_version_goes_with_it_and_the_rest_stays(store: Store):
    first, second = editions(store, 2)
    for versions in ([first], [first, second], [second]):
        found = json.dumps({"features": [{"version": version.version} for version in versions]})
        store.put_evaluation(str(len(versions)) + versions[0].version, "digest", found)
    store.retaining.collect(store.retaining.survey(Retention(2)))
    assert store.evaluation(f"1{first.version}", "digest") is not None
    store.retaining.collect(store.retaining.survey(Retention(1)))
    assert store.evaluation(f"1{first.version}", "digest") is None
    assert store.evaluation(f"2{first.version}", "digest") is None
    assert store.evaluation(f"1{second.version}", "digest") is not None


def test_what_a_snapshot_holds_stays_until_the_snapshot_goes(store: Store):
    first, _second = editions(store, 2)
    store.create_snapshot("then")
    survey = store.retaining.survey(Retention(1))
    assert (survey.garbage, survey.kept) == ([], {first.version: "in the snapshot then"})
    assert going(store, 1, snapshots=0) == ["then", first.version]
    store.retaining.collect(store.retaining.survey(Retention(1, snapshots=0)))
    assert store.snapshots() == []
    assert f"{first.table}.lance" not in tables(store)


def test_the_newest_snapshots_stay(store: Store):
    editions(store, 1)
    for name in ("monday", "tuesday", "wednesday"):
        store.create_snapshot(name)
    assert going(store, 1, snapshots=2) == ["monday"]


def test_what_was_made_lately_a_candidate_and_what_others_read_stay(store: Store):
    source, _ = editions(store, 2)
    read = Input(source="clip_image", modality=VECTOR, upstream=source.fingerprint)
    reader = vector_spec("reader").model_copy(update={"inputs": (read,)})
    filled(store, reader)
    candidate = filled(store, vector_spec(method_version=9), promote=False)
    survey = store.retaining.survey(Retention(1))
    assert survey.garbage == []
    assert survey.kept == {
        source.version: f"read by {reader.version}",
        candidate.version: "a candidate",
    }
    assert going(store, 1, older_than=timedelta(days=1)) == []


def test_what_a_removal_left_when_it_was_cut_short_goes_next_time(store: Store):
    first, second = editions(store, 2)
    store._versions.remove(first)  # as by a process that died right after the record was gone
    survey = store.retaining.survey(Retention(1))
    assert [(one.kind, one.name) for one in survey.garbage] == [("leftover", f"{first.table}.lance")]
    store.retaining.collect(survey)
    assert tables(store) == {f"{second.table}.lance"}
    answers = Path(store.uri) / "_requests" / ("ab" * 32)
    answers.mkdir(parents=True)
    (answers / "one.json").write_text("{}")
    assert going(store, 1) == [f"_requests/{'ab' * 32}"]


def test_a_job_keeps_as_many_versions_as_it_says(tmp_path):
    uri, table = str(tmp_path / "store"), unrayed.write_dataset(tmp_path / "items.csv", 0)
    for edition in (1, 2, 3):
        report = unrayed.run_once(uri, table, {"keep": {"versions": 2}}, edition=edition)
    assert len(report.removed) == 2
    counts = [len(Store.open(uri).versions(spec.name)) for spec in unrayed.specs()]
    assert counts == [2, 2]


def test_gc_says_what_would_go_and_removes_it_only_with_yes(run, tmp_path):
    store = Store.open(str(tmp_path / "store"), create=True)
    with store.lease("test"):
        first, _ = editions(store, 2)
    where = ("--store", store.uri)
    code, out, _ = run("gc", "--keep", "1", *where)
    assert code == 0 and first.version in out and "Nothing is removed without --yes" in out
    assert len(mmfeat.open(store.uri).status()) == 2
    code, out, _ = run("gc", "--keep", "1", "--yes", *where, "--json")
    told = json.loads(out)
    assert (code, told["removed"], [one["name"] for one in told["garbage"]]) == (0, True, [first.version])
    assert told["freed_bytes"] > 1_000
    assert len(mmfeat.open(store.uri).status()) == 1
    for words in (
        ["--keep", "0"],
        ["--keep", "1", "--older-than", "soon"],
        ["--keep", "1", "--yes", "--dry-run"],
        [],
    ):
        code, _, err = run("gc", *words, *where)
        assert (code, "Traceback" in err) == (2, False)
