"""The report as a whole: what it says of captions, clips, versions and gates."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import reporting
import sacrebleu
from helpers import synthetic, worlds

from mmfeat.report.build import ReportOptions, report_captions
from mmfeat.report.model import Absent
from mmfeat.report.page import render
from mmfeat.report.second_model import SecondModel
from mmfeat.schemas.errors import ConfigError, UsageError
from mmfeat.schemas.inputs import Input
from mmfeat.schemas.spec import FeatureSpec, Weights

TEXTS = {
    "a": "A red cup stands on a wooden table.",
    "b": "Two dogs run along a beach at noon.",
    "c": "A woman reads a book in a green chair.",
}


def words_store(folder, texts=TEXTS, **planted):
    return reporting.write(folder / "store", reporting.Planted(list(texts), texts, **planted))


def random_spec(name: str, dims: int, source: str = "caption", upstream: str | None = None) -> FeatureSpec:
    return FeatureSpec(
        name=name,
        source=source,
        output="vector",
        method="sentence_transformers",
        model="made up",
        weights=Weights(origin="random", ref="seed=0"),
        dims=dims,
        store_dtype="float32",
        upstream=upstream,
    )


def test_coverage_adds_up_and_groups_failures_by_reason(tmp_path):
    texts = TEXTS | {"d": None, "e": None}
    planted = reporting.Planted([*texts, "never"], texts)
    report = report_captions(reporting.write(tmp_path / "store", planted), ReportOptions())
    c = report.coverage
    assert (c.items, c.ok, c.missing, c.failed, c.absent) == (6, 3, 0, 2, 1)
    assert [(f.stage, f.reason, f.count, f.item_ids) for f in c.failures] == [
        ("decode", "image is cut short", 2, ("d", "e"))
    ]
    assert [i.item_id for i in report.items] == [*texts, "never"]
    assert [i.reason for i in report.items[3:]] == ["decode: image is cut short"] * 2 + [""]
    shelf = next(shelf for shelf in report.gallery if shelf.kind == "failures")
    assert [s.absent for s in shelf.shown] == ["The item has no cover."] * 2


def test_lengths_and_costs_are_those_recorded(tmp_path):
    facts = {"a": {"finish_reason": "length", "new_tokens": 4, "prompt_tokens": 10, "seconds": 0.5}}
    lengths = report_captions(words_store(tmp_path, facts=facts), ReportOptions()).lengths
    assert (lengths.words.n, lengths.words.mean) == (3, 25 / 3)
    assert (lengths.tokens.minimum, lengths.tokens.maximum, lengths.tokens.mean) == (4, 8, 20 / 3)
    assert lengths.seconds.mean == pytest.approx((0.5 + 0.25 + 0.25) / 3)
    assert (lengths.cut, lengths.finish_known) == (1, 3)


def test_without_an_image_text_feature_grounding_says_so_and_a_gate_on_it_fails(tmp_path):
    gates = tmp_path / "gates.toml"
    gates.write_text("[gates]\nmin_grounding_auc = 0.8\nmin_ok_share = 1\n")
    report = report_captions(words_store(tmp_path), ReportOptions(gates=gates))
    assert isinstance(report.grounding, Absent)
    assert [(g.name, g.value, g.passed) for g in report.gates] == [
        ("min_grounding_auc", None, False),
        ("min_ok_share", 1.0, True),
    ]
    assert "CLIP or SigLIP" in report.gates[0].detail
    assert not report.passed


def test_a_feature_that_reads_the_captions_of_another_version_is_stale_and_says_so(tmp_path):
    store = words_store(tmp_path)
    old = store.resolve("caption")
    reading = random_spec("caption_text", 4, upstream=old.fingerprint)
    reporting.add_vectors(store, reading, list(TEXTS), np.eye(3, 4))
    planted = reporting.Planted(list(TEXTS), TEXTS)
    new = reporting.write(tmp_path / "store", planted, prompt_version=2).resolve("caption")
    store.refresh()
    found = report_captions(store, ReportOptions()).usefulness.near_duplicates
    assert found.absent == (
        f"{reading.version} is stale: it reads {old.version}, and {new.version} is current. "
        "Run its job again."
    )
    # Of the version that they read they say what they say.
    of_old = report_captions(store, ReportOptions(feature=old.version))
    assert of_old.usefulness.near_duplicates.items == 3


def test_a_feature_of_one_text_is_not_taken_for_none(tmp_path):
    """Of three transcripts two may be empty, and have no vector."""
    store = reporting.write(tmp_path / "store", reporting.Planted(list(TEXTS), TEXTS))
    upstream = store.resolve("caption").fingerprint
    reading = random_spec("caption_text", 4, upstream=upstream)
    reporting.add_vectors(store, reading, list(TEXTS)[:1], np.eye(1, 4))
    found = report_captions(store, ReportOptions()).usefulness.text_retrieval
    assert found == Absent(absent=f"Fewer than two texts have a vector of {reading.version}.")


def test_captions_that_read_the_texts_of_another_version_are_stale_and_say_so(tmp_path):
    store = words_store(tmp_path)
    tags = [reporting.caption_spec(prompt_version=n).model_copy(update={"name": "tags"}) for n in (1, 2)]
    named = Input(source="tags", modality="text", named=True, upstream=tags[0].fingerprint)
    spec = reporting.caption_spec()
    spec = spec.model_copy(update={"inputs": (*spec.inputs, named)})
    with store.lease("test"):
        for one in (*tags, spec):
            store.promotion.promote([store.add_version(one)])
    report = report_captions(store, ReportOptions(feature="caption"))
    why = f"it reads {tags[0].version}, and {tags[1].version} is current"
    assert report.subject.stale == why
    assert why in render(report)


def test_right_captions_pass_the_default_gates_and_the_language_is_one_only_if_stated(tmp_path):
    report = report_captions(words_store(tmp_path), ReportOptions())
    assert report.passed
    assert "max_language_share" not in {gate.name for gate in report.gates}


def test_failed_items_count_against_the_captions_and_a_gate_at_its_threshold_is_kept(tmp_path):
    gates = tmp_path / "gates.toml"
    gates.write_text("[gates]\nmin_ok_share = 0.75\n")
    planted = reporting.Planted([*TEXTS, "failed"], {**TEXTS, "failed": None})
    store = reporting.write(tmp_path / "store", planted)
    gate = report_captions(store, ReportOptions(gates=gates)).gates[0]
    assert (gate.value, gate.passed) == (0.75, True)


@pytest.mark.parametrize(
    ("toml", "message", "told"),
    [
        ("[gates]\nmin_grouding = 1\n", "no gate 'min_grouding'", "min_grounding_auc"),
        ("[gates]\nmin_ok_share = 'all'\n", "needs a number", ""),
        ("[rules]\nshort = 1\n", "no rule 'short'", "short_words"),
        ("[rules]\nnear_similarity = 2\n", "near_similarity", "short_words"),
        ("[gate]\n", r"no table \[gate\]", "[gates]"),
    ],
)
def test_a_mistake_in_a_gates_file_is_named_with_what_there_is(tmp_path, toml, message, told):
    (tmp_path / "gates.toml").write_text(toml)
    with pytest.raises(ConfigError, match=message) as raised:
        report_captions(words_store(tmp_path), ReportOptions(gates=tmp_path / "gates.toml"))
    assert told in str(raised.value.hint)


def test_the_version_made_before_is_compared_item_by_item(tmp_path):
    words_store(tmp_path)
    later = {
        "a": TEXTS["a"],
        "b": "I cannot describe this image at all today.",
        "d": "A blue boat on a lake.",
    }
    planted = reporting.Planted(["a", "b", "c", "d"], later)
    store = reporting.write(tmp_path / "store", planted, prompt_version=2)
    change = report_captions(store, ReportOptions()).comparison
    assert (change.same, change.changed, change.gained, change.lost) == (1, 1, 1, 1)
    assert change.spec_changes == {"prompt.version": ("1", "2")}
    assert [(p.item_id, p.before, p.after) for p in change.pairs] == [("b", TEXTS["b"], later["b"])]
    deltas = {d.metric: d for d in change.deltas}
    refusals = deltas["share: refusals"]
    assert (refusals.before, refusals.after, refusals.difference, refusals.items) == (0.0, 0.5, 0.5, 2)
    assert (refusals.low, refusals.high) == (0.0, 1.0)
    first = store.versions("caption")[0]
    named = report_captions(store, ReportOptions(against=first.fingerprint[:8])).comparison
    assert named.against == first.version
    with pytest.raises(UsageError, match="is the version that is reported on"):
        report_captions(store, ReportOptions(against="caption"))


def test_a_first_version_has_nothing_to_be_compared_with(tmp_path):
    assert isinstance(report_captions(words_store(tmp_path), ReportOptions()).comparison, Absent)


def test_references_are_scored_as_sacrebleu_scores_the_corpus(tmp_path):
    titles = {"a": "A red cup on a wooden table.", "b": "Dogs on the beach."}
    found = report_captions(words_store(tmp_path, titles=titles), ReportOptions(reference="title")).references
    told = [TEXTS["a"], TEXTS["b"]]
    assert found.items == 2
    assert found.bleu == sacrebleu.corpus_bleu(told, [list(titles.values())]).score
    assert found.chrf == sacrebleu.corpus_chrf(told, [list(titles.values())]).score


def test_captions_find_their_own_titles_and_near_duplicates_are_counted(tmp_path):
    """The vectors are made up: captions' near to their titles', but for two items that are alike."""
    ids = [f"i{n}" for n in range(40)]
    texts = {i: f"Caption number {i} of a thing" for i in ids}
    store = reporting.write(
        tmp_path / "store", reporting.Planted(ids, texts, titles={i: f"Title {i}" for i in ids})
    )
    caption = store.resolve("caption")
    rng = np.random.default_rng(0)
    titles = rng.normal(size=(40, 24))
    vectors = titles + rng.normal(size=(40, 24)) * 0.05
    vectors[1] = vectors[0]
    reporting.add_vectors(store, random_spec("title_text", 24, source="title"), ids, titles)
    reporting.add_vectors(store, random_spec("caption_text", 24, upstream=caption.fingerprint), ids, vectors)
    found = report_captions(store, ReportOptions()).usefulness
    assert found.text_retrieval.items == 40
    assert found.text_retrieval.recall_at_1 == 39 / 40
    assert (found.text_retrieval.chance_at_1, found.text_retrieval.chance_at_10) == (1 / 40, 10 / 40)
    assert (found.near_duplicates.count, found.near_duplicates.share) == (2, 2 / 40)
    assert isinstance(found.neighbours, Absent)


def test_clips_are_scored_by_their_mean_and_best_frame_and_shown_as_strips(tmp_path):
    """Each clip shows its own scene in one frame of four and another item's in the others."""
    scenes = synthetic.held_out(12)
    places = {}
    for n, (own, other) in enumerate(zip(scenes, [*scenes[6:], *scenes[:6]], strict=True)):
        wrong, right = (synthetic.render(replace(s, width=96, height=96)) for s in (other, own))
        frames = np.stack([wrong] * 6 + [right] * 2)
        places[str(n)] = str(reporting.write_clip(tmp_path / f"{n}.mp4", frames))
    texts = {str(n): s.caption for n, s in enumerate(scenes)}
    planted = reporting.Planted(list(texts), texts, media=places, source="video")
    store = reporting.write(tmp_path / "store", planted)
    reporting.add_vectors(store, reporting.CLIP_SPEC, ["0"], np.ones((1, 64)))
    report = report_captions(store, ReportOptions())
    assert report.grounding.auc_best_frame > 0.9 > report.grounding.auc
    assert all(item.best_frame > item.grounding for item in report.items)
    strip = report.gallery[0].shown[0].pictures
    assert len(strip) == 4
    assert [p.time for p in strip] == sorted({p.time for p in strip})


