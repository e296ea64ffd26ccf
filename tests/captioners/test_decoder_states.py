"""Hidden states of a captioner's question: those of upstream's own forward pass, in the caption's pass or
alone, whatever the batch.

The models have random weights; their states are another one's wherever anything else is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from helpers import sound_samples, tiny_listeners

from mmfeat.extract.base import Caption, Placement, Row
from mmfeat.extract.describers.captions.accepting import Reply, second_try
from mmfeat.extract.describers.captions.decoder_states import DecoderStates
from mmfeat.extract.describers.captions.transformers import TransformersCaptioner
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.schemas.errors import ConfigError, ItemError
from mmfeat.schemas.media import Frames
from mmfeat.schemas.outputs import VectorsOut
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import Decoding, FeatureConfig, FeatureSpec, Prompt

RATE = 16_000
NEW_TOKENS = 5
# Layers of the tiny language models, and how wide they are.
LAYERS, DIMS = 2, 32
CLASSES = {
    "qwen2_audio": "Qwen2AudioForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "smolvlm": "SmolVLMForConditionalGeneration",
}
READS = {"qwen2_audio": "audio"}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a tiny model, by its name."""

    @cache
    def make(name: str) -> Path:
        folder: Path = tmp_path_factory.mktemp("models") / name
        getattr(tiny_listeners, name)(folder)
        return folder

    return make


@pytest.fixture(scope="module")
def titled(tmp_path_factory) -> str:
    """A prompt that is as long as an item's title makes it."""
    path = tmp_path_factory.mktemp("prompts") / "titled.toml"
    path.write_text('name = "titled"\nversion = 1\nvariables = ["title"]\ntext = "What is it? {title}"\n')
    return str(path)


@pytest.fixture(scope="module")
def specs_of(folder_of, titled) -> Callable[..., tuple[FeatureSpec, FeatureSpec]]:
    """The specs of a caption and of the states of its question."""

    def resolve(name: str, caption: dict[str, Any] | None = None, **states: Any) -> tuple[Any, ...]:
        asked = {
            "source": READS.get(name, "cover"), "captioner": "transformers", "model": str(folder_of(name)),
            "prompt": titled, "max_new_tokens": NEW_TOKENS,
        }  # fmt: skip
        read = {} if {"text", "inputs"} & set(states) else {"source": "caption"}
        features = {
            "caption": FeatureConfig(**{k: v for k, v in (asked | (caption or {})).items() if v is not None}),
            "states": FeatureConfig(**{**read, "encoder": "decoder_states", **states}),
        }
        return tuple(resolve_all(features))

    return resolve


@pytest.fixture(scope="module")
def captioners(specs_of) -> Callable[[str], TransformersCaptioner]:
    """A captioner of each model, which gives no states."""
    return cache(lambda name: TransformersCaptioner(specs_of(name)[0], Placement(threads=1)))


def rows_of(name: str) -> list[Row]:
    """Of questions of unlike lengths."""
    titles = ("x", "A red running shoe, size 42, hardly worn", "a bag")
    if name == "qwen2_audio":
        return [(sound(300 + 200 * n, 0.5 + 0.6 * n), title) for n, title in enumerate(titles)]
    return [(picture(28 + 28 * n, seed=n), title) for n, title in enumerate(titles)]


def picture(side: int, seed: int) -> Frames:
    pixels = np.random.default_rng(seed).integers(0, 256, (1, side, 56, 3), dtype=np.uint8)
    return Frames(pixels, (0.0,))


def clip(frames: int, seed: int) -> Frames:
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, 56, 56, 3), dtype=np.uint8)
    return Frames(pixels, tuple(0.5 * n for n in range(frames)))


def sound(hertz: float, seconds: float) -> Sound:
    samples = sound_samples.tone(hertz, seconds, RATE)
    return Sound(samples, RATE, ((0.0, seconds, len(samples)),), 0.1)


def upstream(folder: Path, name: str, row: Row) -> np.ndarray:
    """All hidden states of a row's question by upstream's own processor and model: ``[layers, tokens,
    dims]``."""
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = getattr(transformers, CLASSES[name]).from_pretrained(folder).eval()
    shown, title = row
    heard = isinstance(shown, Sound)
    media = (
        {"type": "audio", "audio": shown.samples} if heard else {"type": "image", "image": shown.pixels[0]}
    )
    how = {"sampling_rate": RATE} if heard else {}
    batch = processor.apply_chat_template(
        [{"role": "user", "content": [media, {"type": "text", "text": f"What is it? {title}"}]}],
        tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt",
        processor_kwargs=how,
    )  # fmt: skip
    with torch.inference_mode():
        states = model(**batch, output_hidden_states=True).hidden_states
    return torch.cat(states).numpy()


