"""What a model thought before it answered, split from the answer: the one place for every engine.

Models write it in marks of their own before the answer: ``<think>...</think>``, ``[THINK]...[/THINK]``,
``◁think▷...◁/think▷``, channels (``<|channel|>analysis<|message|>...<|channel|>final<|message|>...``). A chat
template may have opened it already, so that only the end is there; and a reply that was cut has only its
beginning. A mark that is spoken of is none: one in quotes, or in the middle of a sentence. One that stands
alone is doubted more than a pair, and one behind an answer more than one before it.

Time grows with a reply's length and no faster: no part of a pattern here can match the same stretch of text
from many places.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass

# Words that nothing else is marked by, and those that a picture may well show.
_SURE = r"(?:think|thinking|thought|antthinking)"
_VAGUE = r"(?:thoughts|reasoning|reflection|analysis|scratchpad)"
_CHANNEL = r"(?:<\|end\|>\s*)?(?:<\|start\|>\s*assistant\s*)?<\|channel\|>\s*"
# What follows a channel's name: <|message|>, perhaps after who is addressed and how it is written.
_MESSAGE = r"[^<\n]{0,80}(?:<\|constrain\|>\s*\w+\s*)?<\|message\|>"


def _tag(name: str, begin: str = r"(?:<|&lt;)\s*") -> str:
    return rf"{begin}(?:\w+:)?{name}\s*(?:>|&gt;)"


def _end_tag(name: str) -> str:
    return _tag(name, r"(?:<|&lt;)\s*/\s*")


#: Each begins or ends reasoning. A final channel ends what came before it, whether or not that was opened; an
#: end that is ``paired`` ends only what was opened, and what begins ``in_words`` ends in words.
_MARK = re.compile(
    rf"(?P<close>{_end_tag(_SURE)}|(?P<paired>{_end_tag(_VAGUE)})|(?-i:\[/THINK\])|◁/think▷"
    rf"|<\|(?:end_of_(?:thought|thinking|reasoning)|END_THINKING|/think(?:ing)?)\|>"
    rf"|{_CHANNEL}final{_MESSAGE}|\A\s*final\s*<\|message\|>|<channel\|>|<unused95>"
    r"|(?P<end_in_words>(?-i:assistantfinal(?![a-z]))|\n[ \t]*Here(?:'s| is) my response:))"
    rf"|(?P<open>{_tag(_SURE)}|(?P<vague>{_tag(_VAGUE)})|(?-i:\[THINK\])|◁think▷"
    rf"|<\|(?:begin_of_(?:thought|thinking|reasoning)|START_THINKING|think(?:ing)?)\|>"
    rf"|{_CHANNEL}(?:analysis|commentary|thought){_MESSAGE}|\A\s*(?:analysis|commentary)\s*<\|message\|>"
    r"|<\|channel>\s*thought\b|<unused94>\s*thought\b"
    # Channels as they read where their marks were left out: "analysisWe see a cat.assistantfinalA cat."
    r"|(?P<in_words>\A\s*Here(?:'s| is) my thought process:|\A\s*(?-i:analysis(?=[A-Z]))))",
    re.IGNORECASE,
)
# Around an answer, by models that think.
_WRAPPING = re.compile(
    r"<(?P<tag>answer|response|final|output|caption)>|<\|begin_of_(?P<box>box|solution|answer)\|>"
    r"|<\|START_RESPONSE\|>",
    re.IGNORECASE,
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
    "\u300e": "\u300f",
    "(": ")",
    "\uff08": "\uff09",
}
_MOST_ROUNDS = 8
_SENTENCE_ENDS = (".", "!", "?", "\u2026", "\u3002", "\uff01", "\uff1f")
_SEEN_BEFORE = 40
# As far as is looked behind a mark, which must not grow with the text.
_BLANK = re.compile(r"\s{0,200}")
_WORD = re.compile(r"\S")
# Behind a mark that is spoken of.
_SPOKEN = re.compile(
    r"[ \t]{1,200}(?:is|are|was|were|be|has|reads?|says?|appears?|stands?|shows?|means?|in|on|at|as|by|and"
    r"|or|to|from|with|written|printed|visible|tags?|marks?|words?|text)\b"
)
# Between two marks that are spoken of.
_JOINS = frozenset({"and", "or", "&", "/", ",", "to", "...", "\u2026"})
_LINE_ENDS = re.compile(r"[ \t]{0,200}(?:\r?\n|\Z)")
# What goes on with a sentence rather than beginning one: its punctuation, the end of a quote, a tag's end.
_GOES_ON = re.compile(
    r"[.,;:!?)\]}\u2019\u201d\u00bb\u2026\u3001\u3002\uff0c\uff09\u300d\u300f]|['\"`](?!\w)|</"
)


@dataclass(frozen=True)
class Said:
    """A reply in its two parts.

    Attributes:
        answer: stripped; the reply itself if it holds no reasoning.
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
    """The mark at a question's end by which a chat template opens the reasoning; empty if it does not."""
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
    reading = _Reading(text)
    if not reading.found:
        return Said(text)
    answer = _END_OF_MESSAGE.sub("", "".join(reading.parts)).strip()
    return Said(_unwrapped(answer), reading.reasoning, reading.begin is not None)


