"""Captions of video, of sound and of both: what upstream's own processor and model say, whatever the batch.

The models have random weights, so a text means nothing: it is another one wherever anything else is shown.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from helpers import sound_samples, tiny_listeners
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import mmfeat
from mmfeat.extract.base import Caption, Placement, Row
from mmfeat.extract.chat.question import Question
from mmfeat.extract.clips import metadata
from mmfeat.extract.describers.captions.question import Questions
from mmfeat.extract.describers.captions.transformers import TransformersCaptioner
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.media import Frames, Scene
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec

RATE = 16_000
NEW_TOKENS = 6
SEEING = ("qwen2_5_vl", "qwen3_vl", "smolvlm")
CLASSES = {
    "audio_flamingo": "AudioFlamingo3ForConditionalGeneration",
    "qwen2_audio": "Qwen2AudioForConditionalGeneration",
    "qwen2_5_omni": "Qwen2_5OmniThinkerForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
    "smolvlm": "SmolVLMForConditionalGeneration",
}
VIDEO = {"source": "video", "as": "video"}
SOUND = {"source": "video.sound"}
BOTH = {"inputs": ["video", "video.sound?"], "as": "video"}
INSIDE = {**BOTH, "use_audio_in_video": True}
# Audio Flamingo takes one sound in a question, and cuts a long one up itself.
HEARING = [
    ("qwen2_audio", {**SOUND, "windows": "all", "max_windows": 3}, [(2.0, 1.3), (0.5,), (2.0, 2.0, 0.4)]),
    ("audio_flamingo", {**SOUND, "window_seconds": 5.0}, [(3.3,), (0.5,), (5.0,)]),
]


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
def spec_of(folder_of) -> Callable[..., FeatureSpec]:
    def resolve(name: str, table: dict[str, Any], **options: Any) -> FeatureSpec:
        model = {"captioner": "transformers", "model": str(folder_of(name)), "max_new_tokens": NEW_TOKENS}
        return resolve_all({"caption": FeatureConfig(**{**model, **table, **options})})[0]

    return resolve


@pytest.fixture(scope="module")
def loaded(spec_of) -> Callable[..., TransformersCaptioner]:
    """A captioner that has proved that its texts repeat; one for all tests that ask for the same."""
    known: dict[str, TransformersCaptioner] = {}

    def load(name: str, table: dict[str, Any], **options: Any) -> TransformersCaptioner:
        spec = spec_of(name, table, **options)
        if spec.fingerprint not in known:
            known[spec.fingerprint] = load_method(spec, Placement(threads=1))
        return known[spec.fingerprint]

    return load


@pytest.fixture(scope="module")
def said_upstream(folder_of) -> Callable[..., tuple[list[int], str]]:
    """The ids of a question by upstream's own processor, and what upstream's own model answers."""

    def say(name: str, content: list[dict[str, Any]], **how: Any) -> tuple[list[int], str]:
        inside = how.get("load_audio_from_video", False)
        processor = transformers.AutoProcessor.from_pretrained(folder_of(name))
        model = getattr(transformers, CLASSES[name]).from_pretrained(folder_of(name))
        conversation = [{"role": "user", "content": content}]
        if inside:
            # Upstream's own call reads a video's sound from its file: one that was read goes beside it.
            text = processor.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)
            videos = [part["video"] for part in content if part["type"] == "video"]
            batch = processor(text=text, videos=videos, return_tensors="pt", **how)
        else:
            batch = processor.apply_chat_template(
                conversation, tokenize=True, add_generation_prompt=True,
                return_dict=True, return_tensors="pt", processor_kwargs=how,
            )  # fmt: skip
        generate = {"max_new_tokens": NEW_TOKENS, "do_sample": False}
        with torch.inference_mode():
            ids = model.generate(**batch, **generate, **({"use_audio_in_video": True} if inside else {}))
        asked, (row,) = batch["input_ids"][0].tolist(), ids.tolist()
        return asked, processor.tokenizer.decode(row[len(asked) :], skip_special_tokens=True).strip()

    return say


def clip(frames: int, seed: int = 0, every: float = 0.5, side: int = 56) -> Frames:
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, side, side, 3), dtype=np.uint8)
    return Frames(pixels, tuple(0.25 + every * n for n in range(frames)))


def sound(hertz: float, *seconds: float) -> Sound:
    """Windows of so many seconds."""
    parts = [sound_samples.tone(hertz * (n + 1), length, RATE) for n, length in enumerate(seconds)]
    samples = np.concatenate(parts)
    ends = np.cumsum([len(part) for part in parts])
    windows = tuple(
        (float(e - len(p)) / RATE, float(e) / RATE, len(p)) for e, p in zip(ends, parts, strict=True)
    )
    return Sound(samples, RATE, windows, float(np.sqrt(np.mean(samples**2))))


def ids_asked(model: TransformersCaptioner, row: Row) -> list[int]:
    """The ids that a row's question becomes."""
    question = model.questions.question(tuple(model.turns(model.item(row))))
    return list(model.questions.encoded([question])["input_ids"][0].tolist())