@contextmanager
def passes_of(model: Any) -> Iterator[list[tuple[int, int]]]:
    """The rows and tokens of every pass of a model."""
    seen: list[tuple[int, int]] = []
    hook = model.get_input_embeddings().register_forward_pre_hook(
        lambda _, given: seen.append(tuple(given[0].shape))
    )
    try:
        yield seen
    finally:
        hook.remove()


def beside(captioner: TransformersCaptioner, spec: FeatureSpec) -> DecoderStates:
    """Loaded as a run loads it that computes the caption too."""
    method = load_method(spec, Placement(threads=1, beside=captioner))
    assert isinstance(method, DecoderStates)
    return method


@pytest.mark.parametrize("name", list(CLASSES))
def test_states_are_those_of_upstreams_forward_pass_alone_and_in_a_batch(
    name, specs_of, captioners, folder_of
):
    rows = rows_of(name)
    theirs = [upstream(folder_of(name), name, row) for row in rows]
    assert len({states.shape[1] for states in theirs}) == len(rows), "the batch must need padding"
    for pooling in ("last", "mean"):
        spec = specs_of(name, pooling=pooling)[1]
        assert spec.output == VectorsOut(count=LAYERS + 1, dims=DIMS)
        wanted = [states[:, -1] if pooling == "last" else states.mean(1) for states in theirs]
        method = beside(captioners(name), spec)
        together = method.run(rows)
        alone = [method.run([row])[0] for row in rows]
        assert all(values.dtype == np.float32 for values in together)
        np.testing.assert_allclose(np.stack(alone), np.stack(wanted), **CLOSE)
        np.testing.assert_allclose(np.stack(together), np.stack(wanted), **CLOSE)


@pytest.mark.parametrize("name", list(CLASSES))
def test_captions_are_unchanged_and_bring_the_states_that_a_pass_of_their_own_gives(
    name, specs_of, captioners
):
    rows, (caption, spec) = rows_of(name), specs_of(name)
    plain = captioners(name).caption(rows)
    captioner = TransformersCaptioner(caption, Placement(threads=1))
    states = beside(captioner, spec)
    with passes_of(captioner.model) as joint:
        captions = captioner.caption(rows)
    assert all(isinstance(one, Caption) for one in captions)
    assert captions == plain
    np.testing.assert_allclose(
        np.stack([one.beside[spec.fingerprint] for one in captions]), np.stack(states.run(rows)), **CLOSE
    )
    with passes_of(captioners(name).model) as before:
        captioners(name).caption(rows)
    # The question's pass, and one per further token: none for the states.
    assert joint == before
    assert [tokens > 1 for _, tokens in joint] == [True] + [False] * (len(joint) - 1)


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("qwen2_5_vl", {"source": "video", "as": "video"}),
        ("qwen2_5_omni", {"inputs": ["video", "video.sound?"], "as": "video", "use_audio_in_video": True}),
    ],
    ids=["video", "video with its sound inside"],
)
def test_videos_that_no_one_call_takes_get_the_states_in_a_batch_that_they_get_alone(name, table, specs_of):
    caption, spec = specs_of(name, {**table, "source": table.get("source"), "max_new_tokens": 2})
    captioner = TransformersCaptioner(caption, Placement(threads=1))
    states = beside(captioner, spec)
    shown = [clip(4, 0), clip(2, 1), clip(4, 2)]
    heard = [(sound(440, 1.0),), (sound(300, 0.6),), (None,)] if "inputs" in table else [()] * 3
    rows = [(one, *other, "x" * (1 + n)) for n, (one, other) in enumerate(zip(shown, heard, strict=True))]
    with passes_of(captioner.model) as passes:
        joint = [
            said.beside[spec.fingerprint] for said in captioner.replies(rows, Decoding(max_new_tokens=2))
        ]
    assert sum(tokens > 1 for _, tokens in passes) > 1
    alone = np.stack([states.run([row])[0] for row in rows])
    np.testing.assert_allclose(np.stack(joint), alone, **CLOSE)
    np.testing.assert_allclose(np.stack(states.run(rows)), alone, **CLOSE)
    assert not np.allclose(alone[0], alone[2], **CLOSE)


def test_of_a_model_that_speaks_too_the_part_that_writes_has_the_states(specs_of):
    both = {"source": "video", "as": "video"}
    spec = specs_of("qwen2_5_omni_that_speaks", both)[1]
    assert spec.output == specs_of("qwen2_5_omni", both)[1].output == VectorsOut(count=LAYERS + 1, dims=DIMS)


def test_a_second_try_keeps_the_states_of_the_first_question():
    prompt = Prompt(name="p", version=1, text="?", reply_schema='{"type": "object"}')
    states = {"fingerprint": np.ones((1, 2))}
    first, second = Reply("no", "stop", beside=states), Reply("{}", "stop", beside={"fingerprint": None})
    caption = second_try(prompt, first, second, Decoding())
    assert isinstance(caption, Caption)
    assert caption.beside is states


