"""How varied the captions are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from mmfeat.report.captions import Captions
from mmfeat.report.model import Absent, Opener, Variety
from mmfeat.report.words import ngrams, words_of

_SELF_BLEU_SAMPLE = 200
_OPENER_WORDS = 3
_OPENERS = 10


def measure_variety(captions: Captions, seed: int) -> Variety | Absent:
    """Word statistics of all captions, self-BLEU of a sample of 200."""
    texts = [words for at in captions.ok if (words := words_of(captions.texts[at]))]
    if not texts:
        return Absent(absent="No caption holds a word.")
    total = sum(map(len, texts))
    vocabulary = len({word for words in texts for word in words})
    sample = _sample(texts, _SELF_BLEU_SAMPLE, seed)
    return Variety(
        words=total,
        vocabulary=vocabulary,
        type_token_ratio=vocabulary / total,
        distinct_1=distinct(texts, 1),
        distinct_2=distinct(texts, 2),
        self_bleu=self_bleu(sample),
        self_bleu_sample=len(sample),
        openers=_openers(texts),
    )


def distinct(texts: Sequence[Sequence[str]], n: int) -> float:
    """Different n-grams by the number of n-grams in all texts (distinct-n, Li et al. 2016); 0 of none."""
    grams = Counter(gram for words in texts for gram in ngrams(words, n))
    return len(grams) / grams.total() if grams else 0.0


def self_bleu(texts: Sequence[Sequence[str]]) -> float | None:
    """Mean BLEU-4 (0..100) of each text against all others as references (Self-BLEU, Zhu et al. 2018).

    By sacrebleu's sentence BLEU with effective order: texts of fewer than four words count as well.
    None of fewer than two texts.
    """
    from sacrebleu.metrics.bleu import BLEU

    if len(texts) < 2:
        return None
    bleu = BLEU(effective_order=True, tokenize="none")
    joined = [" ".join(words) for words in texts]
    scores = [
        bleu.sentence_score(text, joined[:at] + joined[at + 1 :]).score for at, text in enumerate(joined)
    ]
    return float(np.mean(scores))


def _openers(texts: Sequence[Sequence[str]]) -> tuple[Opener, ...]:
    counts = Counter(" ".join(words[:_OPENER_WORDS]) for words in texts if len(words) >= _OPENER_WORDS)
    return tuple(
        Opener(words=words, count=count, share=count / len(texts))
        for words, count in counts.most_common(_OPENERS)
        if count > 1
    )


def _sample(texts: list[tuple[str, ...]], most: int, seed: int) -> list[tuple[str, ...]]:
    if len(texts) <= most:
        return texts
    chosen = np.random.default_rng(seed).choice(len(texts), most, replace=False)
    return [texts[at] for at in sorted(chosen)]
