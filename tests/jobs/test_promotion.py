"""A version becomes current when all gates of its job hold, together with the others; and back."""

from __future__ import annotations

import json
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
from helpers import unrayed
from helpers.storing import make_rows, text_spec, vector_spec, vectors

import mmfeat
from mmfeat.datasets.base import build_items
from mmfeat.pipelines.steps.gates import Gates
from mmfeat.schemas.errors import ConfigError, GateFailed, StoreError, UsageError
from mmfeat.schemas.operations import GatesConfig
from mmfeat.store import Store
from mmfeat.store.promotion import Promotion


@pytest.fixture
def table(tmp_path) -> Path:
    return unrayed.write_dataset(tmp_path / "items.csv", 0)


@pytest.fixture
def uri(tmp_path) -> str:
    return str(tmp_path / "store")


def versions(edition: int) -> list[str]:
    """Of the features of :func:`unrayed.run_once`; another edition has other versions."""
    return [spec.version for spec in unrayed.specs(edition)]


def states(uri: str) -> dict[str, str]:
    return {f.version: f.state for f in mmfeat.open(uri).status()}


def current(uri: str) -> list[str]:
    return sorted(f.version for f in mmfeat.open(uri).status() if f.current)


def test_a_run_that_passes_makes_its_versions_current_and_says_which(uri, table):
    first, second = versions(1), versions(2)
    assert unrayed.run_once(uri, table).promoted == first
    assert unrayed.run_once(uri, table).promoted == []
    assert unrayed.run_once(uri, table, edition=2).promoted == second
    assert states(uri) == {
        first[0]: "previous", second[0]: "current", first[1]: "previous", second[1]: "current",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("tables", "options", "said"),
    [
        ({"gates": {"min_coverage": 0.95}}, {}, "min_coverage is 0.9167, not at least 0.95"),
        ({}, {"max_failed": 0.05}, "8.3% of the rows failed, more than 5.0%"),
    ],
    ids=["a gate", "too many failures"],
)
def test_one_feature_that_falls_short_keeps_all_versions_of_the_job_candidates(
    uri, table, tables, options, said
):
    unrayed.run_once(uri, table)
    before, second = current(uri), versions(2)
    with pytest.raises(GateFailed, match=said) as caught:
        unrayed.run_once(uri, table, tables, edition=2, **options)
    assert caught.value.exit_code == 3
    assert current(uri) == before
    assert {states(uri)[version] for version in second} == {"candidate"}
    # What was computed is kept: another run under a lower gate has nothing to do but to promote.
    report = unrayed.run_once(uri, table, {"gates": {"min_coverage": 0.9}}, edition=2)
    assert (report.computed, report.promoted) == (0, second)


def test_a_candidate_is_readable_by_its_fingerprint_and_not_by_its_name(uri, table):
    unrayed.run_once(uri, table)
    old, new = unrayed.specs(1)[0].fingerprint, versions(2)[0]
    with pytest.raises(GateFailed):
        unrayed.run_once(uri, table, {"gates": {"min_coverage": 0.99}}, edition=2)
    store = mmfeat.open(uri)
    assert store.lookup(["item-001"], [new])["title_vector"].mask.tolist() == [True]
    assert store.lookup(["item-001"], ["title_vector"])["title_vector"].spec.fingerprint == old


def test_the_first_version_of_all_that_falls_short_can_be_read_by_its_fingerprint(uri, table):
    with pytest.raises(GateFailed):
        unrayed.run_once(uri, table, {"gates": {"min_coverage": 0.99}})
    version = versions(1)[1]
    assert states(uri)[version] == "candidate"
    assert mmfeat.open(uri).lookup(["item-001"], [version])["caption"].mask.tolist() == [True]


def test_the_record_of_a_run_says_which_gates_it_passed_and_what_it_promoted(uri, table):
    unrayed.run_once(uri, table, {"gates": {"min_coverage": 0.9}})
    (record,) = mmfeat.open(uri).runs()
    assert record["report"]["promoted"] == versions(1)
    gates = {gate["version"]: (gate["gate"], gate["passed"]) for gate in record["report"]["gates"]}
    assert gates == dict.fromkeys(versions(1), ("min_coverage", True))


