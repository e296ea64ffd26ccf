"""What holds for every chat engine: the questions asked, one second try, and clips described scene by scene.

``Scripted`` stands in for an engine: no model small enough for tests answers in JSON or gets a scene
wrong on demand. It answers by a function of the conversation and remembers what it was asked.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmfeat.extract.base import Ask, AskedInput, Row
from mmfeat.extract.describers.captions.asking import ChatOptions, chat_spec
from mmfeat.extract.describers.captions.chat import ChatCaptioner
from mmfeat.extract.describers.captions.turns import Conversation
from mmfeat.extract.served.reply import Reply
from mmfeat.schemas.errors import ConfigError, ItemError, MmfeatError, NotAsked
from mmfeat.schemas.media import Frames, Scene
from mmfeat.schemas.spec import FeatureSpec, Weights

TAGS = '[schema]\ntype = "object"\nrequired = ["colour"]'


class Scripted(ChatCaptioner):
    def __init__(self, spec: FeatureSpec, says: Callable[[Conversation], str | ItemError]) -> None:
        self.spec = spec
        self.says = says
        self.asked: list[list[Conversation]] = []
        self.caps: list[int] = []

    @classmethod
    def resolve(cls, ask):
        raise NotImplementedError

    @classmethod
    def card(cls, spec):
        raise NotImplementedError

    def answer(self, conversations, decoding, at_once):
        self.asked.append(list(conversations))
        self.caps.append(decoding.max_new_tokens)
        said = [self.says(conversation) for conversation in conversations]
        return [s if isinstance(s, ItemError) else Reply(s, "stop", 10, 2, seconds=0.5) for s in said]


def spec(source: str = "cover", **options: object) -> FeatureSpec:
    checked = ChatOptions(**options)
    read = AskedInput(source, "video" if source == "video" else "image")
    named = tuple(
        AskedInput(name, "text", optional=optional)
        for name, optional in sorted(ChatCaptioner.named(checked).items())
    )
    ask = Ask("caption", "captioner", "scripted", (read,), named, checked)
    return chat_spec(ask, model="m", weights=Weights(origin="random", ref="seed=0"))


def prompt_file(folder: Path, text: str, variables: str = "[]", more: str = "") -> str:
    path = folder / "mine.toml"
    path.write_text(f'name = "mine"\nversion = 1\nvariables = {variables}\ntext = "{text}"\n{more}\n')
    return str(path)


def grey(value: int, frames: int = 1, scenes: tuple[Scene, ...] = (), **texts: str) -> Row:
    """Frames of one shade, and then the texts that the prompt names, by alphabet."""
    pixels = np.full((frames, 2, 2, 3), value, np.uint8)
    named = (text for _, text in sorted(texts.items()))
    return (Frames(pixels, tuple(i + 0.5 for i in range(frames)), scenes), *named)


def shade(conversation: Conversation) -> int:
    return int(conversation[0].pictures[0, 0, 0, 0])


def test_the_prompt_is_filled_with_title_and_times_and_goes_with_the_pictures(tmp_path):
    path = prompt_file(tmp_path, "{title} at {times}: why {{so}}?", '["title", "times"]')
    model = Scripted(spec(source="video", prompt=path), lambda c: "x")
    model.caption([grey(7, 3, title=" a {kettle} ")])
    ((turn,),) = model.asked[0]
    assert (turn.role, turn.text) == ("user", "a {kettle} at 0.5 s, 1.5 s, 2.5 s: why {so}?")
    assert turn.pictures.shape == (3, 2, 2, 3)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"prompt": "describe-video"}, "uses {times}, which it has no value for"),
        ({"prompt": "summarise-scenes"}, "uses {scenes}, which it has no value for"),
        ({"source": "video", "prompt": "summarise-scenes"}, "uses {scenes}"),
        ({"source": "video", "sampling": "scenes", "summary_prompt": "describe"}, "does not use {scenes}"),
        ({"source": "video", "sampling": "scenes", "summary_prompt": "describe-video"}, "uses {times}"),
        ({"source": "video", "summary_prompt": "summarise-scenes"}, 'goes with sampling = "scenes"'),
        ({"source": "video", "max_scenes": 4}, "'max_scenes' goes with sampling = \"scenes\""),
    ],
)
def test_a_prompt_that_cannot_be_filled_is_refused_before_anything_runs(options, problem):
    with pytest.raises(ConfigError) as caught:
        spec(**options)
    assert problem in str(caught.value)


def test_the_texts_that_a_prompt_names_are_part_of_the_spec(tmp_path):
    assert spec().sources == ("cover",)
    assert spec(prompt="describe-titled").sources == ("cover", "title")
    path = prompt_file(tmp_path, "{scenes} of {title} ({description})", '["scenes", "title", "description"]')
    summarised = spec(source="video", sampling="scenes", summary_prompt=path)
    assert summarised.sources == ("video", "description", "title")
    assert [one.named for one in summarised.inputs] == [False, True, True]


def test_an_item_that_cannot_be_asked_about_costs_no_other_item_its_caption():
    model = Scripted(spec(prompt="describe-titled"), lambda c: f"shade {shade(c)}")
    inputs = [
        grey(1, title="one"),
        grey(2, title="  "),
        grey(3, frames=0, title="three"),
        grey(4, title="four"),
    ]
    outcomes = model.caption(inputs)
    assert [o.text if not isinstance(o, ItemError) else o.reason for o in outcomes] == [
        "shade 1", "the prompt reads the title, and the item has none", "no frame to describe", "shade 4"
    ]  # fmt: skip
    assert len(model.asked[0]) == 2


def test_seconds_are_recorded_and_decide_nothing():
    first, second = (Scripted(spec(), lambda c: "x").caption([grey(1)])[0] for _ in range(2))
    assert first.facts() == {"finish_reason": "stop", "prompt_tokens": 10, "new_tokens": 2, "seconds": 0.5}
    object.__setattr__(second, "seconds", 9.0)
    assert first == second


def test_half_a_character_is_no_text():
    outcome = Scripted(spec(), lambda c: "a smile \ud83d").caption([grey(1)])[0]
    assert "half a character" in outcome.reason


# Replies to a schema ------------------------------------------------------------------------------------


def tagger(tmp_path: Path, says: Callable[[Conversation], str | ItemError]) -> Scripted:
    return Scripted(spec(prompt=prompt_file(tmp_path, "Which colour?", more=TAGS)), says)


def test_a_fitting_reply_is_stored_as_canonical_json_and_not_asked_again(tmp_path):
    model = tagger(tmp_path, lambda c: '{ "colour":  "red" }')
    caption = model.caption([grey(1)])[0]
    assert (caption.text, caption.retries, model.spec.kind) == ('{"colour":"red"}', 0, "json")
    assert len(model.asked) == 1


def test_a_reply_that_does_not_fit_is_asked_again_once_with_what_was_wrong(tmp_path):
    def says(conversation: Conversation) -> str:
        if shade(conversation) != 2:
            return '{"colour": "blue"}'
        return "red" if len(conversation) == 1 else '{"colour": "red"}'

    model = tagger(tmp_path, says)
    captions = model.caption([grey(1), grey(2), grey(3)])
    assert [c.text for c in captions] == ['{"colour":"blue"}', '{"colour":"red"}', '{"colour":"blue"}']
    assert [c.retries for c in captions] == [0, 1, 0]
    assert (captions[1].prompt_tokens, captions[1].new_tokens, captions[1].seconds) == (20, 4, 1.0)
    assert captions[1].facts()["retries"] == 1
    ((question, answer, correction),) = model.asked[1]
    assert (question.text, answer.role, answer.text) == ("Which colour?", "assistant", "red")
    assert "it is not JSON" in correction.text
    assert correction.pictures is None


def test_a_second_reply_that_does_not_fit_fails_the_item_alone_and_is_never_mended(tmp_path):
    fenced = '```json\n{"colour": "red"}\n```'
    model = tagger(tmp_path, lambda c: fenced if shade(c) == 2 else '{"colour": "red"}')
    outcomes = model.caption([grey(1), grey(2)])
    assert outcomes[0].text == '{"colour":"red"}'
    assert outcomes[1].stage == "caption"
    assert outcomes[1].reason.startswith("the reply did not fit the prompt's schema, twice: it is not JSON")
    assert len(model.asked) == 2


def test_a_reply_cut_at_the_cap_says_so_when_it_fails(tmp_path, monkeypatch):
    model = tagger(tmp_path, lambda c: "")
    monkeypatch.setattr(model, "answer", lambda asked, *_: [Reply('{"colour": "re', "length")] * len(asked))
    assert model.caption([grey(1)])[0].reason.endswith("it was cut at the token cap (max_new_tokens)")


def test_an_engines_own_failure_is_not_asked_again(tmp_path):
    model = tagger(tmp_path, lambda c: ItemError("caption", "refused"))
    assert model.caption([grey(1)])[0].reason == "refused"
    assert len(model.asked) == 1


# Scenes -------------------------------------------------------------------------------------------------

THREE = (Scene(0.0, 2.0, 2), Scene(2.0, 5.0, 1), Scene(5.0, 6.0, 2))


def film(*shades: int) -> Row:
    """A clip of three scenes, of 2, 1 and 2 frames."""
    pixels = np.stack([np.full((2, 2, 3), s, np.uint8) for s in np.repeat(shades, (2, 1, 2))])
    return (Frames(pixels, (0.5, 1.5, 3.5, 5.2, 5.8), THREE),)


def by_scenes(says: Callable[[Conversation], str | ItemError], **options: object) -> Scripted:
    return Scripted(spec(source="video", sampling="scenes", **options), says)


def says_shade(conversation: Conversation) -> str:
    return "the whole" if conversation[0].pictures is None else f"shade {shade(conversation)}"


def test_every_scene_is_asked_about_with_its_own_frames_and_the_text_is_their_summary():
    model = by_scenes(says_shade)
    caption = model.caption([film(1, 2, 3)])[0]
    scenes, (summary,) = model.asked
    assert [len(turn.pictures) for (turn,) in scenes] == [2, 1, 2]
    assert ["0.5 s, 1.5 s" in c[0].text for c in scenes] == [True, False, False]
    assert "5.2 s, 5.8 s" in scenes[2][0].text
    assert (
        "1. 0.0 s to 2.0 s: shade 1\n2. 2.0 s to 5.0 s: shade 2\n3. 5.0 s to 6.0 s: shade 3"
        in summary[0].text
    )
    assert summary[0].pictures is None
    assert caption.text == "the whole"
    assert [(s["start"], s["end"], s["text"]) for s in caption.facts()["scenes"]] == [
        (0.0, 2.0, "shade 1"), (2.0, 5.0, "shade 2"), (5.0, 6.0, "shade 3")
    ]  # fmt: skip


def test_a_caption_by_scenes_says_what_all_its_questions_cost():
    caption = by_scenes(says_shade).caption([film(1, 2, 3)])[0]
    assert (caption.prompt_tokens, caption.new_tokens, caption.seconds) == (40, 8, 2.0)
    assert [s.new_tokens for s in caption.scenes] == [2, 2, 2]


def test_scenes_of_all_items_are_asked_together_and_stay_with_their_item():
    model = by_scenes(lambda c: c[0].text[-60:] if c[0].pictures is None else says_shade(c))
    captions = model.caption([film(1, 2, 3), film(4, 5, 6)])
    assert [len(asked) for asked in model.asked] == [6, 2]
    assert [[s.text for s in c.scenes] for c in captions] == [
        ["shade 1", "shade 2", "shade 3"], ["shade 4", "shade 5", "shade 6"]
    ]  # fmt: skip
    assert model.caps == [128, 256]


@pytest.mark.parametrize("said", ["", ItemError("caption", "refused")], ids=["no text", "refused"])
def test_a_scene_without_a_caption_fails_its_item_and_no_other(said):
    model = by_scenes(lambda c: said if c[0].pictures is not None and shade(c) == 2 else says_shade(c))
    first, second = model.caption([film(1, 2, 3), film(4, 5, 6)])
    assert first.reason.startswith("scene at 2.0 s: ")
    assert second.text == "the whole"
    assert len(model.asked[1]) == 1


def test_what_a_run_stopped_before_stays_that_and_does_not_become_a_failure(tmp_path):
    stopped = NotAsked(MmfeatError("the cap is reached"))
    model = by_scenes(lambda c: stopped if c[0].pictures is not None and shade(c) == 2 else says_shade(c))
    assert isinstance(model.caption([film(1, 2, 3)])[0], NotAsked)
    assert isinstance(tagger(tmp_path, lambda c: stopped).caption([grey(1)])[0], NotAsked)


def test_what_decides_scenes_decides_the_fingerprint():
    base = {"source": "video", "sampling": "scenes"}
    changes = [
        {}, {"scene_detector": "adaptive"}, {"scene_threshold": 20.0}, {"min_scene_seconds": 0.0},
        {"max_scenes": 4}, {"frames": 2}, {"prompt": "describe-video"}, {"max_new_tokens": 5},
    ]  # fmt: skip
    assert len({spec(**base, **change).fingerprint for change in changes}) == len(changes)
