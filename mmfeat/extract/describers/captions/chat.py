"""What captioning is for every chat model, whatever engine runs it: the questions, the check of replies
against a schema with one second try, and clips described scene by scene."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from mmfeat.extract.base import Ask, Caption, Captioner, Reads, Row, SceneCaption
from mmfeat.extract.describers.captions import reasoning
from mmfeat.extract.describers.captions.accepting import Reply, accepted, caught, second_try, with_cost_of
from mmfeat.extract.describers.captions.replies import InvalidReply
from mmfeat.extract.describers.prompts import PromptFile, load_prompt
from mmfeat.extract.options import FrameOptions, Place, pixel_input
from mmfeat.schemas.errors import ItemError, NotAsked
from mmfeat.schemas.fields import Fields, refuse_set_elsewhere
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.inputs import MOST_PICTURES, PictureFormat, PixelView
from mmfeat.schemas.media import Frames, Pictures
from mmfeat.schemas.outputs import TextOut
from mmfeat.schemas.spec import ComputeDtype, Decoding, FeatureSpec, Prompt, Summary
from mmfeat.schemas.templates import fill, trimmed

#: What a prompt can name that is not the item's: see :class:`PromptFile`.
_OF_CLIPS = ("times", "scenes")

_DEFAULT_MAX_SIDE = 768
_TOKENS_OF_A_PROOF = 16

# Arguments of a chat template that are the caller's own.
_OF_THE_CALL = dict.fromkeys(
    (
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "documents",
        "padding",
        "processor_kwargs",
        "return_dict",
        "return_tensors",
        "tokenize",
        "tools",
        "truncation",
    ),
    "how the template is called is not for a job to say",
)

# Decides values, so a change of it raises the method_version of every chat engine.
_CORRECTION = (
    "That reply cannot be used: {problem}. Reply again, with the JSON object alone: no other word before "
    "or after it, and no code fence."
)


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation.

    Attributes:
        pictures: uint8 ``[height, width, 3]`` RGB each, shown before the text; of a user's turn only.
    """

    role: Literal["user", "assistant"]
    text: str
    pictures: np.ndarray | Sequence[np.ndarray] | None = None


#: The last turn is the user's, and the reply answers it.
Conversation = tuple[Turn, ...]


class ChatOptions(FrameOptions):
    """What every chat captioner can be asked, and how it answers."""

    jpeg: Literal["exact", "scaled"] | None = None
    max_side: int | None = Field(default=None, gt=0)
    max_pictures: int | None = Field(default=None, gt=0, le=MOST_PICTURES)
    prompt: Place = None
    summary_prompt: Place = None
    max_new_tokens: int | None = Field(default=None, gt=0)
    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    chat_template_kwargs: Fields = None

    @field_validator("chat_template_kwargs")
    @classmethod
    def _of_the_template(cls, fields: dict[str, Any] | None) -> dict[str, Any] | None:
        refuse_set_elsewhere(fields, _OF_THE_CALL)
        return fields


class ChatSettings(Frozen):
    """What decides an answer beside what is shown: the options of a resolved spec.

    Attributes:
        summary: how the captions of a clip's scenes become one text; None where it is asked as a whole.
        chat_template_kwargs: what the model's chat template is told, such as not to open any reasoning.
    """

    prompt: Prompt
    decoding: Decoding
    summary: Summary | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    compute_dtype: ComputeDtype = "float32"


@dataclass(frozen=True)
class Item:
    """One item as a question is made of it: its frames (one of an image) or its pictures, and the texts that
    prompts name.

    An optional text that the item lacks is empty.
    """

    frames: Frames | Pictures
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def clip(self) -> Frames:
        """The frames of a clip, which alone has scenes."""
        assert isinstance(self.frames, Frames), "resolve asks for scenes of clips only"
        return self.frames