def test_a_rollback_of_several_features_is_one_transaction_and_no_run_undoes_it(uri, table):
    unrayed.run_once(uri, table)
    first, second = current(uri), versions(2)
    unrayed.run_once(uri, table, edition=2)
    before = lance.dataset(f"{uri}/_current.lance").version
    assert mmfeat.open(uri).lifecycle.rollback(["caption", "title_vector"]) == first
    assert lance.dataset(f"{uri}/_current.lance").version == before + 1
    assert {states(uri)[version] for version in second} == {"rolled back"}
    report = unrayed.run_once(uri, table, edition=2)
    assert (report.promoted, current(uri)) == ([], first)
    assert "was rolled back and stays so" in report.notices[0]
    assert mmfeat.open(uri).lifecycle.promote(second) == second
    assert current(uri) == sorted(second)


def test_rollbacks_go_back_one_version_at_a_time_and_then_say_that_there_is_none(store: Store):
    made = []
    for number in (1, 2, 3):
        made.append(store.add_version(vector_spec(method_version=number)))
        store.promotion.promote(made[-1:])
    assert store.promotion.rollback(["clip_image"]) == [made[1]]
    assert store.promotion.rollback(["clip_image"]) == [made[0]]
    with pytest.raises(UsageError, match="no version to go back to"):
        store.promotion.rollback(["clip_image"])
    assert Store.open(store.uri).current() == {"clip_image": made[0].fingerprint}


def test_a_promotion_or_rollback_of_several_that_cannot_be_done_for_one_changes_nothing(store: Store):
    old, new = (store.add_version(vector_spec(method_version=n)) for n in (1, 2))
    alone = store.add_version(vector_spec("other"))
    for version in (old, new, alone):
        store.promotion.promote([version])
    with pytest.raises(UsageError, match="'other' has no version to go back to"):
        store.promotion.rollback(["clip_image", "other"])
    assert store.current()["clip_image"] == new.fingerprint


def test_a_store_from_before_there_was_a_history_is_read_and_gets_one(store: Store):
    old, new = (store.add_version(vector_spec(method_version=n)) for n in (1, 2))
    rows = pa.table({"name": ["clip_image"], "fingerprint": [old.fingerprint]})
    lance.write_dataset(rows, f"{store.uri}/_current.lance")
    store.refresh()
    assert store.promotion.state_of(old) == "current"
    store.promotion.promote([new])
    assert store.promotion.rollback(["clip_image"]) == [old]


def test_of_a_snapshot_nothing_can_be_promoted(store: Store):
    version = store.add_version(vector_spec())
    store.create_snapshot("then")
    with pytest.raises(StoreError, match="is there to read"):
        Promotion.promote(store.at("then").promotion, [version])


def test_drift_is_measured_against_the_current_version_and_only_then(store: Store):
    ids = [f"i{n:02d}" for n in range(40)]
    store.put_catalog(build_items(ids, {}), {"name": "test", "root": ""})
    values = vectors(40, dims=8, dtype="float32", seed=1)
    flipped = values.copy()
    flipped[:10] *= -1  # cosine -1 for a quarter: the mean is 0.5
    old, new = (store.add_version(vector_spec(dims=8, dtype="float32", method_version=n)) for n in (1, 2))
    for version, matrix in ((old, values), (new, flipped)):
        store.commit(version, make_rows(version.spec, ids, list(matrix)), replace=False)
    gates = Gates(GatesConfig(min_mean_cosine=0.9, min_neighbour_overlap=0.99))
    assert gates.judge(store, [old]) == []
    store.promotion.promote([old])
    assert gates.judge(store, [old]) == []
    cosine, overlap = gates.judge(store, [new])
    assert cosine.value == pytest.approx(0.5, abs=1e-6)
    assert overlap.value is not None and 0.3 < overlap.value < 0.9
    assert not cosine.passed and not overlap.passed
    # The same vectors turned have another cosine and the same neighbours.
    turned = store.add_version(vector_spec(dims=8, dtype="float32", method_version=3))
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0].astype(np.float32)
    store.commit(turned, make_rows(turned.spec, ids, list(values @ rotation)), replace=False)
    cosine, overlap = gates.judge(store, [turned])
    assert not cosine.passed
    assert overlap.passed and overlap.value == pytest.approx(1.0, abs=0.02)