def test_the_claim_check_asks_the_second_model_per_sentence_and_counts_what_it_says(tmp_path):
    """The tiny captioner answers no question with yes or no: every answer is unclear, none is lost."""
    places = {
        i: str(worlds.write_cover(tmp_path, i, s)) for i, s in zip("ab", synthetic.held_out(2), strict=True)
    }
    texts = {"a": "A red circle. It is on a table.", "b": "A blue ring."}
    store = words_store(tmp_path, texts, media=places)
    asked = SecondModel("transformers", str(worlds.MODELS / "tiny-vlm"))
    found = report_captions(store, ReportOptions(claims=asked)).claims
    assert (found.items, found.claims, found.unclear, found.failed) == (2, 3, 3, 0)
    assert found.supported is None


def test_a_judge_that_answers_no_question_wins_nothing_for_anybody_and_its_items_are_named(tmp_path):
    """The tiny captioner describes the picture instead of choosing."""
    places = {
        i: str(worlds.write_cover(tmp_path, i, s)) for i, s in zip("ab", synthetic.held_out(2), strict=True)
    }
    words_store(tmp_path, {"a": "A red circle.", "b": "A ring."}, media=places)
    planted = reporting.Planted(["a", "b"], {"a": "The first red circle.", "b": "A blue ring."}, media=places)
    store = reporting.write(tmp_path / "store", planted, prompt_version=2)
    asked = SecondModel("transformers", str(worlds.MODELS / "tiny-vlm"))
    found = report_captions(store, ReportOptions(judge=asked)).judged
    assert (found.differ, found.questions, found.wins, found.losses, found.flips) == (2, 4, 0, 0, 0)
    assert (found.share, found.p) == (None, 1.0) and found.new_tokens > 0
    assert [one.item_id for one in found.unjudged] == ["a", "b"]
    assert all("the answer names neither: " in one.reason for one in found.unjudged)