def texts(captions: list[Any]) -> list[str]:
    assert all(isinstance(caption, Caption) for caption in captions), captions
    return [caption.text for caption in captions]


def prompt_of(model: TransformersCaptioner) -> dict[str, str]:
    return {"type": "text", "text": model.settings.prompt.text}


# Video ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEEING)
def test_a_video_is_asked_about_as_upstream_asks_and_gets_the_same_text(name, loaded, said_upstream):
    model, shown = loaded(name, VIDEO), clip(5, every=1.5)
    how = {"do_sample_frames": False, "video_metadata": [metadata(shown)]}
    content = [{"type": "video", "video": shown.pixels}, prompt_of(model)]
    asked, text = said_upstream(name, content, **how)
    assert ids_asked(model, (shown,)) == asked
    assert texts(model.caption([(shown,)])) == [text]


@pytest.mark.parametrize("name", SEEING)
def test_videos_of_unlike_lengths_get_the_text_in_a_batch_that_they_get_alone(name, loaded):
    model = loaded(name, VIDEO)
    rows = [(clip(n, seed, every=0.3 + seed),) for seed, n in enumerate([4, 2, 1, 4, 7])]
    together = texts(model.caption(rows))
    assert together == [text for row in rows for text in texts(model.caption([row]))]
    assert len(set(together)) > 1


def test_models_that_write_times_are_given_those_of_the_frames(loaded):
    frames = Frames(clip(4).pixels, (0.2, 1.2, 61.0, 63.0))
    model = loaded("qwen3_vl", VIDEO)
    written = model.tokenizer.decode(ids_asked(model, (frames,)))
    # Two frames are merged to one, at the mean of their times.
    assert "<0.7 seconds>" in written
    assert "<62.0 seconds>" in written
    model = loaded("smolvlm", VIDEO)
    written = model.tokenizer.decode(ids_asked(model, (frames,)))
    assert "four frames" in written
    assert [stamp in written for stamp in ("00:00", "00:01", "01:01", "01:03")] == [True] * 4


@settings(deadline=None)
@given(st.lists(st.floats(0, 4 * 3600), min_size=1, max_size=64).map(sorted))
def test_upstream_reads_the_frames_own_times_and_rate_from_what_it_is_told(times):
    frames = Frames(np.zeros((len(times), 1, 1, 3), np.uint8), tuple(times))
    told = transformers.video_utils.VideoMetadata(**metadata(frames))
    assert told.timestamps == pytest.approx(times, abs=0.0005)
    assume(times[-1] - times[0] > 1)
    assert told.sampled_fps == pytest.approx((len(times) - 1) / (times[-1] - times[0]), rel=0.002)


