"""What captioning is for every chat model, whatever engine runs it: the questions, the check of replies
against a schema with one second try, and clips described scene by scene."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from mmfeat.extract.base import Caption, Captioner, CaptionInput, SceneCaption
from mmfeat.extract.describers.captions.replies import InvalidReply, parse_reply
from mmfeat.extract.describers.prompts import PromptFile, load_prompt
from mmfeat.extract.options import frame_sampling
from mmfeat.schemas.errors import ConfigError, ItemError, NotAsked
from mmfeat.schemas.media import Frames
from mmfeat.schemas.spec import (
    ITEM_TEXTS,
    Decoding,
    FeatureConfig,
    ImagePreprocess,
    PixelView,
    Prompt,
    Summary,
)
from mmfeat.schemas.templates import fill

#: Options of a job that :func:`chat_fields` reads, beside those of frame sampling.
CHAT_OPTIONS = ("jpeg", "max_side", "prompt", "summary_prompt", "max_new_tokens", "temperature")

_DEFAULT_MAX_SIDE = 768

# Decides values, so a change of it raises the method_version of every chat engine.
_CORRECTION = (
    "That reply cannot be used: {problem}. Reply again, with the JSON object alone: no other word before "
    "or after it, and no code fence."
)


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation.

    Attributes:
        pictures: uint8 ``[n, height, width, 3]`` RGB, shown before the text; of a user's turn only.
    """

    role: Literal["user", "assistant"]
    text: str
    pictures: np.ndarray | None = None


#: The last turn is the user's, and the reply answers it.
Conversation = tuple[Turn, ...]


@dataclass(frozen=True)
class Reply:
    """What the model answered.

    Attributes:
        text: stripped, without special tokens.
        finish_reason: ``stop`` (the model ended it) or ``length`` (cut at the token cap).
        prompt_tokens, new_tokens: without padding; ``new_tokens`` counts the token that ends the reply.
        seconds: that the model worked for it: of a batch, its share.
    """

    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: float = field(default=0.0, compare=False)


class ChatCaptioner(Captioner):
    """One text per item by a chat model that sees pictures. Engines say how it is asked: ``answer``.

    The item's frames and the prompt are one question. A prompt with a schema is asked again once, with
    what was wrong, when the reply does not fit it; after that the item has failed. A clip sampled by
    scenes is one question per scene, and then one without pictures for the summary of the answers.
    """

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

    def caption(self, inputs: Sequence[CaptionInput]) -> list[Caption | ItemError]:
        """See :meth:`Captioner.caption`.

        An item without a frame, or without a text that a prompt reads, is an ItemError.
        """
        if not inputs:
            return []
        at_once = len(inputs)
        turns = [_caught(self.turns, item) for item in inputs]
        answers = _of_those_left(turns, lambda left: self._ask_each(left, at_once))
        if self.spec.summary is None:
            return [of_item if isinstance(of_item, ItemError) else of_item[0] for of_item in answers]
        summary = self.spec.summary
        told = [_caught(_Told.of, item, of_item) for item, of_item in zip(inputs, answers, strict=True)]
        questions = [_caught(self._summary_turn, summary.prompt, of_item) for of_item in told]
        said = _of_those_left(
            questions, lambda left: self._ask(summary.prompt, left, summary.decoding, at_once)
        )
        return [_caught(_summarised, of_item, text) for of_item, text in zip(told, said, strict=True)]

    @property
    def prompt(self) -> Prompt:
        """What is asked about pictures."""
        if self.spec.prompt is None:
            raise ConfigError(f"feature {self.spec.name!r} has no prompt")
        return self.spec.prompt

    def turns(self, item: CaptionInput) -> list[Turn]:
        """What is asked about the item's pictures: one question, or one per scene."""
        if not len(item.frames.pixels):
            raise ItemError("caption", "no frame to describe")
        parts = [item.frames] if self.spec.summary is None else list(_scenes(item.frames))
        return [
            Turn("user", self._filled(self.prompt, item, times=_times(part)), part.pixels) for part in parts
        ]

    def _filled(self, prompt: Prompt, item: CaptionInput, **values: str) -> str:
        for variable in prompt.variables & ITEM_TEXTS:
            text = item.texts.get(variable, "").strip()
            if not text:
                raise ItemError("caption", f"the prompt reads the {variable}, and the item has none")
            values[variable] = self.sanitised(text)
        return fill(prompt.text, values)

    def _ask(
        self, prompt: Prompt, turns: Sequence[Turn], decoding: Decoding, at_once: int
    ) -> list[Caption | ItemError]:
        """The model's answers to one turn each, as the prompt's schema wants them."""
        said = self.answer([(turn,) for turn in turns], decoding, at_once)
        outcomes = [_caught(accepted, prompt, reply) for reply in said]
        refused = {k: o for k, o in enumerate(outcomes) if isinstance(o, InvalidReply)}
        if refused:
            corrected = [self._corrected(turns[k], reply) for k, reply in refused.items()]
            again = self.answer(corrected, decoding, at_once)
            for k, second in zip(refused, again, strict=True):
                outcomes[k] = _second(prompt, said[k], second)
        return outcomes

    def _corrected(self, asked: Turn, refused: InvalidReply) -> Conversation:
        """The question, the reply to it and what is wrong with that."""
        problem = self.sanitised(_CORRECTION.format(problem=refused.problem))
        return asked, Turn("assistant", self.sanitised(refused.text)), Turn("user", problem)

    def _ask_each(self, turns: Sequence[list[Turn]], at_once: int) -> list[list[Caption | ItemError]]:
        """The answers to each item's questions, all of which are asked together."""
        flat = [turn for of_item in turns for turn in of_item]
        said = iter(self._ask(self.prompt, flat, self.spec.decoding or Decoding(), at_once))
        return [[next(said) for _ in of_item] for of_item in turns]

    def _summary_turn(self, prompt: Prompt, told: _Told | ItemError) -> Turn:
        if isinstance(told, ItemError):
            raise told
        lines = (
            f"{number}. {scene.start:.1f} s to {scene.end:.1f} s: {self.sanitised(scene.text)}"
            for number, scene in enumerate(told.scenes, start=1)
        )
        return Turn("user", self._filled(prompt, told.item, scenes="\n".join(lines)))


