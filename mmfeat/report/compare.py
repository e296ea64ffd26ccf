"""What changed since an earlier version of the captions."""

from __future__ import annotations

import numpy as np

from mmfeat.report.captions import Captions
from mmfeat.report.grounding import Scores, TextTower, score
from mmfeat.report.language import LanguageCheck
from mmfeat.report.model import Absent, Comparison, Delta, Pair, Suspects
from mmfeat.report.pictures import PictureVectors
from mmfeat.report.rules import Rules
from mmfeat.report.statistics import bootstrap_interval
from mmfeat.report.suspects import find_suspects
from mmfeat.report.words import words_of
from mmfeat.schemas.spec import FeatureSpec

_RESAMPLES = 1000
_PAIRS = 200
_LONGEST_VALUE = 300


def compare(
    before: Captions,
    after: Captions,
    suspects: tuple[Suspects, ...],
    pictures: PictureVectors | Absent,
    tower: TextTower | None,
    rules: Rules,
    language: LanguageCheck | None,
    seed: int,
) -> Comparison:
    """``after`` beside ``before``, of the same items.

    Args:
        suspects: of ``after``.
        pictures: of the items of ``after``; with them comes the tower that reads the captions.
    """
    both = sorted(set(before.ok) & set(after.ok))
    earlier = find_suspects(before, rules, language, seed)
    scores = None
    if tower is not None and not isinstance(pictures, Absent):
        shared = pictures.of(set(both))
        if len(shared.at) > 1:
            scores = score(before, shared, tower, seed), score(after, shared, tower, seed)
    changed = [at for at in both if before.texts[at] != after.texts[at]]
    return Comparison(
        against=before.version.version,
        spec_changes=_spec_changes(before.spec, after.spec),
        same=len(both) - len(changed),
        changed=len(changed),
        gained=len(set(after.ok) - set(before.ok)),
        lost=len(set(before.ok) - set(after.ok)),
        resamples=_RESAMPLES,
        deltas=(
            *_text_deltas(before, after, earlier, suspects, both, seed),
            *(_score_deltas(*scores, seed) if scores else ()),
        ),
        pairs=_pairs(before, after, changed, scores),
    )


def _text_deltas(
    before: Captions,
    after: Captions,
    earlier: tuple[Suspects, ...],
    later: tuple[Suspects, ...],
    both: list[int],
    seed: int,
) -> list[Delta]:
    if not both:
        return []
    found = [_delta("words per caption", _lengths(before, both), _lengths(after, both), seed)]
    for old, new in zip(earlier, later, strict=True):
        if old.count or new.count:
            name = f"share: {new.title.lower()}"
            found.append(_delta(name, _marks(before, old, both), _marks(after, new, both), seed))
    return found


def _lengths(captions: Captions, both: list[int]) -> np.ndarray:
    return np.array([len(words_of(captions.texts[at])) for at in both])


def _marks(captions: Captions, suspects: Suspects, both: list[int]) -> np.ndarray:
    found = set(suspects.item_ids)
    return np.array([captions.ids[at] in found for at in both])


def _score_deltas(before: Scores, after: Scores, seed: int) -> list[Delta]:
    return [
        _delta("grounding", before.own, after.own, seed),
        _delta("grounding AUC", before.placed, after.placed, seed),
        _delta("recall@1 by CLIP", before.ranks <= 1, after.ranks <= 1, seed),
        _delta("recall@10 by CLIP", before.ranks <= 10, after.ranks <= 10, seed),
    ]


def _delta(metric: str, before: np.ndarray, after: np.ndarray, seed: int) -> Delta:
    before, after = before.astype(np.float64), after.astype(np.float64)
    low, high = bootstrap_interval(after - before, _RESAMPLES, seed)
    return Delta(
        metric=metric,
        before=float(before.mean()),
        after=float(after.mean()),
        difference=float((after - before).mean()),
        low=low,
        high=high,
        items=len(before),
    )


def _pairs(
    before: Captions, after: Captions, changed: list[int], scores: tuple[Scores, Scores] | None
) -> tuple[Pair, ...]:
    from rapidfuzz import fuzz

    old, new = (dict(zip(s.at, s.own.tolist(), strict=True)) for s in scores) if scores else ({}, {})
    alike = {at: fuzz.ratio(words_of(before.texts[at]), words_of(after.texts[at])) / 100 for at in changed}
    return tuple(
        Pair(
            item_id=after.ids[at],
            before=before.texts[at],
            after=after.texts[at],
            similarity=alike[at],
            grounding_before=old.get(at),
            grounding_after=new.get(at),
        )
        for at in sorted(changed, key=lambda at: alike[at])[:_PAIRS]
    )


def _spec_changes(before: FeatureSpec, after: FeatureSpec) -> dict[str, tuple[str, str]]:
    old, new = _flat(before.identity()), _flat(after.identity())
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return {name: (_shown(old.get(name)), _shown(new.get(name))) for name in names}


def _flat(body: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in body.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _shown(value: object) -> str:
    return "" if value is None else str(value)[:_LONGEST_VALUE]
