"""What captioning is for every chat model, whatever engine runs it: the questions, the check of replies
against a schema with one second try, and clips described scene by scene."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from mmfeat.extract.base import Caption, Captioner, Reads, Row, SceneCaption
from mmfeat.extract.describers.captions import reasoning
from mmfeat.extract.describers.captions.accepting import accepted, caught, second_try, with_cost_of
from mmfeat.extract.describers.captions.asking import OF_CLIPS, ChatSettings
from mmfeat.extract.describers.captions.replies import InvalidReply
from mmfeat.extract.describers.captions.turns import Conversation, Item, Turn, scenes_of, times_of
from mmfeat.extract.describers.prompts import load_prompt
from mmfeat.extract.served.reply import Reply
from mmfeat.schemas.errors import ItemError, NotAsked
from mmfeat.schemas.media import Frames, Pictures
from mmfeat.schemas.spec import Decoding, FeatureSpec, Prompt
from mmfeat.schemas.templates import fill, trimmed

_TOKENS_OF_A_PROOF = 16

# Decides values, so a change of it raises the method_version of every chat engine.
_CORRECTION = (
    "That reply cannot be used: {problem}. Reply again, with the JSON object alone: no other word before "
    "or after it, and no code fence."
)


class ChatCaptioner(Captioner):
    """One text per item by a chat model that sees pictures. Engines say how it is asked: ``answer``.

    The item's frames and the prompt are one question. A prompt with a schema is asked again once, with
    what was wrong, when the reply does not fit it; after that the item has failed. A clip sampled by
    scenes is one question per scene, and then one without pictures for the summary of the answers.
    """

    reads: ClassVar[tuple[Reads, ...]] = (
        Reads(("image", "video")),
        Reads(("audio",)),
        Reads(("image", "audio"), together=True),
        Reads(("video", "audio"), together=True),
    )

    @classmethod
    def named(cls, options: Any) -> dict[str, bool]:
        """See :meth:`Method.named`."""
        files = [load_prompt(name) for name in (options.prompt, options.summary_prompt) if name]
        found: dict[str, bool] = {}
        for file in files:
            for name, optional in file.prompt.variables.items():
                found[name] = found.get(name, True) and optional
        return {name: optional for name, optional in found.items() if name not in OF_CLIPS}

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

    def replies(self, rows: Sequence[Row], decoding: Decoding) -> list[Reply | ItemError]:
        """What the model writes first to each row's one question, whatever a schema says of it."""
        turns = [caught(self.turns, self.item(row)) for row in rows]
        return _of_those_left(
            turns, lambda left: self.answer([tuple(of_item) for of_item in left], decoding, len(rows))
        )

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
        """What is seen and heard of a row, and its named texts."""
        seen, heard, texts = None, None, {}
        for one, value in zip(self.spec.inputs, row, strict=True):
            if one.named:
                texts[one.source] = trimmed(value or "")
            elif one.modality == "audio":
                heard = value
            else:
                seen = value
        return Item(seen, texts, heard)

    def turns(self, item: Item) -> list[Turn]:
        """What is asked about the item: one question, or one per scene of its clip."""
        if item.frames is not None and not len(item.frames.pixels):
            raise ItemError("caption", "no frame to describe")
        parts = [item.frames] if self.settings.summary is None else list(scenes_of(item.clip))
        return [self._turn(item, part) for part in parts]

    def _turn(self, item: Item, shown: Frames | Pictures | None) -> Turn:
        text = self._filled(self.settings.prompt, item, times=times_of(shown))
        if isinstance(shown, Frames) and self.settings.shown_as == "video":
            return Turn("user", text, clip=shown, sound=item.sound)
        return Turn("user", text, None if shown is None else shown.pixels, sound=item.sound)

    def _filled(self, prompt: Prompt, item: Item, **values: str) -> str:
        for name, optional in prompt.variables.items():
            if name in OF_CLIPS:
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


def _of_those_left(outcomes: Sequence[Any], work: Callable[[list[Any]], Sequence[Any]]) -> list[Any]:
    """``work`` done, all at once, on the outcomes that are no error; each error stays in its place."""
    left = [outcome for outcome in outcomes if not isinstance(outcome, ItemError)]
    done = iter(work(left) if left else [])
    return [outcome if isinstance(outcome, ItemError) else next(done) for outcome in outcomes]