class OmniProcessor:
    """By its name one that has one rate of frames for all videos of a call."""


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.sampled_from([0.5, 1.0]), st.booleans()), max_size=20),
    st.integers(1, 6),
)
def test_only_videos_that_agree_go_together_and_none_is_lost(drawn, at_once):
    heard = np.zeros(1, np.float32)
    asked = [Question("", (), [clip(n, every=gap, side=1)], [heard] * loud) for n, gap, loud in drawn]
    calls = Questions(OmniProcessor(), {}, sound_in_video=True).together(asked, at_once)
    assert sorted(number for call in calls for number in call) == list(range(len(asked)))
    for call in calls:
        assert len(call) <= at_once
        assert len({(n, gap if n > 1 else None, loud) for n, gap, loud in (drawn[k] for k in call)}) == 1


@pytest.mark.parametrize(("name", "token"), [("qwen2_5_vl", "video_pad"), ("qwen3_vl", "video_pad")])
def test_a_video_takes_half_the_visual_tokens_of_its_frames_as_pictures(name, token, loaded):
    video, pictures = loaded(name, VIDEO), loaded(name, {"source": "video"})
    ids = {kind: video.tokenizer.convert_tokens_to_ids(f"<|{kind}|>") for kind in (token, "image_pad")}
    shown = (clip(6),)
    as_video = ids_asked(video, shown).count(ids[token])
    as_pictures = ids_asked(pictures, shown).count(ids["image_pad"])
    assert as_pictures == 2 * as_video == 6 * 4


def test_the_scenes_of_a_clip_are_shown_as_a_video_each(loaded):
    model = loaded("qwen3_vl", VIDEO, sampling="scenes", frames=2, max_scenes=2)
    whole = clip(4)
    film = Frames(whole.pixels, whole.times, (Scene(0.0, 1.0, 2), Scene(1.0, 2.0, 2)))
    turns = model.turns(model.item((film,)))
    assert [turn.clip.times for turn in turns] == [(0.25, 0.75), (1.25, 1.75)]
    (caption,) = model.caption([(film,)])
    assert len(caption.scenes) == 2


def test_frames_are_what_they_were_before_and_a_video_is_another_feature(spec_of):
    plain = spec_of("qwen3_vl", {"source": "video"})
    assert spec_of("qwen3_vl", {"source": "video", "as": "frames"}).fingerprint == plain.fingerprint
    assert spec_of("qwen3_vl", VIDEO, prompt="describe-video").fingerprint != plain.fingerprint


# Sound ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "table", "lengths"), HEARING)
def test_a_sound_is_asked_about_as_upstream_asks_and_gets_the_same_text(
    name, table, lengths, loaded, said_upstream
):
    model, heard = loaded(name, table), sound(440, *lengths[0])
    content = [*({"type": "audio", "audio": part} for part in heard.parts), prompt_of(model)]
    asked, text = said_upstream(name, content, sampling_rate=RATE)
    assert ids_asked(model, (heard,)) == asked
    assert texts(model.caption([(heard,)])) == [text]


@pytest.mark.parametrize(("name", "table", "lengths"), HEARING)
def test_sounds_of_unlike_lengths_get_the_text_in_a_batch_that_they_get_alone(name, table, lengths, loaded):
    model = loaded(name, table)
    rows = [(sound(200 + 150 * n, *seconds),) for n, seconds in enumerate(lengths)]
    together = texts(model.caption(rows))
    assert together == [text for row in rows for text in texts(model.caption([row]))]
    assert len(set(together)) == len(rows)


def test_what_is_heard_comes_from_the_models_own_files(spec_of):
    (heard,) = spec_of("qwen2_audio", SOUND).inputs
    assert (heard.source, heard.modality) == ("video.sound", "audio")
    assert (heard.prepare.sample_rate, heard.prepare.seconds) == (RATE, tiny_listeners.HEARD_SECONDS)
    assert (heard.prepare.windows, spec_of("qwen2_audio", SOUND).prompt.name) == ("first", "describe-sound")
    shorter = spec_of("qwen2_audio", SOUND, windows="uniform", window_seconds=1.5, max_windows=4)
    assert (shorter.inputs[0].prepare.seconds, shorter.inputs[0].prepare.count) == (1.5, 4)


