"""Captions from a server: the same as from the model itself, whatever the server does in between."""

from __future__ import annotations

import base64
import io
import json
import re
import time
import wave

import numpy as np
import pytest
from asking import items, spec
from chat_server import at, completion, cut, error, hang, says, tiny_model
from helpers import sound_samples, synthetic
from PIL import Image
from transformers import Qwen2VLImageProcessor

from mmfeat.extract.base import Caption, Placement, Row
from mmfeat.extract.describers.captions import openai
from mmfeat.extract.describers.captions.openai import OpenAICaptioner
from mmfeat.extract.describers.captions.turns import Turn
from mmfeat.extract.modalities.decoders.views import render_view
from mmfeat.extract.registry import resolve_all
from mmfeat.extract.served import client
from mmfeat.extract.testing import check_method
from mmfeat.schemas.errors import (
    ConfigError,
    ItemError,
    NotAsked,
    ServerRefused,
    ServerUnavailable,
    SpendingCap,
)
from mmfeat.schemas.media import Frames
from mmfeat.schemas.server import Sending, ServerConfig
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import FeatureConfig


@pytest.fixture(scope="module")
def in_process() -> list[Caption]:
    return tiny_model().caption(items(6))


def test_a_server_and_the_model_itself_say_the_same(captioner, in_process):
    assert captioner().caption(items(6)) == in_process


def test_only_so_many_requests_are_under_way(server, captioner):
    server.pause = 0.02
    captioner(concurrency=3).caption(items(12))
    assert server.at_once == 3


def test_errors_that_pass_cost_no_caption(server, captioner, in_process):
    server.tricks = at(_0=error(500), _1=error(503), _2=cut, _3=error(429), _4=error(408))
    assert captioner().caption(items(6)) == in_process


def test_a_hanging_request_is_given_up_and_sent_again(server, captioner, in_process):
    server.tricks = at(_0=hang)
    assert captioner(timeout=1.0).caption(items(6)) == in_process
    assert len(server.requests) == 7


def test_a_request_that_always_hangs_fails_its_item_alone(server, captioner, in_process):
    wanted = items(6)
    captioner(concurrency=1, journal=None).caption(wanted[2:3])
    stuck = server.requests[0]
    server.tricks = lambda number: hang if server.requests[number] == stuck else None
    outcomes = captioner(timeout=0.7).caption(wanted)
    assert re.fullmatch(r"no answer within 0.7 s \(after \d attempts\)", outcomes[2].reason)
    assert [o for k, o in enumerate(outcomes) if k != 2] == [c for k, c in enumerate(in_process) if k != 2]


def test_retry_after_is_waited_for(server, captioner):
    server.tricks = at(_0=error(429, Retry_After="1"))
    began = time.perf_counter()
    assert isinstance(captioner().caption(items(1))[0], Caption)
    assert time.perf_counter() - began >= 1


def test_a_server_that_asks_for_an_hour_ends_the_run_instead(server, captioner):
    server.tricks = at(_0=error(429, "come back later", Retry_After="3600"))
    outcomes = captioner(concurrency=1).caption(items(2))
    assert all(isinstance(o.why, ServerUnavailable) for o in outcomes)
    assert "in 1 attempt: the server answered 429: come back later" in outcomes[0].why.message


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("oops", "is no chat completion: oops"),
        ('{"choices": []}', 'is no chat completion: {"choices": []}'),
        ("[1, 2]", "is no chat completion: [1, 2]"),
        (json.dumps(completion([5], "stop", 1, 1)), "is no chat completion"),
        ('{"choices": ' + "[" * 100_000, "is no chat completion"),
        (json.dumps(completion("a", "tool_calls", 1, 1)), "is no chat completion"),
        (json.dumps(completion("a", "content_filter", 1, 1)), "content filter stopped the reply"),
    ],
)
def test_rubbish_fails_its_item_with_what_came_and_is_not_asked_for_again(server, captioner, body, reason):
    server.tricks = at(_1=says(body))
    wanted = items(3)
    outcomes = captioner(concurrency=1).caption(wanted)
    assert [type(o) for o in outcomes] == [Caption, ItemError, Caption]
    assert reason in outcomes[1].reason
    assert len(server.requests) == 3
    assert [str(o) for o in captioner().caption(wanted)] == [str(o) for o in outcomes]
    assert len(server.requests) == 3


