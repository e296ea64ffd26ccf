"""What a model thinks before it answers is no caption: it is split off, whatever marks it stands in."""

from __future__ import annotations

import json

import pytest
from test_chat_captioner import TAGS, Scripted, grey, prompt_file, spec

from mmfeat.extract.describers.captions.accepting import accepted
from mmfeat.extract.describers.captions.openai import OpenAICaptioner
from mmfeat.extract.describers.captions.reasoning import opened_by, shows_reasoning, split
from mmfeat.extract.registry import resolve_all
from mmfeat.extract.served.reply import Reply
from mmfeat.schemas.errors import ConfigError, ItemError
from mmfeat.schemas.spec import Decoding, FeatureConfig, Prompt

HARMONY = "<|end|><|start|>assistant<|channel|>final<|message|>A cat.<|return|>"
THOUGHT = {
    "tags": "<think>It has ears.</think>A cat.",
    "empty": "<think>\n\n</think>\n\nA cat.",
    "opened by the template": "It has ears.\n</think>\n\nA cat.",
    "longer word": "<thinking>\nIt has ears.\n</thinking>\nA cat.",
    "capitals": "<THINK>It has ears.</THINK> A cat.",
    "brackets": "[THINK]It has ears.[/THINK]A cat.",
    "bullets": "◁think▷It has ears.◁/think▷A cat.",
    "prefixed": "<seed:think>It has ears.</seed:think>A cat.",
    "escaped": "&lt;think&gt;It has ears.&lt;/think&gt;A cat.",
    "tokens": "<|START_THINKING|>It has ears.<|END_THINKING|><|START_RESPONSE|>A cat.<|END_RESPONSE|>",
    "solution": "<|begin_of_thought|>Ears.<|end_of_thought|><|begin_of_solution|>A cat.<|end_of_solution|>",
    "answer": "<think>It has ears.</think>\n<answer>A cat.</answer>",
    "channels": f"<|channel|>analysis<|message|>It has ears.{HARMONY}",
    "channel opened by the template": f"analysis<|message|>It has ears.{HARMONY}",
    "answer alone": "<|channel|>final<|message|>A cat.<|return|>",
    "channels without marks": "analysisWe see ears.assistantfinalA cat.",
    "other channels": "<|channel>thought\nIt has ears.<channel|>A cat.",
    "in words": "Here is my thought process: ears.\n\nHere is my response:\nA cat.",
    "within": "<think>Is <think> a word?</think> no</think>A cat.",
}
PLAIN = [
    "Two cats think about dinner.",
    "A sign says 3 < 4 and 5 > 2.",
    'A shirt that reads "<think>" in white.',
    "A slide about the tags <think> and </think> in HTML.",
    "A poster with `</think>` on it.",
    "The final analysis: <b>bold</b> colours.",
    "[think] different, says the shirt.",
    "Analysis of a chart. Commentary beside it.",
]


@pytest.mark.parametrize("reply", THOUGHT.values(), ids=THOUGHT.keys())
def test_the_answer_is_the_caption_and_the_reasoning_is_not(reply):
    assert split(reply).answer == "A cat."
    assert shows_reasoning(reply)
    assert not shows_reasoning("A cat.")


@pytest.mark.parametrize("text", PLAIN)
def test_a_caption_that_speaks_of_marks_or_thinking_stays_as_it_is(text):
    assert split(text).answer == text
    assert not shows_reasoning(text)


def test_how_much_was_thought_is_a_fact_of_the_row_and_nothing_of_what():
    (caption,) = Scripted(spec(), lambda c: "<think>It has ears.</think>A cat.").caption([grey(1)])
    assert (caption.text, caption.facts()["reasoning_characters"]) == ("A cat.", 12)
    assert "ears" not in json.dumps(caption.facts())
    (plain,) = Scripted(spec(), lambda c: "A cat.").caption([grey(1)])
    assert "reasoning_characters" not in plain.facts()


