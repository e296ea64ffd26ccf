"""Transforms as features of a job: fitted once, applied to new items, gated, promoted and searched like
others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import unrayed
from helpers.plugins import on_path
from transform_jobs import TITLES, N, bits_of, run, vectors_of

import mmfeat
from mmfeat import api
from mmfeat.schemas.errors import ConfigError, UsageError
from mmfeat.store import Store

SMALL = {"source": "text", "transform": "pca", "dims": 3}
FUSED = {"inputs": ["text", "other"], "transform": "fuse"}


@pytest.fixture(autouse=True)
def digests() -> Iterator[None]:
    """The encoder ``digest``: a text's vector are the bytes of its digest."""
    with on_path(unrayed.PLUGIN):
        yield


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def feature(report, name):
    return next(f for f in report.features if f.version.partition("@")[0] == name)


def test_a_run_makes_a_transform_and_says_how_much_variance_it_keeps(uri):
    report = run(uri, {**TITLES, "none": "", "broken": "a broken title"}, {"small": SMALL})
    small, text = feature(report, "small"), feature(report, "text")
    assert (small.kind, small.dims, small.ok, small.missing, small.failed) == ("vector", 3, N, 1, 1)
    assert small.fitted["now"] is True and small.fitted["source"] == text.version
    assert 0 < small.fitted["quality"]["variance_kept"] < 1
    assert small.fitted["quality"]["fitted_on"] == N
    (record,) = mmfeat.open(uri).runs()
    logged = Store.open(uri).logs.of(record["run_id"])
    assert any("variance_kept 0." in line and "fitted_on 24" in line for line in map(str, logged))
    assert small.version in report.promoted
    assert set(vectors_of(uri, "small")) == set(TITLES)
    reason = mmfeat.open(uri).lookup(["broken"], ["small"])["small"].reason[0]
    assert reason == "text failed for this item"


def test_a_second_run_fits_nothing_and_new_items_are_transformed_by_what_was_fitted(uri):
    first = run(uri, TITLES, {"small": SMALL})
    before = bits_of(uri, "small")
    again = run(uri, {**TITLES, "twin": TITLES["item-03"], "new": "a new title"}, {"small": SMALL})
    small = feature(again, "small")
    assert (small.version, small.ok, small.fitted["now"]) == (feature(first, "small").version, 2, False)
    after = bits_of(uri, "small")
    assert {i: after[i] for i in before} == before
    assert after["twin"] == before["item-03"]
    third = feature(
        run(uri, {**TITLES, "twin": TITLES["item-03"], "new": "a new title"}, {"small": SMALL}), "small"
    )
    assert (third.ok, third.up_to_date) == (0, N + 2)


def test_a_changed_title_changes_the_vector_of_its_item_alone(uri):
    run(uri, TITLES, {"small": SMALL})
    before = bits_of(uri, "small")
    report = run(uri, {**TITLES, "item-00": TITLES["item-05"]}, {"small": SMALL})
    assert feature(report, "small").ok == 1
    assert bits_of(uri, "small") == {**before, "item-00": before["item-05"]}


def test_refit_makes_a_new_version(uri):
    first = feature(run(uri, TITLES, {"small": SMALL}), "small")
    more = {**TITLES, **{f"more-{n}": f"another {n}" for n in range(9)}}
    again = feature(run(uri, more, {"small": SMALL}, run={"refit": ["small"]}), "small")
    assert again.fitted["now"] is True and again.version != first.version
    assert len(Store.open(uri).versions("small")) == 2


def test_another_version_of_an_input_makes_a_new_version_that_reads_it(uri):
    first = run(uri, TITLES, {"small": SMALL})
    other = run(uri, TITLES, {"small": SMALL}, edition=2)
    store = Store.open(uri)
    for report in (first, other):
        read = store.resolve(feature(report, "small").version).spec.upstreams["text"]
        assert read == store.resolve(feature(report, "text").version).fingerprint


