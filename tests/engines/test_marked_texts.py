"""Runs whose server refuses, loops, or is in trouble: what is stored, marked, counted, and advised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chat_server import MODEL, ChatServer, completion, error, says
from helpers import synthetic, worlds

import mmfeat
from mmfeat.extract.base import Caption
from mmfeat.extract.registry import resolve_all
from mmfeat.pipelines.execution.batch import encoded
from mmfeat.schemas.errors import GateFailed, ServerUnavailable
from mmfeat.schemas.reasons import grouped, kind_of, may_pass
from mmfeat.schemas.spec import FeatureConfig

CAPTION = {"source": "cover", "captioner": "openai", "model": MODEL}
SORRY = "I'm sorry, but I can't help with that."
LOOP = "a cat and " * 12


@pytest.fixture
def media(tmp_path) -> Path:
    return worlds.cover_folder(tmp_path / "media", synthetic.held_out(6))


def extracted(media: Path, store: Path, server: ChatServer, **tables):
    tables = {"server": {"base_url": server.url, "wait_seconds": 0.3, "concurrency": 1}, **tables}
    job = worlds.job(media, store, {"caption": CAPTION}, resources={"executor": "local"}, **tables)
    return mmfeat.extract(**job)


def saying(*texts: str):
    bodies = [says(json.dumps(completion(text, "stop", 5, 3))) for text in texts]
    return lambda number: bodies[number] if number < len(bodies) else None


def test_refusals_and_loops_are_marked_when_they_are_stored_and_gates_count_them(
    server, media, tmp_path, run
):
    server.tricks = saying(SORRY, LOOP, "a cat on a mat")
    store = tmp_path / "store"
    with pytest.raises(GateFailed, match=r"max_marked is 0\.3333, not at most 0\.1"):
        extracted(media, store, server, gates={"max_marked": 0.1})
    opened = mmfeat.open(store)
    (version,) = [feature.version for feature in opened.status()]
    marked = {row["item_id"]: row["reason"] for row in opened.marked(version).to_pylist()}
    assert len(marked) == 2
    found = opened.lookup(features=[version])["caption"]
    assert [reason for reason in found.reason if reason] == list(marked.values())
    assert any("refusal" in reason for reason in marked.values())
    assert any("loop" in reason for reason in marked.values())
    assert all(found.mask)
    facts = opened.facts(version)
    assert [facts[item].get("marks") for item in sorted(marked)] in (
        [["refusal"], ["loop"]],
        [["loop"], ["refusal"]],
    )
    code, out, _ = run("failures", "--store", store, "--feature", version)
    assert code == 0
    assert "2 ok, but marked" in out
    again = extracted(media, store, server)
    assert again.features[0].marks == {}


def test_texts_of_items_that_left_the_dataset_block_no_job_and_are_listed_no_more(server, media, tmp_path):
    server.tricks = saying(SORRY, SORRY)
    store, gates = tmp_path / "store", {"max_marked": 0.1}
    with pytest.raises(GateFailed):
        extracted(media, store, server, gates=gates)
    opened = mmfeat.open(store)
    (version,) = [feature.version for feature in opened.status()]
    for item in opened.marked(version)["item_id"].to_pylist():
        (picture,) = media.rglob(f"{item}.*")
        picture.unlink()
    report = extracted(media, store, server, gates=gates, run={"max_lost": 1.0})
    assert [(gate.gate, gate.value, gate.passed) for gate in report.gates] == [("max_marked", 0.0, True)]
    assert len(mmfeat.open(store).marked(version)) == 0


def test_what_failed_of_items_that_left_the_dataset_is_listed_no_more(server, media, tmp_path):
    server.tricks = lambda number: error(400, "image too large") if number == 1 else None
    with pytest.raises(GateFailed):
        extracted(media, tmp_path / "store", server)
    (version,) = [feature.version for feature in mmfeat.open(tmp_path / "store").status()]
    (failed,) = mmfeat.open(tmp_path / "store").failures(version)["item_id"].to_pylist()
    (picture,) = media.rglob(f"{failed}.*")
    picture.unlink()
    extracted(media, tmp_path / "store", server)
    assert len(mmfeat.open(tmp_path / "store").failures(version)) == 0


def test_a_run_says_how_many_texts_are_marked(server, media, tmp_path):
    server.tricks = saying(SORRY, SORRY)
    report = extracted(media, tmp_path / "store", server)
    assert report.features[0].marks == {"refusal": 2}


@pytest.mark.parametrize(
    "text", ["A man says sorry to his dog.", "A sign: I cannot swim.", "Red, red, red roses."]
)
def test_a_caption_that_only_speaks_of_such_things_is_not_marked(text):
    (spec,) = resolve_all({"caption": FeatureConfig(**CAPTION)})
    value = encoded(spec, Caption(text, "stop"), None)
    assert (value.reason, "marks" in json.loads(value.facts)) == ("", False)


def test_a_server_that_goes_away_leaves_no_row_and_the_next_run_takes_the_items_up(server, media, tmp_path):
    server.tricks = lambda number: error(503, "loading model") if number >= 2 else None
    with pytest.raises(ServerUnavailable):
        extracted(media, tmp_path / "store", server)
    (feature,) = mmfeat.open(tmp_path / "store").status()
    assert (feature.ok, feature.failed) == (2, 0)
    server.tricks = lambda number: None
    report = extracted(media, tmp_path / "store", server)
    assert (report.features[0].ok, report.features[0].failed) == (4, 0)


def test_rows_that_failed_for_no_fault_of_their_own_are_told_with_the_remedy(server, media, tmp_path):
    server.tricks = lambda number: says('{"choices": []}') if number in (1, 2) else None
    with pytest.raises(GateFailed) as raised:
        extracted(media, tmp_path / "store", server)
    assert "--retry-failed" in raised.value.hint
    with pytest.raises(GateFailed, match="2 x caption: the server's answer is no chat") as again:
        extracted(media, tmp_path / "store", server)
    assert "--retry-failed" in again.value.hint
    report = extracted(media, tmp_path / "store", server, run={"max_failed": 1})
    assert any("2 rows failed because" in notice and "--retry-failed" in notice for notice in report.notices)
    report = extracted(media, tmp_path / "store", server, run={"retry_failed": True})
    assert (report.features[0].ok, report.notices) == (2, [])


def test_reasons_of_one_kind_are_one_line_and_a_single_one_keeps_its_words():
    large = {
        f"caption: the server answered 400: {n} bytes in /covers/{n}.png is too large": 1 for n in range(9)
    }
    other = {"decode: decoder timed out after 300 s": 2, "caption: the server answered 422: no": 1}
    lines = grouped({**large, **other})
    assert list(lines.values()) == [9, 2, 1]
    assert "decode: decoder timed out after 300 s" in lines
    assert kind_of("the server answered 400: no") != kind_of("the server answered 422: no")
    assert may_pass(["caption: the server answered 502: x (after 4 attempts)"])
    assert not may_pass(large)