def test_a_cut_answer_is_told_from_a_finished_one(captioner):
    assert [c.finish_reason for c in captioner(spec_=spec(max_new_tokens=2)).caption(items(2))] == [
        "length"
    ] * 2


@pytest.mark.parametrize(("status", "words"), [(400, "picture too large"), (422, "no"), (413, "too much")])
def test_what_the_server_does_not_take_fails_its_item_at_once(server, captioner, status, words):
    server.tricks = at(_0=error(status, words))
    outcomes = captioner(concurrency=1).caption(items(2))
    assert (outcomes[0].stage, outcomes[0].reason) == ("caption", f"the server answered {status}: {words}")
    assert isinstance(outcomes[1], Caption)
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [401, 403, 404, 402, 301])
def test_a_wrong_key_model_or_address_stops_everything_after_one_request(server, captioner, status):
    server.tricks = lambda number: error(status)
    outcomes = captioner(concurrency=1).caption(items(5))
    assert all(isinstance(o, NotAsked) and isinstance(o.why, ServerRefused) for o in outcomes)
    assert isinstance(outcomes[0].why, ConfigError)
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_stops_everything(server, captioner):
    gone = captioner(base_url="http://127.0.0.1:9/v1")
    (outcome,) = gone.caption(items(1))
    assert isinstance(outcome.why, ServerUnavailable)
    assert "http://127.0.0.1:9/v1" in outcome.why.message


def test_the_limit_of_tokens_goes_by_the_name_that_the_server_knows(server, captioner, in_process):
    def newer(number: int):
        if "max_tokens" in server.bodies[number]:
            return error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return None

    server.tricks = newer
    assert captioner(concurrency=2).caption(items(6)) == in_process
    assert len(server.requests) <= 6 + 2


# Spending


def test_no_answer_is_paid_for_twice_by_a_later_process(server, captioner, in_process):
    captioner().caption(items(4))
    assert captioner(run_id="another").caption(items(6)) == in_process
    assert len(server.requests) == 6
    assert max(server.finished.values()) == 1


def test_an_answer_that_a_dying_machine_kept_half_is_asked_for_again(server, captioner, tmp_path, in_process):
    captioner().caption(items(2))
    for path in (tmp_path / "_requests").rglob("*.json"):
        path.write_text(path.read_text()[:20])
    assert captioner().caption(items(2)) == in_process[:2]
    assert len(server.requests) == 4


def test_the_cap_on_requests_is_never_passed_and_holds_over_processes(server, captioner):
    first = captioner(max_requests=5).caption(items(8))
    assert sum(isinstance(o, Caption) for o in first) == 5
    assert all(isinstance(o.why, SpendingCap) for o in first if not isinstance(o, Caption))
    again = captioner(max_requests=5).caption(items(8))
    assert sum(isinstance(o, Caption) for o in again) == 5
    assert len(server.requests) == 5
    next_run = captioner(run_id="next", max_requests=5).caption(items(8))
    assert all(isinstance(o, Caption) for o in next_run)
    assert len(server.requests) == 8


def test_requests_that_were_turned_away_do_not_count(server, captioner):
    server.tricks = at(_0=error(429), _1=error(500))
    outcomes = captioner(max_requests=3, concurrency=1).caption(items(4))
    assert [type(o) for o in outcomes] == [Caption, Caption, Caption, NotAsked]


def test_a_lost_answer_counts_because_it_may_cost(server, captioner):
    server.tricks = at(_0=cut)
    captioner_ = captioner(max_requests=3, concurrency=1)
    assert [type(o) for o in captioner_.caption(items(4))] == [Caption, Caption, NotAsked, NotAsked]
    assert captioner_.sent().requests == 3


def test_the_cap_on_tokens_is_never_passed(server, captioner, in_process):
    each = in_process[0].prompt_tokens + spec().decoding.max_new_tokens
    captioner_ = captioner(max_tokens=2 * each)
    outcomes = captioner_.caption(items(6))
    sent = captioner_.sent()
    assert 2 <= sum(isinstance(o, Caption) for o in outcomes) < 6
    assert sent.prompt_tokens + sent.new_tokens <= 2 * each
    assert sent.requests == len(server.requests)


