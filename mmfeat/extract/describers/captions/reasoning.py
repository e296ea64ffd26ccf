"""What a model thought before it answered, split from the answer: the one place for every engine.

Models write it in marks of their own before the answer: ``<think>...</think>``, ``[THINK]...[/THINK]``,
``◁think▷...◁/think▷``, channels (``<|channel|>analysis<|message|>...<|channel|>final<|message|>...``). A chat
template may have opened it already, so that only the end is there; and a reply that was cut has only its
beginning. A mark that is spoken of is none: one in quotes, or in the middle of a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_TAGS = r"(?:\w+:)?(?:think|thinking|thoughts?|reasoning|reflection|analysis|scratchpad|antthinking)"
_CHANNEL = r"(?:<\|end\|>\s*)?(?:<\|start\|>\s*assistant\s*)?<\|channel\|>\s*"
# What follows a channel's name: <|message|>, perhaps after who is addressed and how it is written.
_MESSAGE = r"[^<\n]{0,80}(?:<\|constrain\|>\s*\w+\s*)?<\|message\|>"

#: Each begins or ends reasoning. A final channel ends what came before it, whether or not that was opened.
_MARK = re.compile(
    rf"(?P<close>(?:<|&lt;)\s*/\s*{_TAGS}\s*(?:>|&gt;)|(?-i:\[/THINK\])|◁/think▷"
    rf"|<\|(?:end_of_(?:thought|thinking|reasoning)|END_THINKING|/think(?:ing)?)\|>"
    rf"|{_CHANNEL}final{_MESSAGE}|\A\s*final\s*<\|message\|>|<channel\|>|<unused95>"
    r"|(?-i:assistantfinal(?![a-z]))|\n[ \t]*Here(?:'s| is) my response:)"
    rf"|(?P<open>(?:<|&lt;)\s*{_TAGS}\s*(?:>|&gt;)|(?-i:\[THINK\])|◁think▷"
    rf"|<\|(?:begin_of_(?:thought|thinking|reasoning)|START_THINKING|think(?:ing)?)\|>"
    rf"|{_CHANNEL}(?:analysis|commentary|thought){_MESSAGE}|\A\s*(?:analysis|commentary)\s*<\|message\|>"
    r"|<\|channel>\s*thought\b|<unused94>\s*thought\b"
    r"|\A\s*Here(?:'s| is) my thought process:"
    # Channels as they read where their marks were left out: "analysisWe see a cat.assistantfinalA cat."
    r"|\A\s*(?-i:analysis(?=[A-Z]).*?(?=assistantfinal|\Z)))",
    re.IGNORECASE | re.DOTALL,
)
# Around an answer, by models that think.
_WRAPPED = re.compile(
    r"\A\s*(?:<(?P<tag>answer|response|final|output|caption)>|<\|begin_of_(?P<box>box|solution|answer)\|>"
    r"|<\|START_RESPONSE\|>)(?P<said>.*?)(?:</(?P=tag)>|<\|end_of_(?P=box)\|>|<\|END_RESPONSE\|>)?\s*\Z",
    re.IGNORECASE | re.DOTALL,
)
_END_OF_MESSAGE = re.compile(r"<\|(?:end|return|call)\|>.*\Z", re.DOTALL)
_QUOTES = {
    '"': '"',
    "'": "'",
    "`": "`",
    "\u201c": "\u201d",
    "\u2018": "\u2019",
    "\u201e": "\u201c",
    "\u00ab": "\u00bb",
    "\u300c": "\u300d",
}
_MOST_ROUNDS = 8
# The beginning, a new line, or the end of a sentence, in Chinese and Japanese too.
_BEGINS_AFTER = re.compile(r"(?:\A|[\n.!?:\u2026\u3002\uff01\uff1f\uff1a])\s*\Z")


@dataclass(frozen=True)
class Said:
    """A reply in its two parts.

    Attributes:
        answer: stripped; the reply itself where it holds no reasoning.
        reasoning: characters of what was thought, without the marks around it.
        is_open: whether the reply ends before the reasoning does.
    """

    answer: str
    reasoning: int = 0
    is_open: bool = False


def split(text: str) -> Said:
    """The answer in a reply, and how much reasoning stood beside it."""
    answer, reasoning, is_open = text.strip(), 0, False
    # What is left together may read as a mark again, and an answer that is stored must not.
    for _ in range(_MOST_ROUNDS):
        said = _split(answer)
        reasoning, is_open = reasoning + said.reasoning, is_open or said.is_open
        if said.answer == answer:
            return Said(answer, reasoning, is_open)
        answer = said.answer
    return Said("", reasoning + len(answer), is_open)


def shows_reasoning(text: str) -> bool:
    """Whether a text holds more than an answer."""
    return split(text).answer != text.strip()


def opened_by(question: str) -> str:
    """The mark at a question's end by which a chat template opens the reasoning; empty where it does not."""
    text = question.rstrip()
    marks = [mark for mark in _MARK.finditer(text) if mark.end() == len(text)]
    return marks[-1][0] if marks and marks[-1]["open"] else ""