def test_transforms_read_transforms_and_codes_read_them(uri):
    codes = {"source": "small", "quantizer": "residual_kmeans", "levels": 2, "codebook_size": 4}
    features = {"codes": codes, "small": {**SMALL, "source": "whole"}, "whole": FUSED}
    report = run(uri, TITLES, features)
    assert [feature(report, name).ok for name in ("codes", "small", "whole")] == [N, N, N]
    store = Store.open(uri)
    assert store.resolve("codes").spec.upstreams["small"] == store.resolve("small").fingerprint
    again = run(uri, TITLES, features)
    assert [feature(again, name).ok for name in ("codes", "small", "whole")] == [0, 0, 0]


def test_a_fused_feature_is_looked_up_searched_and_exported_like_any_other(uri, tmp_path):
    run(uri, {**TITLES, "twin": TITLES["item-03"]}, {"whole": FUSED})
    store = mmfeat.open(uri)
    assert [hit.item_id for hit in store.search("whole", item="item-03", k=1)] == ["twin"]
    store.export("npy", tmp_path / "out", features=["whole"])
    assert np.load(tmp_path / "out" / "whole.npy").shape == (
        N + 1,
        store.lookup(features=["whole"])["whole"].matrix.shape[1],
    )


def test_an_item_that_lacks_an_optional_input_is_fused_without_it(uri):
    titles = {**TITLES, "bare": "a title"}
    fused = {**FUSED, "inputs": ["text", "tags_text?"], "scale": "unit"}
    own = {"tags_text": {"source": "description", "encoder": "digest"}}
    table = run(uri, titles, {"whole": fused, **own})
    assert feature(table, "whole").ok == N + 1
    part = next(iter(vectors_of(uri, "text").values())).shape[0]
    whole = vectors_of(uri, "whole")["bare"]
    assert np.linalg.norm(whole[:part]) == pytest.approx(1) and np.linalg.norm(whole[part:]) == pytest.approx(
        1
    )


def test_fitting_on_training_items_does_not_see_the_others(uri, tmp_path):
    days = [f"u{n},item-{n:02d},2023-01-{n + 1:02d}" for n in range(N)]
    (tmp_path / "i.csv").write_text("\n".join(["user_id,item_id,timestamp", *days]) + "\n")
    interactions = {"interactions": {"file": str(tmp_path / "i.csv")}}
    early = {"fit_on": "train", "split": "time:2023-01-13,2023-01-20"}
    report = run(uri, TITLES, {"small": {**SMALL, **early}}, dataset=interactions)
    assert feature(report, "small").fitted["quality"]["fitted_on"] == 12
    # Fitted to these twelve alone it is the same: nothing of the others was seen.
    (tmp_path / "alone").mkdir()
    alone = str(tmp_path / "alone" / "store")
    run(alone, {i: t for i, t in TITLES.items() if i < "item-12"}, {"small": SMALL})
    there, whole = bits_of(alone, "small"), bits_of(uri, "small")
    assert (len(there), set(whole)) == (12, set(TITLES))
    assert there == {i: whole[i] for i in there}


def test_fitting_on_training_items_needs_interactions_and_a_split(uri):
    with pytest.raises(ConfigError, match="split is given for fit_on"):
        run(uri, TITLES, {"small": {**SMALL, "fit_on": "train"}})
    with pytest.raises(UsageError, match="no split 'soon'"):
        run(uri, TITLES, {"small": {**SMALL, "fit_on": "train", "split": "soon"}})
    with pytest.raises(UsageError, match="the store has no interactions"):
        run(uri, TITLES, {"small": {**SMALL, "fit_on": "train", "split": "leave-one-out"}})


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({**SMALL, "dims": 99}, "has .* dims, so 99 cannot be kept"),
        ({**SMALL, "source": "title"}, "cannot read 'title'"),
        ({**FUSED, "inputs": ["text"]}, "two features or more"),
        ({**FUSED, "weights": [1.0, 2.0, 3.0]}, "3 weights are given for 2 inputs"),
        ({**FUSED, "inputs": ["text", "short"], "mode": "sum"}, "same dims"),
        ({"source": "text", "transform": "int8", "rule": "floor"}, "rule"),
    ],
)
def test_what_no_transform_can_do_is_said_before_anything_is_computed(uri, table, said):
    short = {"short": {"source": "other", "transform": "truncate", "dims": 2}}
    with pytest.raises(ConfigError, match=said):
        run(uri, TITLES, {"made": table, **short})
    assert not Path(uri).exists()