def test_a_cap_on_tokens_needs_a_server_that_counts_them(server, captioner):
    uncounted = json.dumps({k: v for k, v in completion("a", "stop", 1, 1).items() if k != "usage"})
    server.tricks = lambda number: says(uncounted)
    outcomes = captioner(max_tokens=10**6, concurrency=1).caption(items(3))
    assert outcomes[0].text == "a"
    assert "does not say how many tokens" in outcomes[1].why.message
    assert len(server.requests) == 1


# Sound


def heard(hertz: float) -> Row:
    """Two windows of a tone."""
    samples = np.concatenate([sound_samples.tone(hertz, 0.5, 16_000), sound_samples.tone(hertz, 0.1, 16_000)])
    return (Sound(samples, 16_000, ((0.0, 0.5, 8000), (0.5, 0.6, 1600)), 0.35),)


SOUND = {"source": "video.sound", "windows": "all", "max_windows": 2}


def test_a_sound_travels_as_a_wav_file_of_16_bits_per_window(server, captioner):
    server.tricks = lambda number: says(json.dumps(completion("a tone", "stop", 40, 3)))
    (caption,) = captioner(spec_=spec(**SOUND)).caption([heard(440)])
    assert caption.text == "a tone"
    *sounds, text = server.bodies[0]["messages"][0]["content"]
    assert [part["type"] for part in sounds] == ["input_audio", "input_audio"]
    assert text == {"type": "text", "text": spec(**SOUND).prompt.text}
    for part, seconds in zip(sounds, (0.5, 0.1), strict=True):
        assert part["input_audio"]["format"] == "wav"
        data = base64.b64decode(part["input_audio"]["data"])
        with wave.open(io.BytesIO(data)) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        assert np.abs(samples / 32_767 - sound_samples.tone(440, seconds, 16_000)).max() <= 0.5 / 32_767


def test_frames_and_sound_are_one_question(server, captioner):
    server.tricks = lambda number: says(json.dumps(completion("both", "stop", 40, 3)))
    both = spec(source=None, inputs=["video", "video.sound?"])
    frames = Frames(np.zeros((2, 8, 8, 3), np.uint8), (0.0, 1.0))
    captioner(spec_=both, concurrency=1).caption([(frames, *heard(440)), (frames, None)])
    kinds = [[part["type"] for part in body["messages"][0]["content"]] for body in server.bodies]
    assert kinds[0] == ["image_url", "image_url", "input_audio", "input_audio", "text"]
    assert kinds[1] == ["image_url", "image_url", "text"]


def test_an_answer_about_a_sound_is_found_again_for_that_sound_alone(server, captioner):
    server.tricks = lambda number: says(json.dumps(completion("a tone", "stop", 40, 3)))
    captioner(spec_=spec(**SOUND)).caption([heard(440)])
    captioner(spec_=spec(**SOUND)).caption([heard(440), heard(450)])
    assert len(server.requests) == 2


def test_what_was_asked_before_there_was_sound_is_the_same_question():
    (feature,) = resolve_all(
        {"caption": FeatureConfig(**{"source": "cover", "captioner": "openai", "model": "m"})}
    )
    pixels = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    digest = openai._digest(feature, (Turn("user", "What is it?", pixels),), feature.decoding)
    assert digest == "aa4e4f23cf32b8aec69f62d1dfa828adce02d2ffafdf4b7d96115e4572a79853"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"source": "video", "as": "video"}, "cannot show frames as one video"),
        ({**SOUND, "send_as": "jpeg"}, "'send_as' goes with pictures or a clip"),
        ({**SOUND, "window_seconds": 5.0, "windows": "first"}, "'max_windows' goes with"),
    ],
)
def test_what_no_request_can_say_is_refused(options, problem):
    with pytest.raises(ConfigError, match=problem):
        spec(**options)


# What decides the values


def test_what_decides_values_decides_the_fingerprint_and_where_the_server_is_does_not():
    plain = spec()
    for other in ({"model": "other"}, {"revision": "fp8"}, {"max_new_tokens": 7}, {"temperature": 0.5},
                  {"max_side": 64}, {"send_as": "jpeg"}, {"prompt": "tags"}):  # fmt: skip
        assert spec(**other).fingerprint != plain.fingerprint, other
    assert plain.weights.location is None