@dataclass(frozen=True)
class _Told:
    """A clip whose scenes are described."""

    item: CaptionInput
    captions: list[Caption]

    @classmethod
    def of(cls, item: CaptionInput, answers: list[Caption | ItemError] | ItemError) -> _Told:
        """ItemError where one of the scenes has no caption: a summary must not leave it out unsaid."""
        if isinstance(answers, ItemError):
            raise answers
        captions = []
        for scene, said in zip(item.frames.scenes, answers, strict=True):
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
            for scene, said in zip(self.item.frames.scenes, self.captions, strict=True)
        )


def _summarised(told: _Told | ItemError, said: Caption | ItemError) -> Caption:
    """The summary with its scenes, and with what those cost."""
    if isinstance(told, ItemError):
        raise told
    if isinstance(said, ItemError):
        raise said
    retries = said.retries + sum(caption.retries for caption in told.captions)
    return replace(_adding(said, told.captions), scenes=told.scenes, retries=retries)


def chat_fields(name: str, config: FeatureConfig) -> dict[str, Any]:
    """What every chat engine puts into its FeatureSpec: ``image``, ``frames``, ``prompt``, ``decoding``,
    ``summary`` and ``text_kind``.

    Raises:
        ConfigError: no such prompt, one with a variable that such a question has no value for, or an
            option that the sampling has no use for.
    """
    frames = frame_sampling(name, config)
    by_scenes = frames is not None and frames.mode == "scenes"
    if config.summary_prompt is not None and not by_scenes:
        raise ConfigError(f"feature {name!r}: 'summary_prompt' goes with sampling = \"scenes\"")
    default = "describe-scene" if by_scenes else "describe-video" if frames else "describe"
    asked = load_prompt(config.prompt or default)
    _check_variables(name, asked, ITEM_TEXTS | {"times"} if frames else ITEM_TEXTS)
    summary = _summary(name, config) if by_scenes else None
    final = summary.prompt if summary else asked.prompt
    side = config.max_side or _DEFAULT_MAX_SIDE
    return {
        "image": ImagePreprocess(
            view=PixelView(mode="bound", height=side, width=side, jpeg=config.jpeg or "exact")
        ),
        "frames": frames,
        "prompt": asked.prompt,
        "decoding": _decoding(config, asked),
        "summary": summary,
        "text_kind": "json" if final.reply_schema else "caption",
    }