def _unwrapped(answer: str) -> str:
    """An answer without the tags around it."""
    begin = _WRAPPING.match(answer)
    if begin is None:
        return answer
    if begin["tag"]:
        end = f"</{begin['tag']}>"
    else:
        end = f"<|end_of_{begin['box']}|>" if begin["box"] else "<|END_RESPONSE|>"
    said = answer[begin.end() :].strip()
    return said[: -len(end)].strip() if said.lower().endswith(end.lower()) else said


class _Reading:
    """A text, read mark by mark.

    Attributes:
        parts: of the text that are no reasoning.
        reasoning: the characters of what is.
        found: whether there is any.
        begin: where the reasoning that is still open at the end began; None if none is.
    """

    def __init__(self, text: str) -> None:
        self.parts: list[str] = []
        self.reasoning, self.found = 0, False
        self.begin: int | None = None
        self._text = text
        self._marks = [mark for mark in _MARK.finditer(text) if not _is_quoted(text, mark)]
        self._ends = {
            in_words: [m for m in self._marks if m["close"] and bool(m["end_in_words"]) == in_words]
            for in_words in (False, True)
        }
        self._starts = {kind: [mark.start() for mark in marks] for kind, marks in self._ends.items()}
        self._tail = self._end_of_answers()
        # ``_spoken``: whether an opening mark was spoken of, and so its end will be. ``_answered``: whether
        # the parts say something. ``_opened``: by what the reasoning that is open was opened.
        self._spoken, self._answered = False, False
        self._opened: re.Match[str] | None = None
        self._go_on_from(0)
        for mark in self._marks:
            if mark["open"]:
                self._open(mark)
            else:
                self._close(mark)
        if self.begin is None:
            self.parts.append(text[self._at :])
        else:
            self.reasoning += len(text[self.begin :].strip())

    def _end_of_answers(self) -> int:
        """Behind which there are only marks."""
        tail = len(self._text.rstrip())
        for mark in reversed(self._marks):
            if self._text[mark.end() : tail].strip():
                break
            tail = mark.start()
        return tail

    def _open(self, mark: re.Match[str]) -> None:
        if self.begin is not None:
            return
        end = self._end_of(mark)
        is_one = self._opens(mark) if end is None else self._opens_pair(mark, end)
        if not is_one:
            self._spoken = True
            return
        self._take(self._text[self._at : mark.start()])
        # Where a mark is the first word of what is thought, it stays with that.
        self.begin = mark.start() if mark["in_words"] and "process" not in mark[0] else mark.end()
        self._opened, self.found = mark, True

    def _close(self, mark: re.Match[str]) -> None:
        if self.begin is not None and self._opened is not None:
            if bool(mark["end_in_words"]) == bool(self._opened["in_words"]):
                self.reasoning += len(self._text[self.begin : mark.start()].strip())
                self.begin = None
                self._go_on_from(mark.end())
        elif mark["paired"] or mark["end_in_words"]:
            return
        elif self._spoken and not self._is_line(mark):
            self._spoken = False
        elif self.found and mark.start() >= self._tail:
            # An end that was said again.
            self._take(self._text[self._at : mark.start()])
            self._go_on_from(mark.end())
        elif self._closes(mark):
            # Opened by the chat template: all that came before is reasoning.
            before = "".join(self.parts) + self._text[self._at : mark.start()]
            self.parts, self._answered, self.found = [], False, True
            self.reasoning += len(before.strip())
            self._go_on_from(mark.end())

    def _take(self, part: str) -> None:
        self.parts.append(part)
        self._answered |= bool(part.strip())

    def _go_on_from(self, at: int) -> None:
        """Read on behind reasoning; ``_first`` is where the next word begins."""
        self._at = at
        found = _WORD.search(self._text, at)
        self._first = found.start() if found else len(self._text)

    def _end_of(self, mark: re.Match[str]) -> re.Match[str] | None:
        """The mark that ends what another opens; None if none does."""
        in_words = bool(mark["in_words"])
        at = bisect_left(self._starts[in_words], mark.end())
        return self._ends[in_words][at] if at < len(self._ends[in_words]) else None

    def _opens_pair(self, mark: re.Match[str], end: re.Match[str]) -> bool:
        """Whether two marks have reasoning between them."""
        text = self._text
        if end.start() - mark.end() < _SEEN_BEFORE and text[mark.end() : end.start()].strip() in _JOINS:
            return False
        is_followed = self._answers_from(end.end())
        if self._is_first(mark):
            return is_followed or not _SPOKEN.match(text, mark.end())
        return is_followed and self._may_begin(mark.start())

    def _opens(self, mark: re.Match[str]) -> bool:
        """Whether a mark that nothing ends opens reasoning."""
        text, end = self._text, mark.end()
        if _SPOKEN.match(text, end):
            return False
        if self._is_first(mark):
            return not (mark["vague"] and text[end : end + 1].isspace() and self._next_to(end).islower())
        if self.found:
            return mark.start() >= self._tail or self._may_begin(mark.start())
        begins_line = _LINE_ENDS.match(text, end) or _begins_sentence(text[end : end + 1])
        return not mark["vague"] and self._begins_line(mark.start()) and bool(begins_line)

    def _closes(self, mark: re.Match[str]) -> bool:
        """Whether a mark ends reasoning that nothing opened."""
        text, start, end = self._text, mark.start(), mark.end()
        if _SPOKEN.match(text, end):
            return False
        if start >= self._tail:
            return not text[start - 1 : start].isspace() or self._may_begin(start)
        if self._begins_line(start) or _LINE_ENDS.match(text, end):
            return True
        if _GOES_ON.match(text, end):
            return False
        return self._answers_from(end) or self._may_begin(start) or text[start - 1].isalnum()

    def _answers_from(self, at: int) -> bool:
        """Whether what comes next reads as the beginning of an answer, or nothing comes."""
        text = self._text
        if _LINE_ENDS.match(text, at):
            return True
        if not text[at].isspace():
            return not _GOES_ON.match(text, at)
        return _begins_sentence(self._next_to(at))

    def _is_first(self, mark: re.Match[str]) -> bool:
        """Whether no answer stands before it."""
        return not self._answered and mark.start() <= self._first

    def _next_to(self, at: int) -> str:
        """The first character that is no blank."""
        blank = _BLANK.match(self._text, at)
        return self._text[blank.end() : blank.end() + 1] if blank else ""

    def _is_line(self, mark: re.Match[str]) -> bool:
        return self._begins_line(mark.start()) and _LINE_ENDS.match(self._text, mark.end()) is not None

    def _begins_line(self, at: int) -> bool:
        before = self._text[max(0, at - _SEEN_BEFORE) : at].rstrip(" \t")
        return before.endswith("\n") or at <= self._first

    def _may_begin(self, at: int) -> bool:
        """Whether a sentence may begin there."""
        before = self._text[max(self._at, at - _SEEN_BEFORE) : at].rstrip()
        return self._begins_line(at) or before.rstrip("\"')*\u201d\u2019\u300d\u300f").endswith(
            _SENTENCE_ENDS
        )


def _begins_sentence(character: str) -> bool:
    """Whether a sentence may begin with it: no small letter, and nothing that goes on with one."""
    return bool(character) and not (
        character.islower() or character.isspace() or _GOES_ON.match(character + "a") is not None
    )


def _is_quoted(text: str, mark: re.Match[str]) -> bool:
    before, after = text[max(0, mark.start() - 1) : mark.start()], text[mark.end() : mark.end() + 1]
    return before in _QUOTES and _QUOTES[before] == after