def test_the_command_writes_a_page_or_json_and_exits_with_3_where_a_gate_fails(tmp_path, run):
    words_store(tmp_path, TEXTS | {"d": "I cannot describe this image."})
    store = ("--store", tmp_path / "store")
    code, out, err = run("report", "captions", *store, "--out", "r.json", "--language", "en")
    assert code == 3
    assert "max_refusal_share: 0.25 is not at most 0.01." in err
    assert "FAILED" in out
    written = json.loads((tmp_path / "r.json").read_text())
    assert written["passed"] is False
    assert written["coverage"]["ok"] == 4

    (tmp_path / "gates.toml").write_text("[gates]\nmin_ok_share = 0.5\n")
    code, out, _ = run("report", "captions", *store, "--gates", "gates.toml", "--json", "--out", "r.html")
    assert code == 0
    assert json.loads(out)["passed"] is True
    assert (tmp_path / "r.html").read_text().lower().startswith("<!doctype html>")


def test_a_failed_gate_leaves_one_json_value_on_standard_output(tmp_path, run):
    words_store(tmp_path, {"a": "I cannot describe this image."})
    code, out, err = run("report", "captions", "--store", tmp_path / "store", "--json")
    assert code == 3
    assert json.loads(out)["passed"] is False
    assert "max_refusal_share" in err


@pytest.mark.parametrize("name", ["report.pdf", "nowhere/report.html"])
def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path, run, name):
    words_store(tmp_path)
    code, _, err = run("report", "captions", "--store", tmp_path / "store", "--out", name)
    assert code == 2
    assert "Traceback" not in err


def test_vectors_are_no_captions_and_the_error_names_those_there_are(tmp_path):
    store = words_store(tmp_path)
    reporting.add_vectors(store, random_spec("title_text", 4, source="title"), ["a"], np.ones((1, 4)))
    with pytest.raises(UsageError, match="holds no captions") as raised:
        report_captions(store, ReportOptions(feature="title_text"))
    assert "caption@" in raised.value.hint
