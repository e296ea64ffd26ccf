"""Words, sentences and repeated runs of texts in any script that separates words or writes in Han or Kana."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

# Han and Kana are written without spaces: each character counts as a word.
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|(?:(?![\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])[^\W_])+(?:['\u2019-][^\W_]+)*"
)
_SENTENCE_END = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])[\"')\]]*\s+|\n+|(?<=[\u3002\uff01\uff1f])")


@lru_cache(maxsize=1 << 16)
def words_of(text: str) -> tuple[str, ...]:
    """The words of ``text`` in lower case, without punctuation; kept for the next one who asks."""
    return words_in(text)


def words_in(text: str) -> tuple[str, ...]:
    """The same of a text that is asked for once."""
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).lower()))


def sentences_of(text: str) -> list[str]:
    """The sentences of ``text``, stripped; parts without a word are left out."""
    return [part.strip() for part in _SENTENCE_END.split(text) if words_of(part)]


def pieces_of(text: str, most_words: int) -> list[str]:
    """Sentences of ``text``, and of longer ones parts of at most ``most_words`` space-separated words."""
    pieces = []
    for sentence in sentences_of(text) or [text]:
        parts = sentence.split()
        pieces += [" ".join(parts[i : i + most_words]) for i in range(0, len(parts), most_words)]
    return pieces


def ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """Every run of ``n`` words, in order."""
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def longest_loop(words: Sequence[str], longest: int) -> tuple[tuple[str, ...], int]:
    """The phrase of at most ``longest`` words said most words long in a row, and how often it was said.

    ``a b a b a b`` gives ``(a, b)`` and 3; texts without a repetition give ``()`` and 1.
    """
    best: tuple[tuple[str, ...], int] = ((), 1)
    covered = 0
    for n in range(1, min(longest, len(words) // 2) + 1):
        run = 0
        for i in range(len(words) - n):
            run = run + 1 if words[i] == words[i + n] else 0
            times = run // n + 1
            if times > 1 and times * n > covered:
                covered = times * n
                best = (tuple(words[i + 1 : i + 1 + n]), times)
    return best
