"""What a text shows by itself to be no caption, known when it is written: a refusal, a loop."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mmfeat.report.rules import Rules
from mmfeat.report.words import longest_loop, ngrams, words_in

_LONGEST_PHRASE = 20
# Of a text without end the beginning says enough.
_JUDGED_CHARACTERS = 20_000

_CANNOT = (
    r"(?:(?:can ?not|can'?t|could not|couldn'?t|won'?t|will not) (?:\w+ ){0,2}?"
    r"(?:help|assist|describe|see|view|access|analy[sz]e|identify|provide|comply|do|fulfil|process|"
    r"generate|create|determine|caption|answer|open|watch|tell|make out)\b"
    r"|(?:am|are|'m|'re) (?:\w+ ){0,1}?(?:unable|not able|not allowed|not permitted)\b"
    r"|(?:do not|don'?t) (?:have|see|feel)\b)"
)
REFUSAL = re.compile(
    r"^\W*(?:"
    rf"(?:(?:unfortunately|sorry|apologies|(?:i|we) apologi[sz]e)\b[^.]{{0,40}}?)?\b(?:i|we) ?{_CANNOT}"
    r"|(?:i'?m|i am|we'?re|we are) sorry\b"
    r"|i apologi[sz]e\b"
    r"|as an? (?:\w+ )?(?:ai|language model|artificial)\b"
    r"|(?:lo siento|no puedo|je suis désolée?|je ne peux pas|je ne suis pas en mesure"
    r"|es tut mir leid|ich kann (?:\w+ ){0,4}nicht|mi dispiace|non posso|desculpe|não posso)\b"
    r"|(?:很?抱歉|对不起|我无法|我不能|無法|申し訳|すみません)"
    r")",
    re.IGNORECASE,
)


def marks_of(text: str) -> dict[str, str]:
    """The suspicions under which a text is stored, ``refusal`` and ``loop``, and what shows them; by the
    report's own rules."""
    text = text[:_JUDGED_CHARACTERS]
    refusal = REFUSAL.search(text.replace("\u2019", "'"))
    found = {
        "refusal": "" if refusal is None else f"\u201c{refusal[0].strip()}\u201d",
        "loop": loop_in(words_in(text), Rules()),
    }
    return {kind: shown for kind, shown in found.items() if shown}


def loop_in(words: Sequence[str], rules: Rules) -> str:
    """Which phrase is said again and again, or how much of a text was said before in it; empty where nothing
    is."""
    phrase, times = longest_loop(words, _LONGEST_PHRASE)
    if times >= 3 and times * len(phrase) >= rules.loop_words:
        return f"\u201c{' '.join(phrase)}\u201d {times} times in a row"
    four = ngrams(words, 4)
    repeated = 1 - len(set(four)) / len(four) if four else 0.0
    return f"{repeated:.0%} of its 4-grams are repetitions" if repeated >= rules.repeated_share else ""
