"""From a model's replies to captions: what a reply says, whether it fits the prompt, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mmfeat.extract.base import Caption
from mmfeat.extract.describers.captions import reasoning
from mmfeat.extract.describers.captions.replies import InvalidReply, parse_reply
from mmfeat.extract.served.reply import Reply
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.spec import Decoding, Prompt


def caught(make: Any, *given: Any) -> Any:
    """What ``make`` gives, or the ItemError that it raises."""
    try:
        return make(*given)
    except ItemError as error:
        return error


def accepted(prompt: Prompt, reply: Reply | ItemError, decoding: Decoding) -> Caption:
    """The caption that a reply is, without what the model thought before it.

    Raises:
        ItemError: it is none, or nothing but reasoning.
        InvalidReply: a schema says that it is none.
    """
    if isinstance(reply, ItemError):
        raise reply
    said = _said(prompt, reply)
    thought = reply.reasoning + said.reasoning
    if not said.answer and (thought or said.is_open or reply.finish_reason == "length"):
        raise _no_answer(reply, thought > 0 or said.is_open, decoding)
    text = said.answer if prompt.reply_schema is None else parse_reply(said.answer, prompt.reply_schema)
    if not _is_unicode(text):
        raise ItemError("caption", "the model gave half a character, which is no text")
    return Caption(
        text,
        reply.finish_reason,
        reply.prompt_tokens,
        reply.new_tokens,
        reply.seconds,
        reasoning_characters=thought,
        beside=reply.beside,
    )


def _said(prompt: Prompt, reply: Reply) -> reasoning.Said:
    """The parts of a reply. JSON that fits its schema is an answer as it is, whatever its texts say."""
    if prompt.reply_schema is not None and not isinstance(
        caught(parse_reply, reply.text, prompt.reply_schema), ItemError
    ):
        return reasoning.Said(reply.text)
    return reasoning.split(reply.text)


def _no_answer(reply: Reply, thought: bool, decoding: Decoding) -> ItemError:
    what = "nothing but reasoning" if thought else "empty"
    return ItemError(
        "caption",
        f"the reply is {what} (finish_reason {reply.finish_reason}): raise max_new_tokens (it is "
        f"{decoding.max_new_tokens}), or switch the model's thinking off",
    )


def _is_unicode(text: str) -> bool:
    """Whether it can be stored: a reply that came as JSON may hold half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def second_try(
    prompt: Prompt, first: Reply | ItemError, second: Reply | ItemError, decoding: Decoding
) -> Caption | ItemError:
    """The outcome of the second try, with what the first one cost."""
    outcome: Caption | ItemError = caught(accepted, prompt, second, decoding)
    if isinstance(outcome, InvalidReply):
        cut = isinstance(second, Reply) and second.finish_reason == "length"
        return ItemError(
            "caption",
            f"the reply did not fit the prompt's schema, twice: {outcome.problem}"
            + ("; it was cut at the token cap (max_new_tokens)" if cut else ""),
        )
    if isinstance(outcome, ItemError) or isinstance(first, ItemError):
        return outcome
    # What came beside an answer is of the question, which the first one was to.
    return replace(with_cost_of(outcome, [first]), retries=1, beside=first.beside)


def with_cost_of(caption: Caption, earlier: Sequence[Caption | Reply]) -> Caption:
    """The caption with the tokens and seconds of the questions that led to it."""
    return replace(
        caption,
        prompt_tokens=caption.prompt_tokens + sum(said.prompt_tokens for said in earlier),
        new_tokens=caption.new_tokens + sum(said.new_tokens for said in earlier),
        seconds=caption.seconds + sum(said.seconds for said in earlier),
    )
