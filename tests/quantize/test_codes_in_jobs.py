"""Codes as a feature of a job: planned, gated, promoted and rolled back with the others, fitted once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import unrayed
from helpers.plugins import on_path

import mmfeat
from mmfeat import api
from mmfeat.pipelines.run import run_job
from mmfeat.pipelines.run_report import RunReport
from mmfeat.schemas.errors import ConfigError, GateFailed
from mmfeat.schemas.job import parse_job
from mmfeat.store import Store

N = 24
TITLES = {f"item-{n:02d}": f"title {n}" for n in range(N)}
CODES = {"source": "title_text", "quantizer": "residual_kmeans", "levels": 2, "codebook_size": 8}


@pytest.fixture(autouse=True)
def digests() -> Iterator[None]:
    """The encoder ``digest``: a text's vector are the bytes of its digest."""
    with on_path(unrayed.PLUGIN):
        yield


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def write(folder: Path, titles: dict[str, str]) -> Path:
    lines = [f"{item_id},{title}" for item_id, title in titles.items()]
    path = folder / "items.csv"
    path.write_text("\n".join(["item_id,title", *lines]) + "\n")
    return path


def run(uri: str, titles: dict[str, str], *, edition: int = 1, codes: Any = None, **tables: Any) -> RunReport:
    """The job over a dataset with these titles; another edition has other vectors."""
    title_text = {"source": "title", "encoder": "digest", "edition": edition}
    job = {
        "store": {"uri": uri},
        "dataset": {"name": "table", "root": str(write(Path(uri).parent, titles))},
        # Written in the other order than they are made in.
        "features": {"codes": codes or CODES, "title_text": title_text},
        "run": {"max_failed": 1.0, **tables.pop("run", {})},
        **tables,
    }
    return run_job(parse_job(job, "job.toml"))


def codes_of(uri: str, ref: str = "codes") -> dict[str, tuple[int, ...]]:
    """Of the items that have any."""
    found = mmfeat.open(uri).lookup(features=[ref])
    column = next(iter(found.values()))
    return {i: tuple(column.matrix[k].tolist()) for k, i in enumerate(found.ids) if column.mask[k]}


def current(uri: str) -> dict[str, str]:
    return {f.version.partition("@")[0]: f.version for f in mmfeat.open(uri).status() if f.current}


def test_a_run_makes_vectors_and_their_codes_and_makes_both_current_together(uri):
    report = run(uri, {**TITLES, "none": "", "broken": "a broken title"})
    title_text, codes = report.features
    assert (title_text.source, codes.source, codes.kind, codes.dims) == ("title", "title_text", "codes", 2)
    assert (codes.ok, codes.missing, codes.failed, codes.up_to_date) == (N, 1, 1, 0)
    assert codes.fitted["now"] is True and codes.fitted["source"] == title_text.version
    assert codes.fitted["quality"]["relative_mse"] > 0
    assert report.promoted == [title_text.version, codes.version]
    assert current(uri) == {"title_text": title_text.version, "codes": codes.version}
    assert set(codes_of(uri)) == set(TITLES)
    (record,) = mmfeat.open(uri).runs()
    assert record["report"]["features"][1]["version"] == codes.version
    # What is to be fitted has no version before that.
    assert record["versions"] == [title_text.version, "codes"]


def test_a_second_run_computes_and_fits_nothing(uri):
    first, again = run(uri, TITLES), run(uri, TITLES)
    assert again.features[1].fitted["now"] is False
    assert (again.computed, again.features[1].up_to_date, again.features[1].ok) == (0, N, 0)
    assert (again.features[1].version, again.promoted) == (first.features[1].version, [])


def test_new_items_get_codes_of_the_same_codebooks_and_no_new_version(uri):
    first = run(uri, TITLES)
    before = codes_of(uri)
    # One more with the title of another, and one with a title of its own.
    again = run(uri, {**TITLES, "twin": TITLES["item-03"], "new": "a new title"})
    assert (again.features[1].version, again.features[1].ok) == (first.features[1].version, 2)
    assert again.features[1].fitted["now"] is False
    after = codes_of(uri)
    assert {i: after[i] for i in before} == before
    assert after["twin"] == before["item-03"]
    assert len(Store.open(uri).versions("codes")) == 1