def test_a_prompt_can_name_the_title_beside_the_sound(loaded, tmp_path):
    prompt = tmp_path / "titled.toml"
    prompt.write_text('name = "titled"\nversion = 1\nvariables = ["title"]\ntext = "{title}: what sounds?"\n')
    model = loaded("qwen2_audio", SOUND, prompt=str(prompt))
    assert [one.source for one in model.spec.inputs] == ["video.sound", "title"]
    named = model.tokenizer.decode(ids_asked(model, (sound(440, 1.0), "A kettle")))
    assert "A kettle: what sounds?" in named
    kettle, untitled = model.caption([(sound(440, 1.0), "A kettle"), (sound(440, 1.0), None)])
    assert isinstance(kettle, Caption)
    assert untitled.reason == "the prompt reads the title, and the item has none"


def test_sampled_text_depends_on_the_sound_and_not_on_the_batch(loaded):
    model = loaded("qwen2_audio", SOUND, temperature=2.0)
    rows = [(sound(200, 1.0),), (sound(201, 1.0),), (sound(200, 1.1),)]
    together = texts(model.caption(rows))
    assert [texts(model.caption([row]))[0] for row in reversed(rows)] == together[::-1]
    questions = [model.questions.question(tuple(model.turns(model.item(row)))) for row in rows]
    assert len({one.text for one in questions}) == 1
    assert len({one.digest for one in questions}) == 3


def test_a_mute_clip_is_missing_and_one_that_sounds_is_described(folder_of, tmp_path):
    media = tmp_path / "media" / "videos"
    media.mkdir(parents=True)
    track = sound_samples.Track(sound_samples.tone(440, 1.0, 48_000)[None], 48_000, "aac")
    (media / "loud.mp4").write_bytes(sound_samples.talkie(track, frames=5))
    (media / "mute.mp4").write_bytes(sound_samples.talkie(frames=5))
    table = {"captioner": "transformers", "model": str(folder_of("qwen2_audio")), "max_new_tokens": 4}
    store, local = str(tmp_path / "store"), {"executor": "local", "workers": 1, "threads": 1}
    features = {"heard": {**SOUND, **table}}
    mmfeat.extract("folder", media.parent, store=store, features=features, resources=local)
    found = mmfeat.open(store).lookup(features=["heard"])
    assert dict(zip(found.ids, found["heard"].status, strict=True)) == {"loud": "ok", "mute": "missing"}


# Video and sound --------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [True, False], ids=["inside the video", "after it"])
def test_video_and_sound_are_one_question_as_upstream_asks_it(inside, loaded, said_upstream):
    model = loaded("qwen2_5_omni", INSIDE if inside else BOTH)
    shown, heard = clip(8, every=0.25), sound(440, 2.0)
    how: dict[str, Any] = {"do_sample_frames": False, "video_metadata": [metadata(shown)], "fps": 4.0}
    content: list[dict[str, Any]] = [{"type": "video", "video": shown.pixels}, prompt_of(model)]
    if inside:
        how |= {"audio": [heard.samples], "audio_from_video_indices": [0], "load_audio_from_video": True}
    else:
        content.insert(1, {"type": "audio", "audio": heard.samples})
    asked, text = said_upstream("qwen2_5_omni", content, **how)
    assert ids_asked(model, (shown, heard)) == asked
    assert texts(model.caption([(shown, heard)])) == [text]


@pytest.mark.parametrize(
    ("name", "table"),
    [("qwen2_5_omni", INSIDE), ("qwen2_5_omni", BOTH), ("qwen3_omni", INSIDE)],
    ids=["inside the video", "after it", "inside the video of another model"],
)
def test_clips_with_and_without_sound_get_the_text_in_a_batch_that_they_get_alone(name, table, loaded):
    model = loaded(name, table)
    rows = [
        (clip(8, 2, every=0.25), None),
        (clip(8, 1, every=0.25), sound(440, 2.0)),
        (clip(8, 3, every=0.5), sound(300, 1.2)),
        (clip(3, 4), sound(900, 0.7)),
        (clip(8, 5, every=0.25), sound(220, 1.9)),
    ]
    together = texts(model.caption(rows))
    assert together == [text for row in rows for text in texts(model.caption([row]))]
    assert len(set(together)) == len(rows)
    mute = model.caption([(rows[1][0], None)])
    assert texts(mute)[0] != together[1]