class ChatCaptioner(Captioner):
    """One text per item by a chat model that sees pictures. Engines say how it is asked: ``answer``.

    The item's frames and the prompt are one question. A prompt with a schema is asked again once, with
    what was wrong, when the reply does not fit it; after that the item has failed. A clip sampled by
    scenes is one question per scene, and then one without pictures for the summary of the answers.
    """

    reads: ClassVar[tuple[Reads, ...]] = (Reads(("image", "video")),)

    @classmethod
    def named(cls, options: Any) -> dict[str, bool]:
        """See :meth:`Method.named`."""
        files = [load_prompt(name) for name in (options.prompt, options.summary_prompt) if name]
        found: dict[str, bool] = {}
        for file in files:
            for name, optional in file.prompt.variables.items():
                found[name] = found.get(name, True) and optional
        return {name: optional for name, optional in found.items() if name not in _OF_CLIPS}

    @classmethod
    def outdated(cls, spec: FeatureSpec) -> Callable[[str], bool] | None:
        """See :meth:`Method.outdated`: texts that reasoning stands in. JSON was checked as a whole."""
        return None if spec.role == "json" else reasoning.shows_reasoning

    @cached_property
    def settings(self) -> ChatSettings:
        """Of the spec."""
        return self.spec.settings(ChatSettings)

    @abstractmethod
    def answer(
        self, conversations: Sequence[Conversation], decoding: Decoding, at_once: int
    ) -> list[Reply | ItemError]:
        """One outcome per conversation, in order.

        Args:
            at_once: how many conversations are held to fit in memory together. An engine that sends
                requests bounds its own concurrency instead.
        """

    def sanitised(self, text: str) -> str:
        """An item's text, made unable to end its turn or to stand for a picture."""
        return text

    def caption(self, rows: Sequence[Row]) -> list[Caption | ItemError]:
        """See :meth:`Captioner.caption`.

        An item without a frame, or without a text that a prompt reads, is an ItemError.
        """
        if not rows:
            return []
        at_once = len(rows)
        items = [self.item(row) for row in rows]
        turns = [caught(self.turns, item) for item in items]
        answers = _of_those_left(turns, lambda left: self._ask_each(left, at_once))
        summary = self.settings.summary
        if summary is None:
            return [of_item if isinstance(of_item, ItemError) else of_item[0] for of_item in answers]
        described = [
            caught(_Described.of, item, of_item) for item, of_item in zip(items, answers, strict=True)
        ]
        questions = [caught(self._summary_turn, summary.prompt, of_item) for of_item in described]
        said = _of_those_left(
            questions, lambda left: self._ask(summary.prompt, left, summary.decoding, at_once)
        )
        return [caught(_summarised, of_item, text) for of_item, text in zip(described, said, strict=True)]

    def brief(self) -> ChatCaptioner:
        """See :meth:`Captioner.brief`."""
        shorter = copy(self)
        shorter.__dict__.pop("settings", None)
        summary = self.settings.summary
        shorter.spec = self.spec.with_options(
            decoding=_shortened(self.settings.decoding),
            summary=summary and {**summary.model_dump(mode="json"), "decoding": _shortened(summary.decoding)},
        )
        return shorter

    def item(self, row: Row) -> Item:
        """The frames and the named texts of a row."""
        frames, *texts = row
        names = (one.source for one in self.spec.inputs[1:])
        return Item(frames, {name: trimmed(text or "") for name, text in zip(names, texts, strict=True)})

    def turns(self, item: Item) -> list[Turn]:
        """What is asked about the item's pictures: one question, or one per scene."""
        if not len(item.frames.pixels):
            raise ItemError("caption", "no frame to describe")
        parts = [item.frames] if self.settings.summary is None else list(_scenes(item.clip))
        return [
            Turn("user", self._filled(self.settings.prompt, item, times=_times(part)), part.pixels)
            for part in parts
        ]

    def _filled(self, prompt: Prompt, item: Item, **values: str) -> str:
        for name, optional in prompt.variables.items():
            if name in _OF_CLIPS:
                continue
            text = item.texts.get(name, "")
            if not text and not optional:
                raise ItemError("caption", f"the prompt reads the {name}, and the item has none")
            values[name] = self.sanitised(text)
        return fill(prompt.text, values)

    def _ask(
        self, prompt: Prompt, turns: Sequence[Turn], decoding: Decoding, at_once: int
    ) -> list[Caption | ItemError]:
        """The model's answers to one turn each, as the prompt's schema wants them."""
        said = self.answer([(turn,) for turn in turns], decoding, at_once)
        outcomes = [caught(accepted, prompt, reply, decoding) for reply in said]
        refused = {k: o for k, o in enumerate(outcomes) if isinstance(o, InvalidReply)}
        if refused:
            corrected = [self._corrected(turns[k], reply) for k, reply in refused.items()]
            again = self.answer(corrected, decoding, at_once)
            for k, second in zip(refused, again, strict=True):
                outcomes[k] = second_try(prompt, said[k], second, decoding)
        return outcomes

    def _corrected(self, asked: Turn, refused: InvalidReply) -> Conversation:
        """The question, the reply to it and what is wrong with that."""
        problem = self.sanitised(_CORRECTION.format(problem=refused.problem))
        return asked, Turn("assistant", self.sanitised(refused.text)), Turn("user", problem)

    def _ask_each(self, turns: Sequence[list[Turn]], at_once: int) -> list[list[Caption | ItemError]]:
        """The answers to each item's questions, all of which are asked together."""
        flat = [turn for of_item in turns for turn in of_item]
        said = iter(self._ask(self.settings.prompt, flat, self.settings.decoding, at_once))
        return [[next(said) for _ in of_item] for of_item in turns]

    def _summary_turn(self, prompt: Prompt, described: _Described | ItemError) -> Turn:
        if isinstance(described, ItemError):
            raise described
        lines = (
            f"{number}. {scene.start:.1f} s to {scene.end:.1f} s: {self.sanitised(scene.text)}"
            for number, scene in enumerate(described.scenes, start=1)
        )
        return Turn("user", self._filled(prompt, described.item, scenes="\n".join(lines)))