def is_mark(token: str) -> bool:
    """Whether a model's control token belongs to reasoning, so that it must not be lost in decoding."""
    return token.strip() in _TOKENS or _MARK.fullmatch(token.strip()) is not None


#: Tokens that are a part of a mark.
_TOKENS = frozenset(
    {
        "<|start|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<|channel|>",
        "<|message|>",
        "<|constrain|>",
        "<|channel>",
        "<unused94>",
    }
)


def _split(text: str) -> Said:
    found = _answers(text, _marks(text))
    if found is None:
        return Said(text)
    answers, reasoning, is_open = found
    answer = _END_OF_MESSAGE.sub("", "".join(answers)).strip()
    if wrapped := _WRAPPED.match(answer):
        answer = wrapped["said"].strip()
    return Said(answer, reasoning, is_open)


def _marks(text: str) -> list[re.Match[str]]:
    return [mark for mark in _MARK.finditer(text) if not _is_quoted(text, mark)]


def _answers(text: str, marks: Iterable[re.Match[str]]) -> tuple[list[str], int, bool] | None:
    """The parts of a text that are no reasoning, the characters of what is, and whether that is open at the
    end; None where nothing is."""
    parts: list[str] = []
    # ``begin``: where the reasoning that is open began, None where none is. ``literal``: of an opening mark
    # that was spoken of, whose end is spoken of too.
    at, begin, literal, reasoning, found = 0, None, False, 0, False
    for mark in marks:
        if mark["open"]:
            if begin is not None:
                continue
            if not _begins(text, at, mark.start()):
                literal = True
                continue
            parts.append(text[at : mark.start()])
            begin, found = _after(mark), True
        elif begin is not None:
            reasoning += len(text[begin : mark.start()].strip())
            at, begin = mark.end(), None
        elif literal:
            literal = False
        else:
            # Opened by the chat template: all that came before is reasoning.
            before = "".join(parts) + text[at : mark.start()]
            parts, at, found = [], mark.end(), True
            reasoning += len(before.strip())
    if not found:
        return None
    if begin is None:
        parts.append(text[at:])
    else:
        reasoning += len(text[begin:].strip())
    return parts, reasoning, begin is not None


def _after(mark: re.Match[str]) -> int:
    """Where reasoning begins: behind its mark, or with it where that is its first words."""
    return mark.start() if mark[0].lstrip().startswith("analysis") and "<" not in mark[0] else mark.end()


def _begins(text: str, start: int, end: int) -> bool:
    """Whether a statement may begin at ``end``; what is before ``start`` is reasoning."""
    return _BEGINS_AFTER.search(text[max(start, end - 40) : end]) is not None or not text[start:end].strip()


def _is_quoted(text: str, mark: re.Match[str]) -> bool:
    before, after = text[max(0, mark.start() - 1) : mark.start()], text[mark.end() : mark.end() + 1]
    return before in _QUOTES and _QUOTES[before] == after
