"""`mmfeat evaluate` from a store to words and JSON."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from helpers.interaction_rows import interactions_of
from helpers.storing import make_rows, text_spec, token_spec, vector_spec
from helpers.taste import stored, world

import mmfeat
from mmfeat.evaluate.leak import LeakCheck
from mmfeat.evaluate.protocols.profile import Profile
from mmfeat.schemas.errors import ConfigError, UsageError
from mmfeat.schemas.outputs import CodesOut


@pytest.fixture(scope="module")
def uri(tmp_path_factory) -> str:
    """Sound shows the taste and a title does not; a caption is there too."""
    made = world("sound", 2)
    chosen = {name: made.vectors[name] for name in ("sound", "title")}
    store = stored(made, str(tmp_path_factory.mktemp("evaluated") / "features"), chosen)
    spec = text_spec()
    with store.lease("test"):
        texts = [f"a picture of {i}" for i in made.ids]
        store.commit(store.add_version(spec), make_rows(spec, made.ids, texts), replace=False)
    return store.uri


def test_the_command_tells_the_verdict_the_controls_and_which_feature_is_better(run, uri):
    code, out, err = run("evaluate", "--store", uri)
    assert code == 0
    words = " ".join(out.split())
    assert "It tells something of taste by probe, item_item and profile" in words
    assert "It tells no more of taste than its own rows at other items" in words
    assert "popularity has" in words and "item-kNN has" in words and "p < 0.001" in words
    assert "probe, item_item and profile prefer sound@" in words
    assert "250 users can be judged" in words
    assert "profile: sound@" in err  # progress


def test_json_holds_what_the_words_say(run, uri):
    code, out, _ = run("evaluate", "sound", "--protocols", "probe,profile", "--store", uri, "--json")
    found = json.loads(out)
    assert code == 0 and found["judged"] == 250 and not found["interrupted"]
    (one,) = found["features"]
    assert set(one["findings"]) == {"probe", "profile"}
    probe = one["findings"]["probe"]
    assert probe["holds"] and probe["lift"]["p"] < 0.001 and probe["lift"]["effect"] > 5
    estimate = probe["metrics"]["auc"]
    assert estimate["low"] < estimate["mean"] < estimate["high"] and estimate["cases"] > 100
    assert (
        abs(probe["shuffled"]["auc"]["mean"] - 0.5) < 0.05 and abs(probe["random"]["auc"]["mean"] - 0.5) < 0.1
    )
    assert (
        "cold" in one["findings"]["profile"]["slices"]
        and "short text" in one["findings"]["profile"]["slices"]
    )
    assert set(found["baselines"]["profile"]) == {"popularity", "item-kNN"}


def test_python_gives_the_same_figures_as_the_command(uri, run):
    opened = mmfeat.open(uri)
    found = opened.evaluate(["sound"], protocols=("probe",))
    _, out, _ = run("evaluate", "sound", "--protocols", "probe", "--store", uri, "--json")
    told = json.loads(out)
    assert {**found.to_dict(), "seconds": 0} == {**told, "seconds": 0}


def test_ctrl_c_leaves_the_protocols_that_are_finished(run, uri, monkeypatch):
    def stop(self, feature):
        raise KeyboardInterrupt

    monkeypatch.setattr(Profile, "judge", stop)
    code, out, _ = run("evaluate", "sound", "--store", uri, "--json")
    found = json.loads(out)
    assert code == 130 and found["interrupted"]
    assert set(found["features"][0]["findings"]) == {"probe", "item_item"}
    assert "profile was not finished" in found["notes"]


def test_ctrl_c_while_it_looks_for_leaks_says_that_no_check_was_made(uri, monkeypatch):
    def stop(self, feature):
        raise KeyboardInterrupt

    monkeypatch.setattr(LeakCheck, "__call__", stop)
    found = mmfeat.open(uri).evaluate(["sound"])
    assert found.interrupted and not found.features[0].findings
    assert "no check for leaks was made: it was stopped" in found.notes


def test_what_cannot_be_evaluated_is_refused_with_what_to_do(uri, tmp_path):
    opened = mmfeat.open(uri)
    with pytest.raises(UsageError, match="holds texts") as error:
        opened.evaluate(["caption"])
    assert "an encoder" in (error.value.hint or "")
    with pytest.raises(UsageError, match="no protocol 'porfile'") as error:
        opened.evaluate(["sound"], protocols=("porfile",))
    assert "profile" in (error.value.hint or "")
    with pytest.raises(ConfigError, match="users"):
        opened.evaluate(["sound"], users=1)
    made = world("sound", 2)
    store = stored(made, str(tmp_path / "alone"))
    with store.lease("test"):
        store.put_interactions(None)
    with pytest.raises(UsageError, match="holds no interactions") as error:
        mmfeat.open(store.uri).evaluate(["sound"])
    assert "interactions" in (error.value.hint or "")


def test_drawn_users_are_told_and_drawn_the_same_each_time(uri):
    opened = mmfeat.open(uri)
    first, second = (opened.evaluate(["sound"], protocols=("profile",), users=40) for _ in range(2))
    assert first.features == second.features
    assert first.features[0].findings["profile"].metrics["hr@10"].cases == 40
    assert any("40 of 250 users were drawn by seed 0" in note for note in first.notes)


def test_codes_and_any_number_of_vectors_are_judged_by_what_can_judge_them(tmp_path):
    made = world("sound", 2)
    store = stored(made, str(tmp_path / "features"), {"sound": made.vectors["sound"]})
    codes = CodesOut(levels=3, codebook_size=64)
    coded = vector_spec("codes").model_copy(update={"output": codes})
    late = token_spec("late", dims=16, dtype="float32")
    with store.lease("test"):
        # Signs of the directions in which the vectors differ most: the first code is the coarsest.
        centred = made.vectors["sound"] - made.vectors["sound"].mean(axis=0)
        along = centred @ np.linalg.svd(centred)[2].T[:, :3]
        store.commit(
            store.add_version(coded),
            make_rows(coded, made.ids, list((along > 0).astype(np.int32))),
            replace=False,
        )
        several = [np.stack([v] * (1 + k % 3)) for k, v in enumerate(made.vectors["sound"])]
        store.commit(store.add_version(late), make_rows(late, made.ids, several), replace=False)
    found = mmfeat.open(store.uri).evaluate()
    by_name = {one.version.partition("@")[0]: one.findings for one in found.features}
    assert set(by_name["codes"]) == {"item_item", "profile"}
    assert all(finding.holds for findings in by_name.values() for finding in findings.values())
    # The mean of equal vectors is the vector.
    metrics = [by_name[name]["profile"].metrics["hr@10"].mean for name in ("sound", "late")]
    assert metrics[0] == pytest.approx(metrics[1])


def test_items_without_a_value_in_one_of_the_features_are_left_out_of_all(tmp_path):
    made = world("sound", 2)
    store = stored(made, str(tmp_path / "features"), {"sound": made.vectors["sound"]})
    with store.lease("test"):
        spec = store.resolve("sound").spec.model_copy(update={"name": "part"})
        values = [None if k < 7 else v for k, v in enumerate(made.vectors["title"])]
        store.commit(store.add_version(spec), make_rows(spec, made.ids, values), replace=False)
    found = mmfeat.open(store.uri).evaluate(protocols=("probe",))
    assert (found.items, found.left_out) == (143, 7)
    assert "7 items without a value in all features are left out" in found.notes
    told = {one.version.partition("@")[0]: (one.lacking, one.verdict) for one in found.features}
    assert told["part"][0] == 7 and "no value for 7 items, and is judged by 143 others" in told["part"][1]
    assert told["sound"][0] == 0 and "no value" not in told["sound"][1]


def test_interactions_with_items_that_the_catalog_does_not_have_are_counted(tmp_path):
    made = world("sound", 2)
    store = stored(made, str(tmp_path / "features"), {"sound": made.vectors["sound"]})
    strange = interactions_of((f"u{k}", f"sku-{k}", k) for k in range(40))
    with store.lease("test"):
        store.put_interactions(pa.concat_tables([made.table(), strange]))
    found = mmfeat.open(store.uri).evaluate(protocols=("profile",))
    words = "40 of 2,040 interactions are with items that the catalog does not have, such as 'sku-0', and are"
    assert any(note.startswith(words) for note in found.notes)
    assert found.interactions == 2_000
    with store.lease("test"):
        store.put_interactions(strange)
    with pytest.raises(UsageError, match="All 40 interactions are with items that the catalog does not") as e:
        mmfeat.open(store.uri).evaluate()
    assert "the same ids" in (e.value.hint or "")


def test_interactions_with_items_without_a_value_are_told_apart_from_too_few(tmp_path):
    made = world("sound", 2)
    store = stored(made, str(tmp_path / "features"), {"sound": made.vectors["sound"]})
    with store.lease("test"):
        spec = store.resolve("sound").spec.model_copy(update={"name": "part"})
        values = [v if k < 20 else None for k, v in enumerate(made.vectors["title"])]
        store.commit(store.add_version(spec), make_rows(spec, made.ids, values), replace=False)
        store.put_interactions(interactions_of((f"u{k}", f"i{20 + k % 100}", k) for k in range(300)))
    with pytest.raises(UsageError, match=r"None of the 300 interactions is with one of the 20 items that"):
        mmfeat.open(store.uri).evaluate(["part"])