@dataclass(frozen=True)
class _Described:
    """A clip whose scenes are described."""

    item: Item
    captions: list[Caption]

    @classmethod
    def of(cls, item: Item, answers: list[Caption | ItemError] | ItemError) -> _Described:
        """ItemError where one of the scenes has no caption: a summary must not leave it out unsaid."""
        if isinstance(answers, ItemError):
            raise answers
        captions = []
        for scene, said in zip(item.clip.scenes, answers, strict=True):
            if isinstance(said, NotAsked):
                raise said
            if isinstance(said, ItemError) or not said.text:
                reason = said.reason if isinstance(said, ItemError) else "the model gave no text"
                raise ItemError("caption", f"scene at {scene.start:.1f} s: {reason}")
            captions.append(said)
        return cls(item, captions)

    @property
    def scenes(self) -> tuple[SceneCaption, ...]:
        return tuple(
            SceneCaption(
                scene.start, scene.end, said.text, said.finish_reason, said.prompt_tokens, said.new_tokens
            )
            for scene, said in zip(self.item.clip.scenes, self.captions, strict=True)
        )


def _shortened(decoding: Decoding) -> dict[str, Any]:
    few = min(decoding.max_new_tokens, _TOKENS_OF_A_PROOF)
    return {**decoding.model_dump(mode="json"), "max_new_tokens": few}


def _summarised(described: _Described | ItemError, said: Caption | ItemError) -> Caption:
    """The summary with its scenes, and with what those cost."""
    if isinstance(described, ItemError):
        raise described
    if isinstance(said, ItemError):
        raise said
    retries, thought = (
        sum(getattr(caption, name) for caption in (said, *described.captions))
        for name in ("retries", "reasoning_characters")
    )
    return replace(
        with_cost_of(said, described.captions),
        scenes=described.scenes,
        retries=retries,
        reasoning_characters=thought,
    )


