"""The section ``evidence``: do the captions' vectors tell more of taste than others?"""

from __future__ import annotations

import pytest
import reporting
from helpers.taste import world

import mmfeat
from mmfeat.report.model import Absent
from mmfeat.report.page import render
from mmfeat.schemas.spec import FeatureSpec, Weights

DIMS = 16


def reading_spec(name: str, source: str = "caption", upstream: str | None = None) -> FeatureSpec:
    """One encoder, whatever text it reads."""
    return FeatureSpec(
        name=name,
        source=source,
        output="vector",
        method="sentence_transformers",
        model="made up",
        weights=Weights(origin="random", ref="seed=0"),
        dims=DIMS,
        store_dtype="float32",
        upstream=upstream,
    )


@pytest.fixture(scope="module")
def made():
    """Users choose by what ``sound`` shows: in the store, vectors of the later captions show it."""
    return world("sound", 2)


@pytest.fixture(scope="module")
def opened(tmp_path_factory, made):
    """Two versions of captions, each read by one encoder, which reads titles too."""
    folder = tmp_path_factory.mktemp("evidence")
    for number, modality in ((1, "motion"), (2, "sound")):
        texts = {i: f"A thing called {i} stands there, seen {number} times." for i in made.ids}
        planted = reporting.Planted(made.ids, texts, titles={i: f"thing {i}" for i in made.ids})
        store = reporting.write(folder / "store", planted, prompt_version=number)
        upstream = store.resolve("caption").fingerprint
        spec = reading_spec("caption_text", upstream=upstream)
        reporting.add_vectors(store, spec, made.ids, made.vectors[modality])
    reporting.add_vectors(store, reading_spec("title_text", source="title"), made.ids, made.vectors["title"])
    with store.lease("test"):
        store.put_interactions(made.table())
    return mmfeat.open(store.uri)


@pytest.fixture(scope="module")
def report(opened):
    return opened.report_captions()


def test_captions_that_tell_of_taste_are_found_better_than_those_before_and_than_titles(report):
    found = report.evidence
    assert (found.items, found.users) == (150, 250) and found.missing == ()
    assert "It tells something of taste by probe, item_item and profile" in found.verdict
    holds = {(one.reads, one.protocol): one.holds for one in found.figures}
    assert len(holds) == 9
    assert all(held for (read, _), held in holds.items() if read == "captions")
    assert not any(held for (read, _), held in holds.items() if read == "titles")
    better = [(one.against, one.protocol, one.better) for one in found.differences]
    assert sorted(better) == sorted(
        (against, protocol, True)
        for against in ("before", "titles")
        for protocol in ("probe", "item_item", "profile")
    )
    assert all(one.low > 0 and one.p < 0.05 for one in found.differences)


def test_the_figures_are_those_of_mmfeat_evaluate(report, opened):
    found = {(one.version, one.protocol): one for one in report.evidence.figures}
    versions = list(dict.fromkeys(version for version, _ in found))
    for one in opened.evaluate(versions, protocols=("probe",)).features:
        auc, mine = one.findings["probe"].metrics["auc"], found[one.version, "probe"]
        assert (auc.mean, auc.low, auc.high) == (mine.value, mine.low, mine.high)


def test_the_page_and_the_command_tell_it(report, opened, run):
    page = render(report)
    assert "By the interactions" in page and "more than chance" in page and "these less titles" in page
    code, out, _ = run("report", "captions", "--store", opened.uri)
    words = " ".join(out.split())
    assert code == 0
    assert "evidence It tells something of taste by probe, item_item and profile" in words
    assert "prefer caption_text@" in words


def _store(folder, made, reader: bool):
    texts = {i: f"A thing called {i} stands there." for i in made.ids}
    store = reporting.write(folder / "store", reporting.Planted(made.ids, texts))
    if reader:
        spec = reading_spec("caption_text", upstream=store.resolve("caption").fingerprint)
        reporting.add_vectors(store, spec, made.ids, made.vectors["sound"])
    return store


def test_without_interactions_or_vectors_it_says_so(tmp_path, made):
    bare = mmfeat.open(_store(tmp_path / "bare", made, reader=False).uri).report_captions().evidence
    assert isinstance(bare, Absent) and "No vector feature of the store reads these captions" in bare.absent
    silent = mmfeat.open(_store(tmp_path / "silent", made, reader=True).uri).report_captions().evidence
    assert isinstance(silent, Absent) and "holds no interactions" in silent.absent
    assert "interactions=clicks.csv" in silent.absent


def test_what_they_cannot_be_compared_with_is_named(tmp_path, made):
    store = _store(tmp_path, made, reader=True)
    with store.lease("test"):
        store.put_interactions(made.table())
    found = mmfeat.open(store.uri).report_captions().evidence
    made_as = f"made as those of {store.resolve('caption_text').version}"
    assert found.missing == (
        "There are no captions before these.",
        f"The store has no vectors of titles {made_as}.",
    )
    assert {one.reads for one in found.figures} == {"captions"} and found.differences == ()
