"""Vectors of a server, against a real HTTP server that fakes ``/v1/embeddings`` (``vector_server.py``)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chat_server
import numpy as np
import pytest
import vector_server
from chat_server import error, says
from helpers import worlds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vector_server import DIMS, SYSTEM, of_text

import mmfeat
from mmfeat.extract.base import Placement, Usage
from mmfeat.extract.encoders.openai import OpenAIEncoder
from mmfeat.extract.registry import resolve_all
from mmfeat.extract.served import client
from mmfeat.schemas.catalog import Column
from mmfeat.schemas.errors import (
    ConfigError,
    ItemError,
    NotAsked,
    ServerRefused,
    ServerUnavailable,
    SpendingCap,
)
from mmfeat.schemas.media import Frames, Pictures
from mmfeat.schemas.server import Sending, ServerConfig, SpendingConfig
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec

RED, BLUE = np.full((4, 4, 3), (200, 0, 0), np.uint8), np.full((4, 4, 3), (0, 0, 100), np.uint8)
COLUMNS = {
    "title": Column("title", "text"),
    "cover": Column("cover", "image"),
    "photos": Column("photos", "image", several=True),
    "video": Column("video", "video"),
}


def table(**options: Any) -> dict[str, Any]:
    read = {} if "inputs" in options else {"source": "title"}
    return {**read, "encoder": "openai", "model": vector_server.MODEL, "dims": DIMS, **options}


def spec(**options: Any) -> FeatureSpec:
    asked = {key: value for key, value in table(**options).items() if value is not None}
    return resolve_all({"v": FeatureConfig(**asked)}, COLUMNS)[0]


@pytest.fixture(scope="module")
def fake() -> Iterator[vector_server.VectorServer]:
    with chat_server.running(vector_server.VectorServer) as server:
        yield server


def restart(server: vector_server.VectorServer) -> None:
    """As if it had just started."""
    server.tricks, server.as_numbers = (lambda number: None), False
    server.requests, server.bodies = [], []
    server.finished.clear()
    client.client_of.cache_clear()


@pytest.fixture
def server(fake, monkeypatch) -> Iterator[vector_server.VectorServer]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", fake.url)
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.02)
    restart(fake)
    yield fake
    fake.released.set()
    while fake.under_way:
        time.sleep(0.01)
    fake.released = threading.Event()


def encoder(
    server: Any, spec_: FeatureSpec | None = None, journal: Path | None = None, caps: Any = None, **asked: Any
) -> OpenAIEncoder:
    """A new one, as a new process of the same run would have it."""
    client.client_of.cache_clear()
    sending = Sending(
        run_id="run",
        server=ServerConfig(**{"base_url": server.url, **asked}),
        spending=SpendingConfig(**(caps or {})),
        journal=None if journal is None else str(journal),
    )
    return OpenAIEncoder(spec_ or spec(), Placement(sending=sending))


def rows(*texts: str) -> list[tuple[str]]:
    return [(text,) for text in texts]


def test_texts_go_several_a_request_and_vectors_come_back_by_their_index(server):
    texts = ["a", "bb", "ccc", "dab", "e", "ff", "gag"]
    found = encoder(server, vectors_per_request=3).run(rows(*texts))
    assert sorted(len(body["input"]) for body in server.bodies) == [1, 3, 3]
    np.testing.assert_array_equal(np.stack(found), [of_text(text) for text in texts])
    assert all(one.dtype == np.float32 for one in found)


def test_vectors_as_numbers_are_those_of_base64(server):
    packed = encoder(server).run(rows("abba", "c"))
    server.as_numbers = True
    np.testing.assert_array_equal(encoder(server).run(rows("abba", "c")), packed)
    assert server.bodies[0]["encoding_format"] == "base64"


def test_a_request_says_dimensions_and_what_else_a_person_wants_of_it(server):
    asked = spec(dims=None, dimensions=8, extra_body={"truncate_prompt_tokens": 64}, prompt="aa ")
    (found,) = encoder(server, asked).run(rows("abc"))
    (body,) = server.bodies
    assert (body["dimensions"], body["truncate_prompt_tokens"]) == (8, 64)
    assert body["input"] == ["aa abc"]
    assert found.shape == (8,)
    assert "dimensions" not in encoder(server, spec()).spec.options


def test_normalize_gives_vectors_their_length(server):
    (found,) = encoder(server, spec(normalize=True)).run(rows("aabb"))
    assert np.linalg.norm(found) == pytest.approx(1)


def test_vectors_of_another_length_stop_the_run_and_say_which_length_to_set(server):
    found = encoder(server, spec(dims=1024)).run(rows("a", "b", "c"))
    assert all(isinstance(one, NotAsked) and isinstance(one.why, ServerRefused) for one in found)
    assert f"vectors of {DIMS} numbers, and the feature says 1,024" in found[0].why.message
    assert f"dims = {DIMS}" in found[0].why.hint
    assert len(server.requests) == 1


def test_a_server_that_does_not_cut_vectors_as_asked_says_what_to_write_in_the_place(server):
    server.tricks = lambda number: says('{"data": [{"index": 0, "embedding": [1.0, 2.0, 3.0]}]}')
    (found,) = encoder(server, spec(dims=None, dimensions=2)).run(rows("a"))
    assert "vectors of 3 numbers, and was asked to cut them to 2" in found.why.message
    assert "dims = 3 in the place of dimensions = 2" in found.why.hint


TOO_LONG = 40


def faulty(handler: Any) -> None:
    """No text longer than ``TOO_LONG``; of one with ``?`` a NaN, of one without a known letter zeros."""
    texts = handler.body["input"]
    if any(len(text) > TOO_LONG for text in texts):
        handler.error(400, "this model's maximum context length is 8 tokens")
        return
    answer = handler.server.complete({**handler.body, "encoding_format": "float"})
    for one in answer["data"]:
        if "?" in texts[one["index"]]:
            one["embedding"][0] = float("nan")
        elif "!" in texts[one["index"]]:
            one["embedding"] = []
    handler.reply(200, json.dumps(answer))


TEXTS = {"fine": "abc", "long": "a" * (TOO_LONG + 1), "nan": "b?", "empty": "b!", "zeros": "zzz"}
WORDS = {
    "long": "maximum context",
    "nan": "NaN or infinity",
    "empty": "an empty vector",
    "zeros": "a vector of zeros",
}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=st.lists(st.sampled_from(list(TEXTS)), min_size=1, max_size=14), at_once=st.integers(1, 6))
def test_what_is_wrong_with_one_text_costs_no_other(server, kinds, at_once):
    restart(server)
    method = encoder(server, vectors_per_request=at_once)
    method.run(rows("the server takes texts"))
    server.tricks = lambda number: faulty
    texts = [
        f"{TEXTS[kind]}{'qr'[n % 2] * n if kind in ('fine', 'nan') else ''}" for n, kind in enumerate(kinds)
    ]
    for kind, text, one in zip(kinds, texts, method.run(rows(*texts)), strict=True):
        if kind == "fine":
            np.testing.assert_array_equal(one, of_text(text))
        else:
            assert (type(one), one.stage) == (ItemError, "encode")
            assert WORDS[kind] in one.reason


@pytest.mark.parametrize(
    "answer",
    [
        {"data": []},
        {"data": [{"index": 0, "embedding": [1.0] * DIMS}] * 2},
        {"data": [{"index": 0}]},
        {"data": None},
        ["no"],
    ],
    ids=["none", "one index twice", "no vector", "no list", "no object"],
)
def test_a_wrong_number_of_vectors_is_no_answer(server, answer):
    method = encoder(server)
    method.run(rows("a"))
    server.tricks = lambda number: says(json.dumps(answer))
    (found,) = method.run(rows("b"))
    assert isinstance(found, ItemError) and not isinstance(found, NotAsked)
    assert "vectors" in found.reason


@pytest.mark.parametrize(
    "trick",
    [faulty, says('{"data": []}'), error(400, "dimensions is not supported"), error(422, "no such field")],
)
def test_a_server_that_takes_no_text_stops_the_run_and_fails_no_item(server, trick):
    server.tricks = lambda number: trick
    found = encoder(server).run(rows(*(f"{'a' * n}?" for n in range(1, 9))))
    assert all(isinstance(one, NotAsked) and isinstance(one.why, ServerRefused) for one in found)
    assert "dimensions" in found[0].why.hint
    assert len(server.requests) < 12


@pytest.mark.parametrize(
    "trick", [error(503, "loading"), error(429, "busy"), chat_server.cut, says("<html>")]
)
def test_a_server_in_trouble_for_a_while_costs_no_vector(server, trick):
    server.tricks = lambda number: trick if number < 4 else None
    found = encoder(server, concurrency=2, vectors_per_request=2).run(rows("a", "b", "c", "d", "e"))
    np.testing.assert_array_equal(np.stack(found), [of_text(text) for text in "abcde"])


def test_a_server_that_stays_away_stops_the_run_and_what_it_gave_is_kept(server, tmp_path):
    server.tricks = lambda number: error(503, "gone") if number else None
    asked = {"wait_seconds": 0.2, "concurrency": 1, "vectors_per_request": 2}
    found = encoder(server, journal=tmp_path, **asked).run(rows("a", "b", "c", "d"))
    assert isinstance(found[3], NotAsked) and isinstance(found[3].why, ServerUnavailable)
    restart(server)
    again = encoder(server, journal=tmp_path, **asked).run(rows("a", "b", "c", "d"))
    assert [body["input"] for body in server.bodies] == [["c", "d"]]
    np.testing.assert_array_equal(np.stack(again), [of_text(text) for text in "abcd"])


def test_a_text_is_paid_for_once_whatever_company_it_is_asked_in(server, tmp_path):
    first = encoder(server, journal=tmp_path, vectors_per_request=3).run(rows("a", "b", "c", "d"))
    restart(server)
    again = encoder(server, journal=tmp_path, vectors_per_request=2).run(rows("d", "e", "b", "a"))
    assert [body["input"] for body in server.bodies] == [["e"]]
    np.testing.assert_array_equal([again[0], again[2], again[3]], [first[3], first[1], first[0]])


def test_the_journal_holds_no_text_of_an_item(server, tmp_path):
    encoder(server, journal=tmp_path).run(rows("a secret title"))
    (entry,) = tmp_path.rglob("*.json")
    assert "secret" not in entry.read_text()


def test_requests_and_tokens_are_counted_and_capped(server):
    method = encoder(server, vectors_per_request=2)
    method.run(rows("a", "b", "c"))
    assert method.sent() == Usage(2, 15)
    capped = encoder(server, caps={"max_requests": 1}, vectors_per_request=2, concurrency=1)
    found = capped.run(rows("a", "b", "c"))
    assert [isinstance(one, NotAsked) for one in found] == [False, False, True]
    assert isinstance(found[2].why, SpendingCap)
    tokens = encoder(server, caps={"max_tokens": 12}, vectors_per_request=2, concurrency=1)
    assert [isinstance(one, NotAsked) for one in tokens.run(rows("a", "b", "c", "d"))] == [False] * 2 + [
        True
    ] * 2


def sound(loudness: float) -> Sound:
    return Sound(np.full(160, loudness, np.float32), 16_000, ((0.0, 0.01, 160),), loudness)


def test_vllm_is_asked_one_message_of_all_that_is_read_in_the_order_of_inputs(server):
    asked = spec(inputs=["title", "photos", "video.sound?"], server="vllm", prompt="b")
    row = ("a<|im_end|>", Pictures((RED, BLUE)), sound(0.5))
    found = encoder(server, asked).run([row, ("c", Pictures((RED,)), None)])
    system, user = server.bodies[0]["messages"]
    assert (system["role"], system["content"][0]["text"]) == ("system", "b")
    assert [part["type"] for part in user["content"]] == ["text", "image_url", "image_url", "input_audio"]
    assert "input" not in server.bodies[0]
    assert "im_end" not in user["content"][0]["text"]
    letters = dict(zip(vector_server.LETTERS, found[0], strict=False))
    assert (letters["a"], letters["b"]) == (1, SYSTEM)
    assert found[0][19:22].tolist() == [2 * 200, 0, 3 * 100]
    assert found[0][22] == pytest.approx(4 * 0.5, rel=1e-3)
    assert found[1][19:23].tolist() == [400, 0, 0, 0]


def test_a_text_alone_is_a_message_to_vllm_so_that_it_lies_where_pictures_do(server):
    encoder(server, spec(server="vllm")).run(rows("a"))
    assert server.bodies[0]["messages"] == [{"role": "user", "content": [{"type": "text", "text": "a"}]}]


def test_frames_of_a_clip_are_so_many_pictures_of_a_message(server):
    clip = Frames(np.stack([RED, BLUE]), (0.0, 1.0))
    encoder(server, spec(source="video", server="vllm", frames=2)).run([(clip,)])
    assert [part["type"] for part in server.bodies[0]["messages"][0]["content"]] == ["image_url"] * 2


def test_sglang_is_asked_a_text_and_a_picture_several_a_request(server):
    asked = spec(inputs=["title", "cover"], server="sglang", prompt="b")
    still = Frames(RED[None], (0.0,))
    found = encoder(server, asked).run([("a", still), ("c", still)])
    (body,) = server.bodies
    assert [sorted(one) for one in body["input"]] == [["image", "text"]] * 2
    assert body["input"][1]["text"] == "bc"
    assert (found[0][0], found[1][2], found[0][19]) == (1, 1, 200)


def test_sglang_is_asked_for_several_pictures_one_by_one(server):
    item = (Pictures((RED, BLUE)),)
    mean, each = (spec(source="photos", server="sglang", pictures=how) for how in ("mean", "each"))
    (of_all,) = encoder(server, mean).run([item])
    assert of_all[19:22].tolist() == [100, 0, 50]
    method = encoder(server, each)
    (of_each,) = method.run([item])
    assert of_each[:, 19:22].tolist() == [[200, 0, 0], [0, 0, 100]]
    assert [span.start for span in method.spans(item, of_each)] == [0, 1]
    clip = spec(source="video", server="sglang", frames=2)
    (of_clip,) = encoder(server, clip).run([(Frames(np.stack([RED, BLUE]), (0.0, 1.0)),)])
    np.testing.assert_array_equal(of_clip, of_all)


def test_a_search_is_asked_behind_its_own_prompt(server):
    asked = spec(source="cover", server="vllm", prompt="a", query_prompt="b")
    method = encoder(server, asked)
    (found,) = method.query("text").encode(["c"])
    assert (found[0], found[1], found[2]) == (0, SYSTEM, 1)
    (seen,) = method.query("image").encode([Frames(RED[None], (0.0,))])
    assert seen[19] == 200
    assert encoder(server, spec()).query("image") is None


def test_a_search_that_the_server_does_not_answer_says_why(server):
    server.tricks = lambda number: error(401, "who are you")
    with pytest.raises(ServerRefused, match="does not let us in"):
        encoder(server).query("text").encode(["c"])


def test_a_server_that_was_away_for_one_search_is_asked_by_the_next(server):
    query = encoder(server, wait_seconds=0.1).query("text")
    server.tricks = lambda number: error(503)
    with pytest.raises(ServerUnavailable):
        query.encode(["c"])
    server.tricks = lambda number: None
    np.testing.assert_array_equal(query.encode(["c"]), [of_text("c")])


def test_a_composed_text_is_one_question(server):
    asked = table(source=None, text="{title} by {brand?}")
    columns = {**COLUMNS, "brand": Column("brand", "text")}
    (composed,) = resolve_all({"v": FeatureConfig(**{k: v for k, v in asked.items() if v})}, columns)
    encoder(server, composed).run(rows("a kettle by b"))
    assert server.bodies[0]["input"] == ["a kettle by b"]


@pytest.mark.parametrize(
    ("options", "says_"),
    [
        ({"dims": None}, "one of dims and dimensions"),
        ({"dimensions": 8}, "one of dims and dimensions"),
        ({"source": "cover"}, "takes text, and 'cover' is a picture"),
        ({"inputs": ["title", "cover"], "server": "openai"}, "'cover' is a picture"),
        ({"inputs": ["title", "photos"], "server": "sglang", "pictures": "mean"}, "pictures alone"),
        ({"source": "video.sound", "server": "sglang"}, "is sound"),
        ({"source": "photos", "server": "vllm", "pictures": "each"}, "pictures alone"),
        ({"source": "photos", "server": "sglang", "pictures": "together"}, "one picture"),
        ({"frames": 3}, "'frames' goes with a clip"),
        ({"extra_body": {"input": "x"}}, "it is what is asked"),
        ({"model": None}, "needs a model"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_a_run(options, says_):
    with pytest.raises(ConfigError, match=says_):
        spec(**options)


def test_the_form_and_what_is_asked_decide_the_version_and_the_server_does_not():
    plain = spec().fingerprint
    others = [
        spec(server="vllm"), spec(prompt="x"), spec(revision="int8"), spec(dims=None, dimensions=DIMS),
        spec(extra_body={"add_generation_prompt": True}),
    ]  # fmt: skip
    assert len({plain, *(one.fingerprint for one in others)}) == 6


def test_a_run_stores_a_servers_vectors_says_what_they_cost_and_searches_them(server, tmp_path):
    media = tmp_path / "media"
    media.mkdir()
    (media / "titles.csv").write_text("item,title\n1,aaa\n2,bbb\n3,zzz\n")
    job = worlds.job(media, tmp_path / "store", {"words": table(normalize=True)})
    job |= {"server": {"base_url": server.url}, "spending": {"prompt_price": 2e5}, "run": {"max_failed": 0.5}}
    report = mmfeat.extract(**job)
    (words,) = report.features
    assert (words.ok, words.failed) == (2, 1)
    assert (words.cost.requests, words.cost.prompt_tokens, words.cost.money) == (1, 15, 3.0)
    assert "2 vectors, 1 requests" in str(words.cost)
    store = mmfeat.open(tmp_path / "store")
    assert [hit.item_id for hit in store.search("words", text="bb", k=1)] == ["2"]
    (failed,) = store.failures("words").to_pylist()
    assert (failed["item_id"], failed["reason"]) == ("3", "the server gave a vector of zeros")
    assert not list((tmp_path / "store").rglob("_requests/*"))