def test_a_server_is_sent_the_pixels_that_its_model_would_resize_to(server, captioner, tmp_path):
    processor = Qwen2VLImageProcessor(size={"shortest_edge": 28 * 28, "longest_edge": 20 * 28 * 28})
    processor.save_pretrained(tmp_path)
    asked = spec(resize=str(tmp_path))
    original = synthetic.render(synthetic.held_out(1)[0])[:80]
    finished = render_view(original, asked.pixels.view)
    captioner(spec_=asked, journal=None).caption([(Frames(finished[None], (0.0,)),)])
    url = server.bodies[0]["messages"][0]["content"][0]["image_url"]["url"]
    sent = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert sent.size != original.shape[1::-1]
    theirs, ours = (processor([one], return_tensors="pt") for one in (Image.fromarray(original), sent))
    assert theirs["pixel_values"].equal(ours["pixel_values"])


def test_an_items_text_can_end_no_turn(captioner):
    text = captioner().sanitised("good <|im_end|> <image> [INST] <end_of_turn> </s> 3 < 4 > 2 <b>")
    assert text.split() == ["good", "3", "<", "4", ">", "2", "<b>"]


def test_sampling_sends_a_seed_of_the_question(server, captioner):
    sampled = spec(temperature=0.8)
    captioner(journal=None, spec_=sampled, concurrency=1).caption(items(2))
    captioner(journal=None, spec_=sampled, concurrency=1).caption(items(2))
    seeds = [body["seed"] for body in server.bodies]
    assert seeds[:2] == seeds[2:]
    assert seeds[0] != seeds[1]


@pytest.mark.parametrize(
    "url", ["ftp://host/v1", "host", "http://me:secret@host/v1", "http://host/v1?key=secret"]
)
def test_an_address_can_hold_no_key_and_is_not_repeated_where_it_does(url, monkeypatch):
    with pytest.raises(ValueError, match="server's address") as raised:
        ServerConfig(base_url=url)
    assert "secret" not in raised.value.errors()[0]["msg"]
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(ConfigError) as raised:
        OpenAICaptioner(spec(), Placement())
    assert "secret" not in str(raised.value)


def test_without_an_address_it_says_how_to_name_one(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ConfigError, match="no server to ask") as raised:
        OpenAICaptioner(spec(), Placement())
    assert "OPENAI_BASE_URL" in raised.value.hint


def test_the_key_is_sent_and_shown_nowhere(server, captioner, monkeypatch, tmp_path):
    key = "sk-never-to-be-seen-4711"
    monkeypatch.setenv("THE_KEY", key)
    server.key = key
    captioner_ = captioner(api_key_env="THE_KEY")
    captioner_.caption(items(2))
    assert server.keys == [f"Bearer {key}"] * 2
    server.key = "another"
    (refused,) = captioner(api_key_env="THE_KEY", run_id="x", journal=None).caption(items(1))
    assert "wrong key: Bearer ***" in refused.why.message
    server.key, server.tricks = None, lambda number: error(400, f"you sent {key}")
    (failed,) = captioner(api_key_env="THE_KEY", run_id="y", journal=None).caption(items(1))
    assert failed.reason == "the server answered 400: you sent ***"
    shown = [
        repr(captioner_),
        repr(vars(captioner_)),
        str(refused),
        repr(failed),
        captioner_.spec.model_dump_json(),
    ]
    kept = [path.read_text() for path in tmp_path.rglob("*.json")]
    assert len(kept) == 2
    assert not [text for text in [*shown, *kept] if key in text]


def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(server, captioner, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-one\nsk-two")
    with pytest.raises(ConfigError) as raised:
        captioner()
    assert "sk-" not in str(raised.value)


def test_the_contract_of_methods_is_kept(server):
    table = {"source": "cover", "captioner": "openai", "model": spec().model}
    sending = Sending(server=ServerConfig(base_url=server.url))
    nothing = (Frames(np.zeros((0, 8, 8, 3), np.uint8), ()),)
    client.client_of.cache_clear()
    check_method(OpenAICaptioner, table, items(4), failing=[nothing], place=Placement(sending=sending))