def test_a_changed_title_changes_the_codes_of_its_item_alone(uri):
    first = run(uri, TITLES)
    before = codes_of(uri)
    again = run(uri, {**TITLES, "item-00": TITLES["item-05"]})
    assert (again.features[1].version, again.features[1].ok) == (first.features[1].version, 1)
    assert codes_of(uri) == {**before, "item-00": before["item-05"]}


def test_the_collision_level_keeps_the_numbers_of_items_that_are_there(uri):
    unique = {**CODES, "collision_level": True}
    run(uri, TITLES, codes=unique)
    before = codes_of(uri)
    run(uri, {"a first": TITLES["item-03"], **TITLES}, codes=unique)
    after = codes_of(uri)
    assert {i: after[i] for i in before} == before
    assert len(set(after.values())) == N + 1
    assert after["a first"][:-1] == before["item-03"][:-1]


def test_a_refit_makes_a_new_version_which_can_be_rolled_back(uri):
    first = run(uri, TITLES)
    more = {**TITLES, **{f"more-{n}": f"more {n}" for n in range(N)}}
    old = run(uri, more).features[1].version
    again = run(uri, more, run={"refit": ["codes"]})
    assert old == first.features[1].version != again.features[1].version
    assert (again.features[1].fitted["now"], again.features[1].ok) == (True, 2 * N)
    assert again.promoted == [again.features[1].version]
    assert mmfeat.open(uri).lifecycle.rollback(["codes"]) == [old]
    # The next run keeps to what is current, and fits nothing.
    nightly = run(uri, more)
    assert (nightly.features[1].version, nightly.features[1].fitted["now"]) == (old, False)
    assert current(uri)["codes"] == old


def test_a_refit_to_the_same_vectors_makes_no_new_version(uri):
    first = run(uri, TITLES)
    again = run(uri, TITLES, run={"refit": ["codes"]})
    assert again.features[1].version == first.features[1].version
    assert (again.features[1].fitted["now"], again.features[1].ok, again.promoted) == (True, 0, [])


def test_new_vectors_make_new_codes_and_both_become_current_together(uri):
    first = run(uri, TITLES)
    second = run(uri, TITLES, edition=2)
    assert second.promoted == [f.version for f in second.features]
    assert second.features[1].version != first.features[1].version
    lifecycle = mmfeat.open(uri).lifecycle
    lifecycle.rollback(["title_text", "codes"])
    assert current(uri) == {f.version.partition("@")[0]: f.version for f in first.features}
    third = run(uri, TITLES, edition=2)
    assert third.promoted == []
    assert all("was rolled back and stays so" in notice for notice in third.notices)


def test_a_gate_on_changed_codes_holds_all_versions_of_the_job_back(uri):
    gates = {"max_changed": 0.1}
    first = run(uri, TITLES, gates=gates)
    before, others = codes_of(uri), {**CODES, "seed": 1}
    with pytest.raises(GateFailed, match=r"codes@\w+: max_changed is .*, not at most 0.1") as caught:
        run(uri, TITLES, edition=2, codes=others, gates=gates)
    made = [f.version for f in caught.value.report.features]
    assert current(uri) == {f.version.partition("@")[0]: f.version for f in first.features}
    assert {f.version: f.state for f in mmfeat.open(uri).status()}[made[1]] == "candidate"
    assert codes_of(uri) == before
    # What was fitted is kept: a run under a higher gate has nothing to do but to promote.
    report = run(uri, TITLES, edition=2, codes=others, gates={"max_changed": 1.0})
    assert (report.features[1].fitted["now"], report.promoted) == (False, made)


def test_a_gate_on_the_drift_falls_short_once_new_items_are_far_from_what_was_fitted_to(uri):
    first = run(uri, TITLES, gates={"max_drift": 1e-6})
    assert [(gate.gate, gate.value, gate.passed) for gate in first.gates] == [("max_drift", None, True)]
    more = {**TITLES, **{f"more-{n}": f"something else {n}" for n in range(3)}}
    with pytest.raises(GateFailed, match=r"codes@\w+: max_drift is .*, not at most 1e-06") as caught:
        run(uri, more, gates={"max_drift": 1e-6})
    drift = caught.value.report.features[1].fitted["drift"]
    assert (drift["items"], drift["error"] > 0, len(drift["used"])) == (3, True, 2)
    again = run(uri, more, gates={"max_drift": 1e6})
    assert [(gate.gate, gate.value) for gate in again.gates] == [("max_drift", drift["error"])]


