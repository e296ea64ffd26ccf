"""Captions that look wrong by their text alone: one rule per suspicion."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mmfeat.report.captions import Captions
from mmfeat.report.language import LanguageCheck
from mmfeat.report.marks import REFUSAL, loop_in, loop_in_speech, phantom_in
from mmfeat.report.model import Example, Suspects
from mmfeat.report.repeats import near_texts, same_texts
from mmfeat.report.rules import Rules
from mmfeat.report.words import ngrams, words_of

_EXAMPLES = 5
_PROMPT_SHINGLE = 6
_TITLE_WORDS = 5
_LANGUAGE_WORDS = 4

_BOILERPLATE = re.compile(
    r"^\W*(?:"
    r"(?:sure|certainly|of course|okay|absolutely)\b"
    r"|here(?:'s| is| are)\b"
    r"|(?:in )?(?:the|this|that) (?:\w+ )?(?:image|picture|photo|photograph|video|clip|frame|scene)s? "
    r"(?:\w+ )?"
    r"(?:shows?|depicts?|features?|displays?|presents?|captures?|portrays?|contains?|is|appears|of)\b"
    r"|in (?:the|this|these) (?:image|picture|photo|photograph|video|clip|frame|scene)s?\b"
    r"|(?:this|it) (?:is|appears to be|seems to be) an? (?:image|picture|photo|photograph|video|clip)\b"
    r")",
    re.IGNORECASE,
)
_MARKUP = re.compile(
    r"<\|[^|>]*\|>|</?s>|</?(?:think|image|video|img|user|assistant|system|b|i|p|br|div|span|pad|unk|bos|eos)\b[^>]*>"
    r"|\[/?INST\]|\[(?:IMG|PAD|UNK|CLS|SEP)\]|<<SYS>>|```|\*\*|^#{1,6} |&(?:amp|lt|gt|quot|nbsp);"
    r"|^\s*(?:user|assistant|system|human|question|answer|caption)\s*:",
    re.IGNORECASE | re.MULTILINE,
)

Found = Mapping[int, str]


@dataclass(frozen=True)
class _Rule:
    kind: str
    title: str
    about: str


_RULES = (
    _Rule("empty", "Empty", "Not one word."),
    _Rule("short", "Too short", "Fewer words than the rule `short_words`."),
    _Rule("refusal", "Refusals", "Begins as a model begins that declines to answer."),
    _Rule("boilerplate", "Boilerplate openers", "Begins with words that say nothing of the item."),
    _Rule("language", "Wrong language", "In another language than the stated one."),
    _Rule("loop", "Loops", "A phrase again and again."),
    _Rule("phantom", "Phantom speech", "A phrase that speech models make up, or words where nobody speaks."),
    _Rule("leak", "Leaked prompt or markup", "Holds a part of the prompt, a model's marks, or markup."),
    _Rule("duplicate", "Same text on different items", "Word for word the text of another item."),
    _Rule("near_duplicate", "Nearly the same text", "Differs in few words from another item's text."),
    _Rule("title_copy", "Copies the title", "Says what the title says, in its words."),
    _Rule("cut", "Cut at the token cap", "The model was not done."),
)
# What is said or shown is written down as it is.
_NOT_LOOKED_FOR = {
    "empty": "Not looked for: where nothing is said or shown there is not one word.",
    "refusal": "Not looked for: what is said or shown may well begin so.",
    "boilerplate": "Not looked for: what is said or shown may well begin so.",
}
KINDS = tuple(rule.kind for rule in _RULES)


def find_suspects(
    captions: Captions, rules: Rules, language: LanguageCheck | None, seed: int
) -> tuple[Suspects, ...]:
    """Every suspicion with the captions under it; a caption may be under several.

    Args:
        language: the check against the stated one; None checks none.
        seed: of the MinHash permutations.
    """
    words = {at: words_of(captions.texts[at]) for at in captions.ok}
    written_down = captions.may_be_empty
    refusals = {} if written_down else _matching(captions, REFUSAL)
    # A refusal or an empty text on many items is that already, and no further finding.
    telling = {at: text for at, text in words.items() if text and at not in refusals}
    same = same_texts(telling, captions.contents)
    found: dict[str, Found] = {
        "empty": {at: "" for at, text in words.items() if not text and not written_down},
        "short": {at: f"{len(w)} words" for at, w in words.items() if 0 < len(w) < rules.short_words},
        "refusal": refusals,
        "boilerplate": {} if written_down else _matching(captions, _BOILERPLATE),
        "language": _other_language(captions, telling, language),
        "loop": _loops(captions, words, rules),
        "phantom": _phantoms(captions),
        "leak": _leaks(captions, words),
        "duplicate": {at: _also(captions, others) for at, others in same.items()},
        "near_duplicate": {
            at: f"like {captions.ids[other]} ({value:.0%} of the phrases)"
            for at, (other, value) in near_texts(
                telling, captions.contents, rules.near_similarity, seed
            ).items()
        },
        "title_copy": _title_copies(captions, telling, rules),
        "cut": {
            at: f"after {captions.facts[at].get('new_tokens', '?')} tokens"
            for at in captions.ok
            if captions.facts[at].get("finish_reason") == "length"
        },
    }
    unchecked = {} if language else {"language": "No language was stated (--language)."}
    if captions.spec.role != "transcript":
        unchecked["phantom"] = "These are no transcripts."
    if not written_down and not any("finish_reason" in captions.facts[at] for at in captions.ok):
        unchecked["cut"] = "It was not recorded how the captions ended."
    return tuple(_suspects(rule, captions, found[rule.kind], unchecked.get(rule.kind, "")) for rule in _RULES)


def _suspects(rule: _Rule, captions: Captions, found: Found, unchecked: str) -> Suspects:
    at_fault = sorted(found)
    return Suspects(
        kind=rule.kind,
        title=rule.title,
        about=_NOT_LOOKED_FOR.get(rule.kind, rule.about) if captions.may_be_empty else rule.about,
        count=len(at_fault),
        share=len(at_fault) / len(captions.ok) if captions.ok else 0.0,
        examples=tuple(
            Example(item_id=captions.ids[at], text=captions.texts[at], detail=found[at])
            for at in at_fault[:_EXAMPLES]
        ),
        item_ids=tuple(captions.ids[at] for at in at_fault),
        unchecked=unchecked,
    )


def _matching(captions: Captions, pattern: re.Pattern[str]) -> dict[int, str]:
    matches = ((at, pattern.search(captions.texts[at].replace("\u2019", "'"))) for at in captions.ok)
    return {at: f"“{match[0].strip()}”" for at, match in matches if match}


def _each(words: Mapping[int, tuple[str, ...]], rule: Callable[[tuple[str, ...]], str]) -> dict[int, str]:
    return {at: detail for at, text in words.items() if (detail := rule(text))}


def _loops(captions: Captions, words: Mapping[int, tuple[str, ...]], rules: Rules) -> dict[int, str]:
    """Of transcripts by the rule under which they are marked when they are stored."""
    if captions.spec.role != "transcript":
        return _each(words, lambda text: loop_in(text, rules))
    of_each = ((at, loop_in_speech(captions.texts[at])) for at in captions.ok)
    return {at: shown for at, shown in of_each if shown}


def _phantoms(captions: Captions) -> dict[int, str]:
    """By the rules under which transcripts are marked when they are stored."""
    if captions.spec.role != "transcript":
        return {}
    of_each = (
        (at, phantom_in(captions.texts[at], captions.facts[at].get("speech_seconds"))) for at in captions.ok
    )
    return {at: shown for at, shown in of_each if shown}


def _leaks(captions: Captions, words: Mapping[int, tuple[str, ...]]) -> dict[int, str]:
    prompt = captions.spec.prompt
    asked = set(ngrams(words_of(prompt.text), _PROMPT_SHINGLE)) if prompt else set()
    marked = {} if captions.spec.role == "json" else _matching(captions, _MARKUP)
    matched = _each(
        words,
        lambda text: next((f"“{' '.join(g)}”" for g in ngrams(text, _PROMPT_SHINGLE) if g in asked), ""),
    )
    return {**matched, **marked}


def _title_copies(captions: Captions, words: Mapping[int, tuple[str, ...]], rules: Rules) -> dict[int, str]:
    """Nearly the title (indel similarity by rapidfuzz), or a title of five words or more as a whole."""
    from rapidfuzz import fuzz

    found = {}
    for at, text in words.items():
        title = words_of(captions.titles[at])
        if not title:
            continue
        alike = fuzz.ratio(text, title) / 100
        if alike >= rules.title_similarity:
            found[at] = f"{alike:.0%} the title"
        elif len(title) >= _TITLE_WORDS and title in set(ngrams(text, len(title))):
            found[at] = "holds the whole title"
    return found


def _also(captions: Captions, others: list[int]) -> str:
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return f"also of {captions.ids[others[0]]}{more}"


def _other_language(
    captions: Captions, words: Mapping[int, tuple[str, ...]], check: LanguageCheck | None
) -> dict[int, str]:
    """Of texts of at least four words: fewer say too little of their language."""
    if check is None:
        return {}
    long = [at for at, text in words.items() if len(text) >= _LANGUAGE_WORDS]
    others = check.others([captions.texts[at] for at in long])
    return {at: f"{other}, it seems" for at, other in zip(long, others, strict=True) if other}
