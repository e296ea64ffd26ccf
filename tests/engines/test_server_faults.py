"""Faults of a server are never an item's, a setting that it takes of nobody is no item's, and an answer has
an end: against a real HTTP server that behaves as badly as servers were seen to."""

from __future__ import annotations

import gzip
import json
import threading

import pytest
from asking import items, spec
from chat_server import at, completion, cut, error, hang, says, tiny_model

from mmfeat.extract.base import Caption
from mmfeat.extract.served import client
from mmfeat.schemas.errors import ItemError, NotAsked, ServerRefused, ServerUnavailable


@pytest.fixture(scope="module")
def in_process() -> list[Caption]:
    return tiny_model().caption(items(4))


def broken(handler) -> None:
    """The connection ends without an answer."""
    handler.close_connection = True


def loading(handler) -> None:
    handler.error(503, "loading model")


WEB_PAGE = says("<!DOCTYPE html><html>Bad gateway</html>")
BUSY = says('{"error": {"message": "overloaded", "type": "overloaded_error"}}')
FAULTS = {
    "loading": loading, "bad gateway": error(502), "gateway timeout": error(504), "busy": error(429),
    "server error": error(500), "broken": broken, "cut": cut, "web page": WEB_PAGE, "empty": says(""),
    "error as 200": BUSY, "overloaded": error(529),
    "aborted": says(json.dumps(completion("a", "abort", 1, 1))),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_server_in_trouble_for_a_while_costs_no_caption(server, captioner, in_process, fault):
    server.tricks = lambda number: fault if number < 12 else None
    assert captioner(concurrency=2).caption(items(4)) == in_process


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_server_that_stays_in_trouble_stops_the_run_and_fails_no_item(server, captioner, fault):
    server.tricks = lambda number: fault if number else None
    outcomes = captioner(concurrency=2, wait_seconds=0.5).caption(items(4))
    assert [isinstance(o, Caption) for o in outcomes].count(True) == 1
    stopped = [o for o in outcomes if not isinstance(o, Caption)]
    assert all(isinstance(o, NotAsked) and isinstance(o.why, ServerUnavailable) for o in stopped)
    assert "wait_seconds" in stopped[0].why.hint


def test_a_server_that_hangs_for_everybody_fails_no_item(server, captioner):
    server.tricks = lambda number: hang
    outcomes = captioner(timeout=0.3, wait_seconds=1).caption(items(2))
    assert all(isinstance(o.why, ServerUnavailable) for o in outcomes)


def test_a_server_that_is_slow_for_many_at_once_fails_no_item(server, captioner, in_process):
    # Four at once take the tiny model longer than the timeout, one does not.
    slow = threading.Semaphore(1)

    def one_by_one(handler) -> None:
        with slow:
            handler.server.released.wait(0.4)
            handler.reply(200, json.dumps(completion("a cat", "stop", 1, 1)))

    server.tricks = lambda number: one_by_one
    outcomes = captioner(concurrency=4, timeout=1.0).caption(items(4))
    assert [o.text for o in outcomes] == ["a cat"] * 4


@pytest.mark.parametrize("fault", [error(500), broken, hang], ids=["500", "broken", "hang"])
def test_an_item_that_alone_upsets_the_server_fails_alone_also_as_the_last_one(server, captioner, fault):
    captioner(journal=None).caption(items(1))
    poison = server.requests[0]
    server.tricks = lambda number: fault if server.requests[number] == poison else None
    (outcome,) = captioner(timeout=1.0, journal=None).caption(items(1))
    assert type(outcome) is ItemError
    assert "attempts)" in outcome.reason
    outcomes = captioner(timeout=3.0, concurrency=1).caption(items(3))
    assert [type(o) for o in outcomes] == [ItemError, Caption, Caption]


def test_a_server_that_asks_for_longer_than_the_job_waits_ends_the_run(server, captioner):
    server.tricks = lambda number: error(503, "later", Retry_After="30")
    (outcome,) = captioner(wait_seconds=5).caption(items(1))
    assert isinstance(outcome.why, ServerUnavailable)
    assert "asks for 30 s more" in outcome.why.message
    assert len(server.requests) == 1


# What is no item's and no passing trouble


@pytest.mark.parametrize(
    "said",
    [
        "The model `m` does not exist.",
        "At most 1 image(s) may be provided in one request.",
        "Unsupported value: 'temperature' does not support 0 with this model.",
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_a_setting_that_the_server_takes_of_nobody_stops_after_a_few(server, captioner, said, status):
    server.tricks = lambda number: error(status, f"{said} (request {number})")
    outcomes = captioner(concurrency=4).caption(items(8))
    assert all(isinstance(o, NotAsked) and isinstance(o.why, ServerRefused) for o in outcomes)
    assert said in outcomes[0].why.message
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("said", "times"),
    [
        ("max_tokens is too large: 100000. This model supports at most 16384 completion tokens.", 3),
        ("This model's maximum context length is 2048 tokens. However, you requested {} tokens.", 8),
        ("Unsupported image format webp; use png", 8),
    ],
)
def test_a_setting_that_reads_like_an_items_trouble_stops_when_nothing_was_taken(
    server, captioner, said, times
):
    server.tricks = lambda number: error(400, said.format(2500 + number))
    outcomes = captioner(concurrency=4).caption(items(12))
    assert all(isinstance(o, NotAsked) and isinstance(o.why, ServerRefused) for o in outcomes)
    assert len(server.requests) == times


def test_an_error_that_comes_with_status_200_is_one_all_the_same(server, captioner):
    server.tricks = lambda number: says('{"error": {"message": "no such model", "code": "model_not_found"}}')
    outcomes = captioner(concurrency=1).caption(items(5))
    assert all(isinstance(o.why, ServerRefused) for o in outcomes)
    assert len(server.requests) == 3
    server.tricks = lambda number: says('{"object": "error", "message": "wrong key", "code": 401}')
    (outcome,) = captioner(run_id="x").caption(items(1))
    assert "does not let us in (401): wrong key" in outcome.why.message


@pytest.mark.parametrize("status", [405, 410, 501])
def test_an_address_that_takes_no_questions_stops_at_once(server, captioner, status):
    server.tricks = lambda number: error(status)
    outcomes = captioner().caption(items(4))
    assert all(isinstance(o.why, ServerRefused) for o in outcomes)
    assert len(server.requests) == 1


def test_a_server_that_answers_texts_and_no_pictures_stops_after_a_few(server, captioner):
    def of_pictures(number):
        has_picture = "image_url" in json.dumps(server.bodies[number])
        return error(500, "image input is not supported") if has_picture else None

    server.tricks = of_pictures
    outcomes = captioner(concurrency=4).caption(items(8))
    assert all(isinstance(o, NotAsked) and isinstance(o.why, ServerRefused) for o in outcomes)
    assert "image input is not supported" in outcomes[0].why.message


@pytest.mark.parametrize("status", [403, 404])
def test_one_request_that_is_kept_out_costs_its_item_alone(server, captioner, status):
    captioner(concurrency=1, journal=None).caption(items(2))
    kept_out = server.requests[1]
    server.tricks = lambda number: error(status) if server.requests[number] == kept_out else None
    outcomes = captioner(concurrency=1, journal=None).caption(items(4))
    assert [type(o) for o in outcomes] == [Caption, ItemError, Caption, Caption]


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_server_that_lets_us_in_no_more_fails_no_item(server, captioner, status):
    server.tricks = lambda number: error(status) if number > 1 else None
    outcomes = captioner(concurrency=1).caption(items(4))
    assert [type(o) for o in outcomes] == [Caption, Caption, NotAsked, NotAsked]
    assert isinstance(outcomes[-1].why, ServerRefused)


def test_pictures_that_are_too_large_are_their_items_even_if_they_come_first(server, captioner):
    server.tricks = lambda number: error(400, f"image too large: {number} bytes") if number < 4 else None
    outcomes = captioner(concurrency=1).caption(items(6))
    assert [type(o) for o in outcomes] == [ItemError] * 4 + [Caption] * 2


def test_refusals_are_their_items_once_one_was_taken(server, captioner):
    server.tricks = lambda number: error(400, "I do not take this") if number else None
    outcomes = captioner(concurrency=1).caption(items(6))
    assert [type(o) for o in outcomes] == [Caption] + [ItemError] * 5


# How servers spell an answer


@pytest.mark.parametrize(
    ("finish", "expected"),
    [("eos", "stop"), ("eos_token", "stop"), ("end", "stop"), ("end_turn", "stop"), ("STOP", "stop"),
     ("stop_sequence", "stop"), ("", "stop"), (None, "stop"), ("COMPLETE", "stop"), ("MAX_TOKENS", "length"),
     ("max_tokens", "length"), ("Length", "length"), ("model_length", "length")],
)  # fmt: skip
def test_an_end_is_known_by_any_name(server, captioner, finish, expected):
    server.tricks = lambda number: says(json.dumps(completion("a cat", finish, 5, 3)))
    (caption,) = captioner(journal=None).caption(items(1))
    assert (caption.text, caption.finish_reason) == ("a cat", expected)


def test_without_a_reason_an_answer_as_long_as_it_may_be_is_cut(server, captioner):
    body = completion("a cat", None, 5, 7)
    del body["choices"][0]["finish_reason"]
    server.tricks = lambda number: says(json.dumps(body))
    (caption,) = captioner(spec_=spec(max_new_tokens=7)).caption(items(1))
    assert caption.finish_reason == "length"


STREAM = [{"choices": [{"delta": {"role": "assistant", "content": "a "}}]},
          {"choices": [{"delta": {"content": "cat"}, "finish_reason": "stop"}]},
          {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}]  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        "\ufeff" + json.dumps(completion("a cat", "stop", 5, 2)),
        "\n\n  " + json.dumps(completion("a cat", "stop", 5, 2)),
        json.dumps(completion([{"type": "text", "text": text} for text in ("a ", "cat")], "stop", 5, 2)),
        json.dumps(completion([{"type": "output_text", "text": "a cat"}], "stop", 5, 2)),
        json.dumps(completion(["a ", "cat"], "stop", 5, 2)),
        json.dumps(completion({"type": "text", "text": {"value": "a cat"}}, "stop", 5, 2)),
        f"data: {json.dumps(completion('a cat', 'stop', 5, 2))}\n\ndata: [DONE]\n\n",
        ": ping\n\n" + "".join(f"data: {json.dumps(e)}\n\n" for e in STREAM) + "data: [DONE]\n\n",
        json.dumps({"choices": [{"text": "a cat", "finish_reason": "stop"}],
                    "usage": {"input_tokens": 5, "output_tokens": 2}}),
    ],
    ids=["bom", "blanks", "parts", "output parts", "strings", "value", "event", "stream", "text"],
)  # fmt: skip
def test_a_completion_is_read_in_whatever_form_it_comes(server, captioner, body):
    server.tricks = lambda number: says(body)
    (caption,) = captioner(journal=None).caption(items(1))
    assert (caption.text, caption.prompt_tokens, caption.new_tokens) == ("a cat", 5, 2)


