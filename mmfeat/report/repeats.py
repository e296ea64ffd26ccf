"""The same text on different items: word for word, or nearly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from mmfeat.report.words import ngrams

# Of fewer words, every second catalogue has two that differ in a word and are both right.
_NEAR_WORDS = 8
_SHINGLE = 3
_PERMUTATIONS = 128


def same_texts(words: Mapping[int, tuple[str, ...]], contents: Sequence[str | None]) -> dict[int, list[int]]:
    """Position to the other positions with the same words; only where what they describe differs.

    Args:
        words: position to the words of its text.
        contents: per position, the hash of what is described: two items with one picture may share a text.
    """
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for at, text in words.items():
        groups[text].append(at)
    found = {}
    for group in groups.values():
        for at in group:
            others = [o for o in group if o != at and _differ(contents[o], contents[at])]
            if others:
                found[at] = others
    return found


def near_texts(
    words: Mapping[int, tuple[str, ...]], contents: Sequence[str | None], similarity: float, seed: int
) -> dict[int, tuple[int, float]]:
    """Position to the most similar other position, and their Jaccard similarity of 3-word shingles.

    Texts with the same words are not near but same. Candidates come from MinHash signatures of 128
    permutations (Broder 1997, by datasketch) and are then compared exactly: a candidate pair is never
    wrong, and a pair just above ``similarity`` may be overlooked.
    """
    from datasketch import MinHash, MinHashLSH

    shingles = {
        at: frozenset(ngrams(text, _SHINGLE)) for at, text in words.items() if len(text) >= _NEAR_WORDS
    }
    if len(shingles) < 2:
        return {}
    # Looked for a little below: signatures only estimate.
    index = MinHashLSH(threshold=max(0.05, similarity - 0.1), num_perm=_PERMUTATIONS)
    unique = {words[at]: at for at in reversed(list(shingles))}
    signatures = dict(
        zip(
            unique.values(),
            MinHash.bulk(
                [[" ".join(s).encode() for s in shingles[at]] for at in unique.values()],
                num_perm=_PERMUTATIONS,
                seed=seed,
            ),
            strict=True,
        )
    )
    with index.insertion_session() as session:
        for at, signature in signatures.items():
            session.insert(at, signature)
    nearest = {
        words[at]: _nearest(at, index.query(signature), shingles, contents, similarity)
        for at, signature in signatures.items()
    }
    return {at: match for at in shingles if (match := nearest[words[at]]) is not None}


def _nearest(
    at: int,
    candidates: Sequence[int],
    shingles: Mapping[int, frozenset[tuple[str, ...]]],
    contents: Sequence[str | None],
    similarity: float,
) -> tuple[int, float] | None:
    rated = [
        (_jaccard(shingles[at], shingles[other]), -other)
        for other in candidates
        if other != at and _differ(contents[at], contents[other])
    ]
    value, other = max(rated, default=(0.0, 0))
    return (-other, value) if value >= similarity else None


def _jaccard(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    return len(a & b) / len(a | b)


def _differ(a: str | None, b: str | None) -> bool:
    return a is None or b is None or a != b