@pytest.mark.parametrize(
    "reply",
    [
        "<think>It has ea",
        "It has ears.</think>",
        "<|channel|>analysis<|message|>It",
        "analysisWe see",
        "[THINK]It has",
    ],
)
def test_a_reply_of_reasoning_alone_fails_and_says_what_to_raise(reply):
    with pytest.raises(ItemError) as raised:
        accepted(Prompt(name="p", version=1, text="?"), Reply(reply, "length"), Decoding(max_new_tokens=9))
    assert raised.value.stage == "caption"
    assert "nothing but reasoning (finish_reason length)" in raised.value.reason
    assert "max_new_tokens (it is 9)" in raised.value.reason


def test_an_empty_reply_that_was_cut_says_so():
    with pytest.raises(ItemError, match=r"empty \(finish_reason length\): raise max_new_tokens"):
        accepted(Prompt(name="p", version=1, text="?"), Reply("", "length"), Decoding())


def test_json_behind_reasoning_is_read_and_json_that_holds_marks_is_left_alone(tmp_path):
    of_schema = spec(prompt=prompt_file(tmp_path, "Which?", more=TAGS))
    (behind,) = Scripted(of_schema, lambda c: '<think>{"a": 1}?</think>{"colour": "red"}').caption([grey(1)])
    assert (behind.text, behind.retries) == ('{"colour":"red"}', 0)
    marked = '{"colour":"red. <think>so</think>"}'
    (held,) = Scripted(of_schema, lambda c: marked).caption([grey(1)])
    assert held.text == marked


@pytest.mark.parametrize(
    ("question", "opened"),
    [
        ("<|im_start|>assistant\n<think>\n", "<think>"),
        ("[INST]What?[/INST][THINK]", "[THINK]"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", ""),
        ("What do you <think> of it?\nAssistant:", ""),
    ],
)
def test_a_chat_template_that_opens_the_reasoning_is_seen(question, opened):
    assert opened_by(question) == opened


# Switching it off is a part of the spec


def asked(**options: object):
    table = {"source": "cover", "captioner": "openai", "model": "m", **options}
    return resolve_all({"caption": FeatureConfig(**table)})[0]


@pytest.mark.parametrize(
    "option",
    [
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"reasoning_effort": "low"},
        {"extra_body": {"top_k": 1, "thinking": {"type": "disabled"}}},
    ],
)
def test_how_much_a_model_may_think_decides_the_fingerprint(option):
    assert asked(**option).fingerprint != asked().fingerprint
    assert asked(**option).options.items() > asked().options.items()


def test_left_alone_it_is_no_part_of_the_spec():
    assert asked(chat_template_kwargs={}, extra_body={}).fingerprint == asked().fingerprint


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ({"extra_body": {"temperature": 1}}, "'temperature' does not go here"),
        ({"extra_body": {"stream": True}}, "answers are read whole"),
        ({"extra_body": {"api_key": "abc"}}, "may hold no key or password"),
        ({"extra_body": {"user": {"note": "sk-12345678abc"}}}, "may hold no key or password"),
        ({"extra_body": {"stop": [None]}}, "texts, numbers"),
        ({"chat_template_kwargs": {"tokenize": True}}, "is not for a job to say"),
        ({"reasoning_effort": "a lot"}, "reasoning_effort"),
    ],
)
def test_a_field_that_is_no_setting_is_refused_and_no_secret_is_repeated(option, problem):
    with pytest.raises(ConfigError) as raised:
        asked(**option)
    assert problem in str(raised.value)
    assert "sk-1" not in str(raised.value)


def test_stored_texts_with_reasoning_are_out_of_date_and_no_others():
    outdated = OpenAICaptioner.outdated(asked())
    assert [outdated(text) for text in THOUGHT.values()] == [True] * len(THOUGHT)
    assert [outdated(text) for text in PLAIN] == [False] * len(PLAIN)
    assert OpenAICaptioner.outdated(asked(prompt="tags")) is None


