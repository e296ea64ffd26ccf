"""Which of two captions a second model prefers, item by item, asked in both orders."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np

from mmfeat.extract.base import Caption
from mmfeat.report.captions import Captions
from mmfeat.report.model import Absent, JudgedPair, Judgement, Unjudged
from mmfeat.report.pictures import Progress
from mmfeat.report.second_model import Answers, Asked, SecondModel
from mmfeat.schemas.errors import ItemError

_PROMPT = Path(__file__).parent / "compare-captions.toml"
_NAMES = ("first_caption", "second_caption")
_ITEMS = 100
# One word of the three and nothing after it but a sign: "The first dog ..." is a description.
_CHOICE = re.compile(
    r"\W*(?:the\s+)?(first|second|tie)(?:\s+(?:one|caption|description))?\s*(?:[^\w\s].*)?",
    re.IGNORECASE | re.DOTALL,
)
# The two-sided 95 % of a normal distribution.
_Z = 1.959964

Choice = Literal["first", "second", "tie"]
Verdict = Literal["after", "before", "tie", "flip"]


def judge_pairs(
    before: Captions | None,
    after: Captions,
    second: SecondModel | None,
    kept: Answers,
    seed: int,
    progress: Progress,
) -> Judgement | Absent:
    """Put the two captions of 100 items (seeded), and what they describe, to the model in both orders.

    An item is won where both orders agree; models prefer a place more often than people think (Zheng et al.,
    arXiv 2306.05685).

    Args:
        kept: what it answered before, where it is on a server.

    Raises:
        ConfigError: no such captioner or model.
        SpendingCap: its server may be asked no more.
        MmfeatError: its server gives no answer.
    """
    if second is None:
        return Absent(absent="No judge was named (--judge-model).")
    if before is None:
        return Absent(absent="There are no captions before these to judge beside them (--against).")
    if before.source != after.source:
        return Absent(absent=f"{before.version.version} describes {before.source}, not {after.source}.")
    both = sorted(set(before.told) & set(after.told))
    differ = [at for at in both if before.texts[at] != after.texts[at] and after.locations[at]]
    if not differ:
        return Absent(absent=f"No item has another caption in {before.version.version}.")
    chosen = sorted(np.random.default_rng(seed).permutation(differ)[:_ITEMS].astype(int).tolist())
    began, asked = time.monotonic(), Asked(second, after, _PROMPT, _NAMES, kept)
    pairs: list[JudgedPair] = []
    unjudged: list[Unjudged] = []
    replies: list[Caption] = []
    for done, at in enumerate(chosen, start=1):
        old, new = before.texts[at], after.texts[at]
        answers = asked.ask(at, [dict(zip(_NAMES, texts, strict=True)) for texts in ((old, new), (new, old))])
        replies += [answer for answer in answers if isinstance(answer, Caption)]
        outcome = _judged(after.ids[at], answers)
        if isinstance(outcome, JudgedPair):
            pairs.append(outcome)
        else:
            unjudged.append(outcome)
        progress("items judged in both orders", done, len(chosen))
    writers = {one.spec.model: one.version.version for one in (before, after)}
    return _summary(
        pairs=tuple(pairs),
        unjudged=tuple(unjudged),
        model=asked.model,
        against=before.version.version,
        differ=len(differ),
        own=writers.get(asked.model, ""),
        questions=asked.questions,
        prompt_tokens=sum(reply.prompt_tokens for reply in replies),
        new_tokens=sum(reply.new_tokens for reply in replies),
        seconds=time.monotonic() - began,
    )


def choice_of(answer: str) -> Choice | None:
    """Which caption an answer names; None if it names none plainly."""
    found = _CHOICE.fullmatch(answer.strip())
    if found is None:
        return None
    word = found[1].lower()
    return "first" if word == "first" else "second" if word == "second" else "tie"


def verdict_of(choices: tuple[Choice, Choice]) -> Verdict:
    """What two choices say: the first with the earlier caption first, the second with it second."""
    names: tuple[dict[Choice, Verdict], dict[Choice, Verdict]] = (
        {"first": "before", "second": "after", "tie": "tie"},
        {"first": "after", "second": "before", "tie": "tie"},
    )
    meant = [named[choice] for named, choice in zip(names, choices, strict=True)]
    return meant[0] if meant[0] == meant[1] else "flip"


def sign_test(a: int, b: int) -> float:
    """Two-sided exact p that ``a`` and ``b`` of ``a + b`` are no more unequal by chance; 1 of nothing."""
    n = a + b
    tail = sum(math.comb(n, k) for k in range(min(a, b) + 1))
    return min(1.0, float(2 * tail) / float(2**n))


def wilson_interval(part: int, n: int) -> tuple[float, float]:
    """95 % score interval of the share ``part / n`` (Wilson 1927)."""
    share, z2 = part / n, _Z**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def _judged(item_id: str, answers: list[Caption | ItemError]) -> JudgedPair | Unjudged:
    """Unjudged where either order has no plain answer."""
    choices: list[Choice] = []
    for order, answer in zip(("earlier caption first", "earlier caption second"), answers, strict=True):
        if isinstance(answer, ItemError):
            return Unjudged(item_id=item_id, reason=f"{order}: {answer.stage}: {answer.reason}")
        choice = choice_of(answer.text)
        if choice is None:
            return Unjudged(item_id=item_id, reason=f"{order}, the answer names neither: {answer.text}")
        choices.append(choice)
    both = (choices[0], choices[1])
    return JudgedPair(item_id=item_id, choices=both, verdict=verdict_of(both))


def _summary(pairs: tuple[JudgedPair, ...], **told: object) -> Judgement:
    counts = Counter(pair.verdict for pair in pairs)
    wins, losses = counts["after"], counts["before"]
    always = Counter(pair.choices for pair in pairs)
    first, second = always["first", "first"], always["second", "second"]
    low, high = wilson_interval(wins, wins + losses) if wins + losses else (None, None)
    return Judgement.model_validate(
        {
            **told,
            "wins": wins,
            "losses": losses,
            "ties": counts["tie"],
            "flips": counts["flip"],
            "share": wins / (wins + losses) if wins + losses else None,
            "low": low,
            "high": high,
            "p": sign_test(wins, losses),
            "always_first": first,
            "always_second": second,
            "bias_p": sign_test(first, second),
            "pairs": pairs,
        }
    )