@pytest.mark.parametrize("finish", ["content_filter", "SAFETY", "prohibited_content", "refusal"])
def test_a_filter_by_any_name_is_a_refusal(server, captioner, finish):
    server.tricks = lambda number: says(json.dumps(completion("", finish, 5, 3)))
    (outcome,) = captioner(journal=None).caption(items(1))
    assert "the model refused" in outcome.reason


@pytest.mark.parametrize(
    "more",
    [
        {"reasoning_content": "It has ears."},
        {"reasoning": "It has ears."},
        {"reasoning": "It has ears.", "reasoning_content": "It has ears."},
        {"thinking": "It has ears."},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "It has ears."}]},
                     {"type": "text", "text": "a cat"}]},
        {"content": "<think>It has ears.</think>a cat"},
    ],
)  # fmt: skip
def test_reasoning_that_a_server_gives_apart_is_a_fact_and_no_caption(server, captioner, more):
    body = completion("a cat", "stop", 5, 3)
    body["choices"][0]["message"].update(more)
    server.tricks = lambda number: says(json.dumps(body))
    (caption,) = captioner(journal=None).caption(items(1))
    assert (caption.text, caption.reasoning_characters) == ("a cat", 12)


@pytest.mark.parametrize("content", [None, "", "<think>It has"])
def test_an_answer_that_ends_before_the_reasoning_does_says_what_to_raise(server, captioner, content):
    body = completion(content, "length", 5, 3)
    body["choices"][0]["message"]["reasoning_content"] = "It has"
    server.tricks = lambda number: says(json.dumps(body))
    (outcome,) = captioner(journal=None).caption(items(1))
    assert "nothing but reasoning (finish_reason length): raise max_new_tokens" in outcome.reason