def test_states_alone_are_one_pass_and_no_answer(specs_of, captioners):
    states = beside(captioners("smolvlm"), specs_of("smolvlm")[1])
    with passes_of(captioners("smolvlm").model) as passes:
        states.run(rows_of("smolvlm"))
    assert [(rows, tokens > 1) for rows, tokens in passes] == [(3, True)]


def test_without_the_captions_method_the_model_is_loaded_and_gives_the_same(specs_of, captioners):
    spec, rows = specs_of("smolvlm")[1], rows_of("smolvlm")
    own = load_method(spec, Placement(threads=1))
    np.testing.assert_allclose(
        np.stack(own.run(rows)), np.stack(beside(captioners("smolvlm"), spec).run(rows)), **CLOSE
    )


def test_layers_are_taken_in_the_order_in_which_they_are_named(specs_of, captioners):
    every, some = specs_of("smolvlm")[1], specs_of("smolvlm", layers=[-1, 0])[1]
    assert some.options["states"] == {"layers": [LAYERS, 0], "pooling": "last"}
    assert some.shape == (2, DIMS)
    captioner, rows = captioners("smolvlm"), rows_of("smolvlm")
    states = np.stack(beside(captioner, every).run(rows))
    np.testing.assert_array_equal(np.stack(beside(captioner, some).run(rows)), states[:, [LAYERS, 0]])


def test_the_question_decides_the_fingerprint_and_how_it_is_answered_does_not(specs_of, folder_of, titled):
    caption, states = specs_of("smolvlm")
    assert states.inputs == caption.inputs
    assert (states.model, states.weights) == (caption.model, caption.weights)
    longer = specs_of("smolvlm", {"max_new_tokens": 99, "temperature": 1.0})[1]
    assert longer.fingerprint == states.fingerprint
    others = [
        specs_of("smolvlm", {"prompt": "describe"})[1],
        specs_of("smolvlm", {"model": str(folder_of("qwen2_5_vl"))})[1],
        specs_of("smolvlm", {"source": "video"})[1],
        specs_of("smolvlm", {"max_side": 99})[1],
        specs_of("smolvlm", pooling="mean")[1],
        specs_of("smolvlm", layers=[0, 1])[1],
    ]
    assert len({one.fingerprint for one in (states, *others)}) == len(others) + 1


def test_states_come_out_of_the_pass_of_a_caption_with_the_same_question_alone(specs_of, folder_of):
    caption, states = specs_of("smolvlm")
    assert DecoderStates.comes_with(states, caption)
    assert DecoderStates.comes_with(states, specs_of("smolvlm", {"max_new_tokens": 99})[0])
    assert not DecoderStates.comes_with(states, specs_of("smolvlm", {"prompt": "describe"})[0])
    assert not DecoderStates.comes_with(states, specs_of("smolvlm", {"dtype": "bfloat16"})[0])
    assert not DecoderStates.comes_with(states, states)


def test_an_item_without_what_the_prompt_names_has_no_states_and_the_others_do(specs_of, captioners):
    states = beside(captioners("smolvlm"), specs_of("smolvlm")[1])
    first, second, _ = rows_of("smolvlm")
    untitled, found = states.run([(first[0], None), second])
    assert isinstance(untitled, ItemError)
    assert untitled.stage == "encode"
    assert found.shape == (LAYERS + 1, DIMS)


def test_a_journal_keeps_replies_as_versions_before_states_read_them():
    reply = Reply("a bag", "stop", 3, 2, 0.5, 1)
    names = {"text", "finish_reason", "prompt_tokens", "new_tokens", "seconds", "reasoning"}
    assert set(reply.kept()) == names
    assert Reply(**reply.kept()) == reply


@pytest.mark.parametrize(
    ("caption", "states", "problem"),
    [
        ({}, {"source": "title"}, "'title' is none"),
        ({}, {"text": "{caption}"}, "'text' is none"),
        ({}, {"inputs": ["caption", "title"]}, "reads one input"),
        ({"captioner": "openai", "dtype": None}, {}, "'caption' is none"),
        ({"source": "video", "sampling": "scenes", "prompt": "describe-scene"}, {}, "one question per scene"),
        ({}, {"layers": [3]}, "there is no layer 3"),
        ({}, {"layers": [-1, 2]}, "twice"),
        ({}, {"layers": []}, "layers"),
        ({}, {"pooling": "cls"}, "pooling"),
    ],
)
def test_what_has_no_states_is_refused_before_a_run(caption, states, problem, specs_of):
    with pytest.raises(ConfigError) as raised:
        specs_of("smolvlm", caption, **states)
    assert problem in str(raised.value)
