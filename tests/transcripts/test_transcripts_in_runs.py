"""Transcripts of clips by a run: what is stored of speech, of silence and if there is no sound."""

import json

import pytest
import speech_server
from helpers.media_samples import clip
from sounds import in_container, pause, spoken, words

import mmfeat
from mmfeat.store import Store

CLIPS = ("speaks", "silent", "mute")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three clips: in one somebody speaks, in one nobody does, and one has no sound."""
    place = tmp_path_factory.mktemp("talk")
    (place / "speaks.mp4").write_bytes(in_container(spoken("team"), "mp4"))
    (place / "silent.mp4").write_bytes(in_container(pause(2), "mp4"))
    (place / "mute.mp4").write_bytes(clip(10))
    rows = [{"item_id": name, "clip": f"{name}.mp4"} for name in CLIPS]
    (place / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


def extract(folder, uri, server=None, **table):
    return mmfeat.extract(
        "table",
        folder / "items.jsonl",
        store=str(uri),
        dataset_columns={"clip": "video"},
        features={"said": {"source": "clip.sound", **table}},
        resources={"executor": "local", "threads": 1},
        server=server or {},
    )


def stored(uri):
    """Status, text and facts by item."""
    store = Store.open(str(uri))
    version = store.resolve("said")
    column = store.lookup(list(CLIPS), [version.version], unknown="mask")["said"]
    rows = store.facts(version)
    facts = dict(zip(rows["item_id"].to_pylist(), rows["facts"].to_pylist(), strict=True))
    return {
        name: (str(status), text or "", json.loads(facts.get(name) or "{}"))
        for name, status, text in zip(CLIPS, column.status, column.texts, strict=True)
    }


def test_silence_has_an_empty_transcript_and_a_clip_without_sound_none(folder, tmp_path):
    extract(folder, tmp_path / "store", transcriber="whisper", weights="package", beam_size=1)
    found = stored(tmp_path / "store")
    assert [found[name][0] for name in CLIPS] == ["ok", "ok", "missing"]
    _, text, facts = found["speaks"]
    assert {"game", "last", "minute"} <= set(words(text))
    assert facts["segments"][0]["start"] < 1 and facts["language"] == "en"
    assert found["silent"][1] == ""
    assert (found["silent"][2]["speech_share"], found["silent"][2]["marks"]) == (0.0, ["silence"])


def test_a_phantom_that_a_server_makes_up_is_stored_and_marked(folder, tmp_path, speech):
    said = " Thank you for watching!"
    answer = {"text": said, "segments": [{"start": 0, "end": 2, "text": said}]}
    speech.tricks = lambda number: lambda handler: handler.reply(200, answer)
    table = {"transcriber": "openai", "model": speech_server.MODEL}
    report = extract(folder, tmp_path / "store", server={"base_url": speech.url}, **table)
    status, text, facts = stored(tmp_path / "store")["speaks"]
    assert (status, text, facts["marks"]) == ("ok", "Thank you for watching!", ["phantom"])
    assert len(speech.forms) == 1
    (of_said,) = report.features
    assert of_said.marks == {"phantom": 1, "silence": 1}