def test_of_a_model_that_speaks_the_part_that_writes_is_loaded(loaded):
    row = (clip(4), sound(440, 1.0))
    whole, part = loaded("qwen2_5_omni_that_speaks", BOTH), loaded("qwen2_5_omni", BOTH)
    assert type(whole.model) is type(part.model)
    assert texts(whole.caption([row])) == texts(part.caption([row]))


def test_a_cover_and_a_sound_are_one_question(loaded):
    model = loaded("qwen2_5_omni", {"inputs": ["cover", "audio"]})
    row = (Frames(clip(1).pixels, (0.0,)), sound(440, 1.0))
    asked = model.tokenizer.convert_ids_to_tokens(ids_asked(model, row))
    assert (asked.count("<|image_pad|>"), asked.count("<|AUDIO|>")) == (4, 25)
    assert texts(model.caption([row]))


# What is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "table", "problem"),
    [
        ("qwen2_5_vl", SOUND, "hears nothing"),
        ("qwen2_audio", VIDEO, "takes no video"),
        ("qwen3_vl", {"source": "cover", "as": "video"}, "'as' goes with a clip"),
        ("qwen2_audio", {**SOUND, "frames": 3}, "'frames' goes with pictures or a clip"),
        ("qwen2_audio", {**SOUND, "max_side": 99}, "'max_side' goes with pictures or a clip"),
        ("qwen3_vl", {**VIDEO, "windows": "all"}, "'windows' goes with sound"),
        ("qwen2_5_omni", {**BOTH, "sampling": "scenes"}, "scene by scene from its frames alone"),
        ("qwen2_5_omni", {**VIDEO, "use_audio_in_video": True}, "goes with sound, and none is read"),
        ("qwen2_5_omni", {**INSIDE, "as": "frames"}, "'use_audio_in_video' goes with as"),
        ("qwen2_5_omni", {**INSIDE, "windows": "all"}, 'goes with windows = "first"'),
        ("qwen2_5_omni", {"inputs": ["video", "video.sound", "audio"]}, "names video.sound, audio"),
        ("qwen2_audio", {**SOUND, "prompt": "describe-video"}, "uses {times}"),
        ("qwen2_audio", {**SOUND, "shown_as": "video"}, "no option 'shown_as'"),
        ("qwen2_audio", {**SOUND, "window_seconds": 2.5}, "hears 2 s at once, and window_seconds is 2.5"),
        ("audio_flamingo", {**SOUND, "window_seconds": 601.0}, "hears 600 s at once"),
        ("audio_flamingo", {**SOUND, "windows": "all"}, "takes one sound in a question"),
    ],
)
def test_what_a_model_or_a_question_has_no_place_for_is_refused_before_a_run(name, table, problem, spec_of):
    with pytest.raises(ConfigError) as raised:
        spec_of(name, table)
    assert problem in str(raised.value)


def test_sound_inside_a_video_is_for_models_that_take_it_so(spec_of, folder_of, tmp_path):
    folder = Path(shutil.copytree(folder_of("qwen2_5_omni"), tmp_path / "other"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "gemma3n"}))
    with pytest.raises(ConfigError, match="takes no sound inside a video"):
        spec_of("qwen2_5_omni", {**INSIDE, "model": str(folder)})


@pytest.mark.parametrize(("table", "kind"), [(SOUND, "audio"), (VIDEO, "video")])
def test_a_chat_template_that_would_leave_it_out_is_refused(table, kind, spec_of, folder_of, tmp_path):
    folder = Path(shutil.copytree(folder_of("qwen2_5_omni"), tmp_path / "deaf"))
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace(f"'{kind}'", "'smell'"))
    with pytest.raises(ConfigError, match=f"has no place for {kind}"):
        TransformersCaptioner(spec_of("qwen2_5_omni", {**table, "model": str(folder)}), Placement())