def test_a_cosine_between_vectors_of_other_lengths_falls_short_and_says_what_to_measure(store: Store):
    store.put_catalog(build_items(["a"], {}), {"name": "test", "root": ""})
    old = store.add_version(vector_spec(dims=4))
    new = store.add_version(vector_spec(dims=8))
    for version in (old, new):
        rows = make_rows(version.spec, ["a"], [np.ones(version.spec.dims, np.float16)])
        store.commit(version, rows, replace=False)
    store.promotion.promote([old])
    (gate,) = Gates(GatesConfig(min_mean_cosine=0.5)).judge(store, [new])
    assert (gate.passed, gate.value) == (False, None)
    assert "8 dims have no cosine; see min_neighbour_overlap" in str(gate)


def test_the_caption_reports_gates_are_judged_for_captions(store: Store, tmp_path):
    version = store.add_version(text_spec())
    ids = [f"i{n}" for n in range(6)]
    store.put_catalog(build_items(ids, {}), {"name": "test", "root": ""})
    store.commit(version, make_rows(version.spec, ids, [f"a red cup {n}" for n in ids]), replace=False)
    path = tmp_path / "gates.toml"
    path.write_text("[gates]\nmin_mean_words = 50\nmin_ok_share = 0.9\n")
    short, passed = Gates(GatesConfig(captions=str(path))).judge(store, [version])
    assert str(short) == f"{version.version}: captions.min_mean_words is 4, not at least 50"
    assert (passed.gate, passed.passed) == ("captions.min_ok_share", True)


def test_gates_that_cannot_be_judged_are_refused_before_any_work(uri, table, tmp_path):
    with pytest.raises(ConfigError, match="There is no file"):
        unrayed.run_once(uri, table, {"gates": {"captions": str(tmp_path / "none.toml")}})
    vectors_alone = {"title_vector": unrayed.features()["title_vector"]}
    gates = {"captions": str(tmp_path / "none.toml")}
    with pytest.raises(ConfigError, match="this job makes no captions"):
        unrayed.run_once(uri, table, {"gates": gates, "features": vectors_alone})
    assert not Path(uri).exists()


def test_the_commands_promote_and_roll_back_and_status_shows_it(run, uri):
    store = Store.open(uri, create=True)
    with store.lease("test"):
        old, new = (store.add_version(vector_spec(method_version=n)) for n in (1, 2))
        store.promotion.promote([old])
    where = ("--store", uri)
    code, out, _ = run("promote", new.version, *where, "--json")
    assert (code, json.loads(out)) == (0, {"promoted": [new.version]})
    code, out, _ = run("status", *where, "--json")
    shown = {f["version"]: f["state"] for f in json.loads(out)["features"]}
    assert shown == {old.version: "previous", new.version: "current"}
    code, out, _ = run("rollback", "clip_image", *where)
    assert (code, out.strip()) == (0, f"Current again: {old.version}.")
    kinds = [record["kind"] for record in mmfeat.open(uri).runs()]
    assert kinds == ["promote", "rollback"]
    for words, said in [
        (("promote", "clip_image"), "names no version"),
        (("promote", "clip_image@ffffffff"), "There is no version"),
        (("promote", old.version, new.version), "several are named"),
        (("rollback", old.version), "takes a feature's name"),
        (("rollback", "nothing"), "There is no feature 'nothing'"),
        (("rollback", "clip_image"), "no version to go back to"),
    ]:
        code, _, err = run(*words, *where)
        assert (code, said in err, "Traceback" in err) == (2, True, False), err
