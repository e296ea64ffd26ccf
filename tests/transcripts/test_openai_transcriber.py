"""Transcripts by a server: only speech is sent, and no answer is paid for twice."""

import pytest
import speech_server
from sounds import RATE, as_sound, pause, spoken, without_speech
from transcribers import transcript_spec

from mmfeat.extract.base import Placement, Usage
from mmfeat.extract.describers.transcripts.openai import OpenAITranscriber
from mmfeat.extract.served import client
from mmfeat.schemas.errors import ItemError, NotAsked, ServerRefused
from mmfeat.schemas.server import Sending, ServerConfig, SpendingConfig


@pytest.fixture
def transcriber(speech, tmp_path, monkeypatch):
    """A new one, as a new process of the same run would have it."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.02)

    def make(model=speech_server.MODEL, max_requests=None, **options):
        sending = Sending(
            run_id="run",
            server=ServerConfig(base_url=speech.url),
            spending=SpendingConfig(max_requests=max_requests),
            journal=str(tmp_path / "_requests"),
        )
        client.client_of.cache_clear()
        return OpenAITranscriber(
            transcript_spec("openai", model=model, **options), Placement(sending=sending)
        )

    return make


def answers(**changes):
    return lambda handler: handler.reply(200, speech_server.transcription(handler.form["file"], **changes))


def fails(status, message="not now"):
    return lambda handler: handler.reply(status, {"error": {"message": message}})


def test_speech_is_sent_as_a_form_and_the_answer_is_the_transcript(transcriber, speech):
    method = transcriber(language="en", revision="fp16")
    (found,) = method.run([(as_sound(pause(2), spoken("team"), pause(3)),)])
    (form,) = speech.forms
    assert {k: v for k, v in form.items() if k != "file"} == {
        "model": speech_server.MODEL, "response_format": "verbose_json", "temperature": "0", "language": "en",
    }  # fmt: skip
    sent = len(form["file"]) / RATE
    assert sent < len(spoken("team")) / RATE + 1
    assert found.text == f"I heard {sent:.1f} seconds. They were loud."
    facts = found.facts()
    assert facts["language"] == "english"
    assert facts["segments"][0] == {
        "start": pytest.approx(2, abs=0.6), "end": pytest.approx(2 + sent / 2, abs=0.6),
        "text": f"I heard {sent:.1f} seconds.",
        "avg_logprob": -0.25, "compression_ratio": 0.9, "no_speech_prob": 0.01,
    }  # fmt: skip
    assert found.usage == Usage(1)
    assert method.sent() == Usage(1)


def test_sounds_without_speech_cost_nothing(transcriber, speech):
    found = transcriber().run([(sound,) for _, sound in without_speech(4)])
    assert [one.text for one in found] == [""] * 4
    assert speech.forms == []


def test_an_answer_is_kept_for_the_run_that_goes_on(transcriber, speech):
    rows = [(as_sound(spoken("team")),)]
    first = transcriber().run(rows)
    assert transcriber().run(rows) == first
    assert len(speech.forms) == 1


def test_a_server_in_trouble_is_asked_again(transcriber, speech):
    speech.tricks = lambda number: fails(503) if number < 2 else None
    (found,) = transcriber().run([(as_sound(spoken("team")),)])
    assert found.text.startswith("I heard")
    assert len(speech.forms) == 3


def test_tokens_are_counted_where_the_server_says_them(transcriber, speech):
    tokens = {"type": "tokens", "input_tokens": 30, "output_tokens": 9, "total_tokens": 39}
    speech.tricks = lambda number: answers(usage=tokens)
    (found,) = transcriber().run([(as_sound(spoken("team")),)])
    assert found.usage == Usage(1, 30, 9)


def test_a_cap_on_requests_stops_the_run(transcriber):
    rows = [(as_sound(spoken(name)),) for name in ("team", "rain", "winter")]
    found = transcriber(max_requests=2).run(rows)
    assert sum(isinstance(one, NotAsked) for one in found) == 1


def test_a_model_that_the_server_does_not_know_fails_no_item(transcriber):
    (found,) = transcriber(model="nobody").run([(as_sound(spoken("team")),)])
    assert isinstance(found, NotAsked) and isinstance(found.why, ServerRefused)


@pytest.mark.parametrize(
    "answer", [{"text": "no times"}, {"text": "a", "segments": [{"text": "a"}]}, [], {"segments": None}]
)
def test_an_answer_without_times_is_no_transcript(transcriber, speech, answer):
    method, team, rain = transcriber(), (as_sound(spoken("team")),), (as_sound(spoken("rain")),)
    method.run([team])
    speech.tricks = lambda number: lambda handler: handler.reply(200, answer)
    (found,) = method.run([rain])
    assert isinstance(found, ItemError) and found.stage == "transcribe"
    assert "no transcription with segments" in found.reason


def test_a_server_that_gives_nobody_times_stops_the_run_and_is_told_what_is_wanted(transcriber, speech):
    speech.tricks = lambda number: lambda handler: handler.reply(200, {"text": "no times"})
    found = transcriber().run([(as_sound(spoken("team"), pause(n)),) for n in (1, 2, 3, 4)])
    assert all(isinstance(one, NotAsked) for one in found)
    assert "verbose_json" in found[0].why.hint


def test_segments_whose_blanks_a_server_took_off_get_them_back(transcriber, speech):
    parts = [{"start": 0, "end": 1, "text": "So we go."}, {"start": 1, "end": 2, "text": "Home."}]
    speech.tricks = lambda number: answers(text="So we go. Home.", segments=parts)
    (found,) = transcriber().run([(as_sound(spoken("team")),)])
    assert found.text == "So we go. Home."


def test_what_the_servers_whisper_does_not_believe_itself_is_left_out(transcriber, speech):
    likely = {"start": 0, "end": 1, "text": " So we go.", "no_speech_prob": 0.1, "avg_logprob": -0.2}
    made_up = {"start": 1, "end": 2, "text": " Thank you.", "no_speech_prob": 0.9, "avg_logprob": -1.5}
    speech.tricks = lambda number: answers(text=" So we go. Thank you.", segments=[likely, made_up])
    (found,) = transcriber().run([(as_sound(spoken("team")),)])
    assert found.text == "So we go."
    assert [one["text"] for one in found.facts()["left_out"]] == ["Thank you."]