def test_a_gate_on_the_drift_says_that_codes_which_lose_nothing_have_none(uri):
    exact, gates = {**CODES, "codebook_size": N}, {"max_drift": 1e9}
    run(uri, TITLES, codes=exact, gates=gates)
    with pytest.raises(GateFailed, match="the drift is not measurable, since codes lose nothing") as caught:
        run(uri, {**TITLES, "new": "something else"}, codes=exact, gates=gates)
    (gate,) = caught.value.report.gates
    assert (gate.value, gate.passed) == (None, False)
    drift = caught.value.report.features[1].fitted["drift"]
    assert (drift["items"], drift["error"], drift["exact"]) == (1, None, True)


def test_a_gate_on_the_drift_of_a_job_without_codes_is_refused_before_any_work(uri, tmp_path):
    job = {
        "store": {"uri": uri},
        "dataset": {"name": "table", "root": str(write(tmp_path, TITLES))},
        "features": {"title_text": {"source": "title", "encoder": "digest"}},
        "gates": {"max_drift": 1.2},
    }
    with pytest.raises(ConfigError, match=r"\[gates\] max_drift: this job makes no codes") as caught:
        run_job(parse_job(job, "job.toml"))
    assert "Take max_drift out" in caught.value.hint
    assert not Path(uri).exists()


def test_what_was_fitted_to_a_forgotten_item_goes_with_it_and_the_next_run_fits_anew(uri):
    first = run(uri, TITLES)
    opened = mmfeat.open(uri)
    opened.forget(["item-00"], "taken down")
    store = Store.open(uri)
    assert store.codebooks(store.resolve("codes").fingerprint) is None
    assert "item-00" not in codes_of(uri)
    assert mmfeat.open(uri).verify_forgotten().ok
    again = run(uri, TITLES)
    assert (again.features[1].fitted["now"], again.features[1].ok) == (True, N - 1)
    assert again.features[1].version != first.features[1].version
    assert set(codes_of(uri)) == set(TITLES) - {"item-00"}


@pytest.mark.parametrize(
    ("refit", "said", "hint"),
    [
        ("code", "this job has no such feature", "Did you mean 'codes'?"),
        ("title_text", "it is not fitted to another feature", "Fitted ones are: codes."),
    ],
)
def test_only_fitted_features_of_the_job_can_be_fitted_anew(uri, refit, said, hint):
    with pytest.raises(ConfigError, match=said) as caught:
        run(uri, TITLES, run={"refit": [refit]})
    assert hint in caught.value.hint
    assert not Path(uri).exists()


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        ({"source": "title"}, "'title' is a column|cannot read 'title'"),
        ({"source": "title_text", "levles": 3}, "has no option 'levles'"),
        ({"source": "title_text", "levels": 0}, "levels: .*more than 0"),
        ({"source": "title_text", "collisions": "popularity"}, "there is no such level"),
    ],
)
def test_codes_that_cannot_be_made_are_refused_before_any_work(uri, codes, said):
    with pytest.raises(ConfigError, match=said):
        run(uri, TITLES, codes={"quantizer": "residual_kmeans", **codes})
    assert not Path(uri).exists()


JOB = """
[store]
uri = "store"
[dataset]
name = "table"
root = "items.csv"
[features.title_text]
source = "title"
encoder = "digest"
[features.codes]
source = "title_text"
quantizer = "residual_kmeans"
levels = 2
codebook_size = 8
"""


def test_the_command_line_fits_anew_what_it_is_asked_to(run, tmp_path):
    write(tmp_path, TITLES)
    (tmp_path / "job.toml").write_text(JOB)
    code, out, _ = run("run", "job.toml", "--json")
    fitted = [json.loads(out)["features"][1]["fitted"]["now"]]
    write(tmp_path, {**TITLES, "new": "a new title"})
    for words in ((), ("--refit", "codes")):
        code, out, err = run("run", "job.toml", *words, "--json")
        assert code == 0, err
        fitted.append(json.loads(out)["features"][1]["fitted"]["now"])
    assert fitted == [True, False, True]
    code, _, err = run("run", "job.toml", "--refit", "codex")
    assert (code, "Did you mean 'codes'?" in err) == (2, True)


def test_the_short_command_goes_on_with_what_a_job_fitted(uri):
    job = run(uri, TITLES)
    report = api.quantize("title_text", store=uri, name="codes", levels=2, codebook_size=8)
    assert (report.version, report.fitted, report.committed) == (job.features[1].version, False, 0)
    assert np.isfinite(report.quality.cosine)