def test_forgetting_removes_what_was_fitted_and_the_next_run_fits_anew(uri):
    features = {"small": SMALL, "cut": {"source": "text", "transform": "truncate", "dims": 4}}
    first = run(uri, TITLES, features)
    before = {name: bits_of(uri, feature(first, name).version) for name in features}
    store = mmfeat.open(uri)
    store.forget(["item-01"], "asked")
    small = feature(first, "small").version
    assert Store.open(uri).codebooks(Store.open(uri).resolve(small).fingerprint) is None
    again = run(uri, TITLES, features)
    assert feature(again, "small").version != small
    # Nothing was fitted to be cut: its version goes on.
    assert feature(again, "cut").version == feature(first, "cut").version
    for name in features:
        left = {i: bits for i, bits in before[name].items() if i != "item-01"}
        assert bits_of(uri, feature(first, name).version) == left


def test_a_transform_does_not_go_back_to_what_a_refit_replaced_without_a_word(uri):
    features, more = {"small": SMALL}, {**TITLES, "more": "another title"}
    run(uri, TITLES, features)
    run(uri, more, features)
    second = feature(run(uri, more, features, run={"refit": ["small"]}), "small").version
    mmfeat.open(uri).forget(["more"], "asked")
    report = run(uri, TITLES, features)
    assert feature(report, "small").fitted["now"]
    assert any(f"what {second} was made with went with forgotten" in said for said in report.notices)


def test_a_vector_without_direction_fails_with_the_reason_and_is_not_computed_again(uri):
    run(uri, TITLES, {})
    vectors = np.random.default_rng(0).standard_normal((N, 4)).astype(np.float32)
    vectors[:2, :2] = 0
    ids = list(TITLES)
    api.import_vectors("given", vectors, ids=ids, store=uri)
    api.import_vectors("more", vectors[2:] + 1, ids=ids[2:], store=uri)
    features = {
        "cut": {"source": "given", "transform": "truncate", "dims": 2},
        "sum": {"inputs": ["given", "more?"], "transform": "fuse", "mode": "sum", "weights": [0.0, 1.0]},
    }
    for committed in (N, 0):
        report = run(uri, TITLES, features)
        for name in features:
            made = feature(report, name)
            assert (made.ok, made.failed) == ((N - 2, 2) if committed else (0, 0))
            assert made.up_to_date == N - committed
    why = {"stage": "transform", "reason": "all numbers of its vector are 0, so it has no direction"}
    for name in features:
        assert set(vectors_of(uri, name)) == set(ids[2:])
        failed = Store.open(uri).failures(Store.open(uri).resolve(name)).to_pylist()
        assert failed == [{"item_id": item_id, **why} for item_id in ids[:2]]


@pytest.mark.parametrize("name", ["whole", "small"])
def test_an_export_refuses_what_reads_an_older_version_however_far_below(uri, tmp_path, name):
    run(uri, TITLES, {"small": {**SMALL, "source": "whole"}, "whole": FUSED})
    run(uri, TITLES, {}, edition=2)
    store, whole = mmfeat.open(uri), Store.open(uri).resolve("whole").version
    with pytest.raises(UsageError) as caught:
        store.export("npy", tmp_path / "out", features=[name])
    assert whole in caught.value.message and "it reads text@" in caught.value.message
    assert "name their version: " in caught.value.hint
    version = Store.open(uri).resolve(name).version
    assert store.export("npy", tmp_path / "out", features=[version]).items == N
    # Status says the same of both.
    stale = [one.version for one in mmfeat.open(uri).status() if "it reads text@" in one.stale]
    assert [version.partition("@")[0] for version in stale] == ["small", "whole"]


def test_codes_with_a_collision_level_take_a_new_item_without_a_vector(uri):
    codes = {"source": "text", "quantizer": "residual_kmeans", "levels": 2, "codebook_size": 4}
    features = {"codes": {**codes, "collision_level": True}}
    run(uri, TITLES, features)
    again = feature(run(uri, {**TITLES, "none": ""}, features), "codes")
    assert (again.ok, again.missing, again.failed) == (0, 1, 0)