def _summary(name: str, config: FeatureConfig) -> Summary:
    asked = load_prompt(config.summary_prompt or "summarise-scenes")
    _check_variables(name, asked, ITEM_TEXTS | {"scenes"})
    if "scenes" not in asked.variables:
        raise ConfigError(
            f"feature {name!r}: the prompt {asked.name!r} does not use {{scenes}}, which it is to summarise"
        )
    return Summary(prompt=asked.prompt, decoding=_decoding(config, asked))


def _decoding(config: FeatureConfig, asked: PromptFile) -> Decoding:
    return Decoding(
        max_new_tokens=config.max_new_tokens or asked.max_new_tokens, temperature=config.temperature or 0.0
    )


def _check_variables(name: str, asked: PromptFile, known: frozenset[str]) -> None:
    if strange := sorted(set(asked.variables) - known):
        raise ConfigError(
            f"feature {name!r}: the prompt {asked.name!r} uses {{{strange[0]}}}, which it has no value for",
            hint=f"Here it can use: {', '.join(f'{{{v}}}' for v in sorted(known))}.",
        )


def _scenes(frames: Frames) -> Iterator[Frames]:
    """The frames of each scene of a clip."""
    start = 0
    for scene in frames.scenes:
        end = start + scene.frames
        yield Frames(frames.pixels[start:end], frames.times[start:end])
        start = end


def _times(frames: Frames) -> str:
    return ", ".join(f"{time:.1f} s" for time in frames.times)


def _caught(make: Any, *given: Any) -> Any:
    """What ``make`` gives, or the ItemError that it raises."""
    try:
        return make(*given)
    except ItemError as error:
        return error


def _of_those_left(outcomes: Sequence[Any], work: Callable[[list[Any]], Sequence[Any]]) -> list[Any]:
    """``work`` done, all at once, on the outcomes that are no error; each error stays in its place."""
    left = [outcome for outcome in outcomes if not isinstance(outcome, ItemError)]
    done = iter(work(left) if left else [])
    return [outcome if isinstance(outcome, ItemError) else next(done) for outcome in outcomes]


def accepted(prompt: Prompt, reply: Reply | ItemError) -> Caption:
    """The caption that a reply is; ItemError where it is none, InvalidReply where a schema says so."""
    if isinstance(reply, ItemError):
        raise reply
    text = reply.text if prompt.reply_schema is None else parse_reply(reply.text, prompt.reply_schema)
    if not _is_unicode(text):
        raise ItemError("caption", "the model gave half a character, which is no text")
    return Caption(text, reply.finish_reason, reply.prompt_tokens, reply.new_tokens, reply.seconds)


def _is_unicode(text: str) -> bool:
    """Whether it can be stored: a reply that came as JSON may hold half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _second(prompt: Prompt, first: Reply | ItemError, second: Reply | ItemError) -> Caption | ItemError:
    """The outcome of the second try, with what the first one cost."""
    outcome: Caption | ItemError = _caught(accepted, prompt, second)
    if isinstance(outcome, InvalidReply):
        cut = isinstance(second, Reply) and second.finish_reason == "length"
        return ItemError(
            "caption",
            f"the reply did not fit the prompt's schema, twice: {outcome.problem}"
            + ("; it was cut at the token cap (max_new_tokens)" if cut else ""),
        )
    if isinstance(outcome, ItemError) or isinstance(first, ItemError):
        return outcome
    return replace(_adding(outcome, [first]), retries=1)


def _adding(caption: Caption, earlier: Sequence[Caption | Reply]) -> Caption:
    """The caption with the tokens and seconds of the questions that led to it."""
    return replace(
        caption,
        prompt_tokens=caption.prompt_tokens + sum(said.prompt_tokens for said in earlier),
        new_tokens=caption.new_tokens + sum(said.new_tokens for said in earlier),
        seconds=caption.seconds + sum(said.seconds for said in earlier),
    )