def test_whatever_is_left_of_a_reply_shows_no_reasoning_any_more():
    for reply in ("<thi<think></think>nk>a</think>b", "A.\n<think>x</think>\n<think>y", "<think>" * 50):
        assert not shows_reasoning(split(reply).answer)


# Marks that a picture shows, and marks that are ones

SHOWN = [
    "A web page with the closing tag </analysis> visible.",
    "A sign with the text (</think>) on it",
    "A poster that says </think>",
    "A page with <think>. Below it stands </think>, in red.",
    "The word assistantfinal is on the picture",
    "A cat on a mat.\nHere's my response: nice cat",
    "The cover says: <Reflection> by Anna.",
    "Book cover.\nTitle: <Reasoning> A novel",
    "A sticker. [THINK] is printed on it in red.",
    "A sticker. [/THINK] is printed on it in red.",
    "<thoughts> is the name of the brand on the bottle.",
    "<think> and </think> are written on a board.",
    "</think> is written on a wall.",
    "A cover.\n<think> by Anna",
    "Code that ends in </div></think></body> on a screen.",
]
THOUGHT_OF = {
    "<think>a</think>A cat</think>": "A cat",
    "<think>a</think>A cat</think></think>": "A cat",
    "Got it.</think>A cat <think>": "A cat",
    "thoughts</think>A cat": "A cat",
    "thoughts</think>a cat": "a cat",
    "thoughts</think>\n\nA cat": "A cat",
    "thoughts\n</think>\n\na cat": "a cat",
    "It is so. </think> a cat": "a cat",
    "thoughts</think>\u4e00\u53ea\u732b": "\u4e00\u53ea\u732b",
    "The title is <think> hm.\n</think>\n\nA cat": "A cat",
    "<analysis>a</analysis>A cat": "A cat",
    "<think>The word assistantfinal is there.</think>A cat": "A cat",
    "<think>a</think>A cat with the tag </analysis> on it": "A cat with the tag </analysis> on it",
    "A cat.\n<think>Let me see": "A cat.",
    "<think>a</think><ANSWER> A cat </answer>": "A cat",
    "<think>a</think><answer>A cat": "A cat",
}


@pytest.mark.parametrize("text", SHOWN)
def test_a_mark_that_a_picture_shows_cuts_no_caption(text):
    assert split(text).answer == text


@pytest.mark.parametrize("text", SHOWN[:-1])
def test_such_a_caption_is_whole_behind_reasoning_too(text):
    assert split(f"<think>So it is.</think>\n{text} It is red.").answer.endswith("It is red.")


@pytest.mark.parametrize(("reply", "answer"), THOUGHT_OF.items())
def test_marks_that_stand_alone_or_twice_end_and_begin_reasoning(reply, answer):
    assert split(reply).answer == answer


# Twice as long takes twice as long: what grew with the square took minutes for each of these.
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "reply",
    [
        "<think>a</think><answer>" + " " * 200_000 + "x",
        "<think>a</think>" + " " * 100_000 + "<think> is " * 9_000,
        "A <think> b " * 16_000 + "</think>" + " " * 100_000 + "x",
        "<" * 200_000,
        "<" + "a" * 200_000,
        "</" + " " * 200_000,
        "<|end|> " * 25_000,
        "<|end|>" + " " * 200_000,
        "a\n" + " " * 200_000 + "Here",
        "<|channel|>final<|constrain|>" + "a" * 200_000,
        "<|channel|>final" * 12_000,
        "<think>a</think>b" * 12_000,
        "a</think>B" * 20_000,
        "\n" * 200_000 + "<think>",
        "analysisWe" + "assistantfinal " * 14_000,
        "<answer>" * 25_000,
    ],
    ids=range(16),
)
def test_the_time_of_a_split_grows_no_faster_than_the_reply(reply):
    said = split(reply)
    assert len(said.answer) + said.reasoning <= len(reply)