def test_what_switches_thinking_off_is_sent_and_is_sent_only_then(server, captioner):
    off = {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "none",
           "extra_body": {"top_k": 1}}  # fmt: skip
    captioner(spec_=spec(**off)).caption(items(1))
    captioner().caption(items(1))
    said, plain = server.bodies
    assert said.items() >= {"chat_template_kwargs": {"enable_thinking": False}, "top_k": 1}.items()
    assert said["reasoning_effort"] == "none"
    assert not {"chat_template_kwargs", "reasoning_effort", "top_k", "extra_body"} & plain.keys()


# An answer has an end


BOMB = gzip.compress(bytes(64 << 20), compresslevel=1)


def endless(handler) -> None:
    """Blanks for as long as somebody reads them."""
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    while not handler.server.released.is_set():
        handler.wfile.write(b" " * 65536)


def bomb(handler) -> None:
    data = BOMB
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def trickle(handler) -> None:
    """A byte now and then, so that no single read is long."""
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    while not handler.server.released.wait(0.1):
        handler.wfile.write(b" ")


def packed(handler) -> None:
    data = gzip.compress(json.dumps(completion("a cat", "stop", 1, 1)).encode())
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


@pytest.mark.parametrize(
    ("answer", "timeout", "words"),
    [
        (endless, 60.0, "larger than 16 MiB"),
        (bomb, 60.0, "larger than 16 MiB"),
        (trickle, 1.0, "no answer within 1 s"),
    ],
)
def test_an_answer_without_end_is_given_up(server, captioner, answer, timeout, words):
    server.tricks = lambda number: answer
    (outcome,) = captioner(timeout=timeout, wait_seconds=0, journal=None).caption(items(1))
    assert words in outcome.why.message


def test_a_packed_answer_that_nobody_asked_for_is_read(server, captioner):
    server.tricks = at(_0=packed)
    (caption,) = captioner().caption(items(1))
    assert caption.text == "a cat"


def test_what_is_read_of_an_answer_is_bounded_before_it_is_read(server, captioner, monkeypatch):
    monkeypatch.setattr(client, "_MOST_BYTES", 1000)
    server.tricks = lambda number: says(json.dumps(completion("a" * 2000, "stop", 1, 1)))
    (outcome,) = captioner(wait_seconds=0).caption(items(1))
    assert isinstance(outcome.why, ServerUnavailable)