def chat_spec(ask: Ask[Any], sent_as: PictureFormat | None = None, **resolved: Any) -> FeatureSpec:
    """The spec of a feature that a chat model writes.

    Args:
        sent_as: how pictures travel to it; None where it is in this process.
        resolved: further fields of the spec: model and weights, and ``compute_dtype`` of the settings.

    Raises:
        ConfigError: no such prompt, one with a name that such a question has no value for, or an option
            that the sampling has no use for.
    """
    options, is_clip = ask.options, ask.only.modality == "video"
    by_scenes = is_clip and options.sampling == "scenes"
    if options.summary_prompt is not None and not by_scenes:
        raise ask.error("'summary_prompt' goes with sampling = \"scenes\"")
    default = "describe-scene" if by_scenes else "describe-video" if is_clip else "describe"
    asked = load_prompt(options.prompt or default)
    _refuse_names(ask, asked, {"scenes"} if is_clip else set(_OF_CLIPS))
    summary = _summary(ask) if by_scenes else None
    final = summary.prompt if summary else asked.prompt
    side = options.max_side or _DEFAULT_MAX_SIDE
    view = PixelView(mode="bound", height=side, width=side, jpeg=options.jpeg or "exact")
    settings = ChatSettings(
        prompt=asked.prompt,
        decoding=_decoding(ask, asked),
        summary=summary,
        chat_template_kwargs=options.chat_template_kwargs,
        compute_dtype=resolved.pop("compute_dtype", "float32"),
    )
    return ask.spec(
        inputs=(
            pixel_input(ask, ask.only, view, sent_as=sent_as),
            *(one.prepared(named=True) for one in ask.named),
        ),
        output=TextOut(role="json" if final.reply_schema else "caption"),
        options=settings.model_dump(mode="json"),
        **resolved,
    )


def _summary(ask: Ask[Any]) -> Summary:
    asked = load_prompt(ask.options.summary_prompt or "summarise-scenes")
    _refuse_names(ask, asked, {"times"})
    if "scenes" not in asked.variables:
        raise ask.error(f"the prompt {asked.name!r} does not use {{scenes}}, which it is to summarise")
    return Summary(prompt=asked.prompt, decoding=_decoding(ask, asked))


def _decoding(ask: Ask[Any], asked: PromptFile) -> Decoding:
    options = ask.options
    return Decoding(
        max_new_tokens=options.max_new_tokens or asked.max_new_tokens, temperature=options.temperature or 0.0
    )


def _refuse_names(ask: Ask[Any], asked: PromptFile, useless: set[str]) -> None:
    if strange := sorted(set(asked.variables) & useless):
        raise ask.error(
            f"the prompt {asked.name!r} uses {{{strange[0]}}}, which it has no value for",
            "{times} goes with a clip, {scenes} with the summary of its scenes.",
        )


def _scenes(frames: Frames) -> Iterator[Frames]:
    """The frames of each scene of a clip."""
    start = 0
    for scene in frames.scenes:
        end = start + scene.frames
        yield Frames(frames.pixels[start:end], frames.times[start:end])
        start = end


def _times(shown: Frames | Pictures) -> str:
    times = shown.times if isinstance(shown, Frames) else ()
    return ", ".join(f"{time:.1f} s" for time in times)


def _of_those_left(outcomes: Sequence[Any], work: Callable[[list[Any]], Sequence[Any]]) -> list[Any]:
    """``work`` done, all at once, on the outcomes that are no error; each error stays in its place."""
    left = [outcome for outcome in outcomes if not isinstance(outcome, ItemError)]
    done = iter(work(left) if left else [])
    return [outcome if isinstance(outcome, ItemError) else next(done) for outcome in outcomes]
