"""The caption report, section by section."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mmfeat.report.captions import Captions, earlier_version, read_captions, the_captions
from mmfeat.report.claims import check_claims
from mmfeat.report.compare import compare
from mmfeat.report.gates import check_gates, figures
from mmfeat.report.grounding import Scores, TextTower, grounding_of, score
from mmfeat.report.judge import judge_pairs
from mmfeat.report.language import LanguageCheck
from mmfeat.report.media import make_gallery
from mmfeat.report.model import (
    Absent,
    CaptionReport,
    Comparison,
    Coverage,
    Evidence,
    FailureReason,
    Grounding,
    Item,
    Lengths,
    Subject,
    Suspects,
)
from mmfeat.report.pictures import PictureVectors, Progress, grounding_feature, picture_vectors
from mmfeat.report.references import measure_references
from mmfeat.report.rules import Rules, read_gates
from mmfeat.report.second_model import Answers, SecondModel
from mmfeat.report.statistics import distribution
from mmfeat.report.suspects import find_suspects
from mmfeat.report.usefulness import measure_usefulness
from mmfeat.report.variety import measure_variety
from mmfeat.report.words import words_of
from mmfeat.schemas.errors import MissingExtra
from mmfeat.schemas.featureset import ABSENT, FAILED, MISSING, OK
from mmfeat.schemas.reasons import kind_of
from mmfeat.schemas.server import SpendingConfig
from mmfeat.store import FeatureVersion, Store, why_stale

if TYPE_CHECKING:
    import numpy as np

    from mmfeat.extract.base import Encoder

_SHOWN_IDS = 20
_NO_SPACE_OF_PICTURES = (
    "The store holds no CLIP or SigLIP feature of pictures, whose encoder would compare captions and "
    "pictures. Extract one, for example with the encoder open_clip."
)
_NO_SPACE_OF_SOUNDS = (
    "The store holds no CLAP feature of sounds, whose encoder would compare texts and sounds. Extract one."
)


@dataclass(frozen=True)
class ReportOptions:
    """What a report is made of.

    Attributes:
        feature: the captions, ``name`` or ``name@fingerprint``; the store's only ones when None.
        gates: a ``gates.toml``; the default gates when None.
        against: the version to compare with; the one made last before when None.
        language: the captions should be in, ISO 639-1.
        grounding: the feature whose encoder compares captions with pictures (CLIP, SigLIP) or sounds
            (CLAP); the store's own when None.
        reference: ``title``, ``description`` or a text feature that holds what is right.
        claims: the second model of the claim check.
        judge: the second model that says which of two captions is better.
        spending: caps on what second models on a server may be asked, both together.
        seed: of every sample.
    """

    feature: str | None = None
    gates: Path | None = None
    against: str | None = None
    language: str | None = None
    grounding: str | None = None
    reference: str | None = None
    claims: SecondModel | None = None
    judge: SecondModel | None = None
    spending: SpendingConfig = field(default_factory=SpendingConfig)
    seed: int = 0


def no_progress(what: str, done: int, total: int) -> None:
    """Tell nobody."""


def not_asked(captions: Captions, earlier: FeatureVersion | None) -> Absent:
    """No evidence."""
    return Absent(absent="The interactions were not asked.")


def report_captions(
    store: Store,
    options: ReportOptions,
    progress: Progress = no_progress,
    evidence: Callable[[Captions, FeatureVersion | None], Evidence | Absent] = not_asked,
) -> CaptionReport:
    """Measure the captions of a store.

    Args:
        progress: told what was done, how many times, of how many.
        evidence: holds captions against the interactions, and those they are compared with, if there
            are any.

    Raises:
        UsageError, ConfigError: a feature, version, gate or language that there is not.
        MissingExtra: the packages of ``mmfeat[report]`` are not installed.
        SpendingCap: a second model's server may be asked no more; what it answered is kept.
    """
    need_packages()
    kept = Answers(store.uri, options.spending)
    rules = read_gates(options.gates, options.language)
    version = store.resolve(options.feature) if options.feature else the_captions(store)
    captions = read_captions(store, version)
    language = LanguageCheck(options.language, rules.rules.language_ratio) if options.language else None
    suspects = find_suspects(captions, rules.rules, language, options.seed)
    variety = measure_variety(captions, options.seed)
    seen = _seen(store, captions, options, progress)
    usefulness = measure_usefulness(
        store, captions, seen.pictures, seen.scores, rules.rules, options.seed, progress
    )
    coverage, lengths = _coverage(captions), _lengths(captions)
    references = measure_references(store, captions, options.reference)
    claims = check_claims(captions, options.claims, kept, options.seed, progress)
    earlier = earlier_version(store, version, options.against)
    before = read_captions(store, earlier) if earlier else None
    measured = figures(coverage, lengths, suspects, variety, seen.grounding, usefulness, references, claims)
    items = _items(captions, suspects, seen.scores)
    report = CaptionReport(
        subject=_subject(store, captions, options),
        gates=check_gates(rules.gates, measured),
        coverage=coverage,
        lengths=lengths,
        suspects=suspects,
        variety=variety,
        grounding=seen.grounding,
        usefulness=usefulness,
        references=references,
        claims=claims,
        comparison=_comparison(before, captions, suspects, seen, rules.rules, language, options),
        evidence=evidence(captions, earlier),
        judged=judge_pairs(before, captions, options.judge, kept, options.seed, progress),
        gallery=make_gallery(captions, items, options.seed, progress),
        items=items,
    )
    kept.forget()
    return report


def need_packages() -> None:
    """Said before any work: no section is left out for want of a package."""
    for package in ("datasketch", "lingua", "rapidfuzz", "sacrebleu"):
        if find_spec(package) is None:
            raise MissingExtra("The caption report", "report", package)


@dataclass(frozen=True)
class _Seen:
    """What an image-text encoder says of the captions, or why it says nothing."""

    pictures: PictureVectors | Absent
    tower: TextTower | None
    scores: Scores | Absent
    grounding: Grounding | Absent


def _seen(store: Store, captions: Captions, options: ReportOptions, progress: Progress) -> _Seen:
    feature = grounding_feature(store, options.grounding, captions.source, captions.modality)
    if feature is None:
        why = Absent(absent=_NO_SPACE_OF_SOUNDS if captions.modality == "audio" else _NO_SPACE_OF_PICTURES)
        return _Seen(why, None, why, why)
    from mmfeat.extract.base import Encoder
    from mmfeat.extract.registry import load_method

    encoder = load_method(feature.spec)
    assert isinstance(encoder, Encoder), f"{feature.version} is a vector feature"
    pictures = picture_vectors(store, captions, feature, encoder, progress)
    if len(pictures.at) < 2:
        why = Absent(absent=f"Fewer than two items have a caption and a vector ({pictures.origin}).")
        return _Seen(why, None, why, why)
    tower = TextTower(_text_tower(encoder), progress)
    scores = score(captions, pictures, tower, options.seed)
    grounding = grounding_of(scores, f"{feature.spec.model} ({feature.version})", pictures.origin)
    return _Seen(pictures, tower, scores, grounding)


def _text_tower(encoder: Encoder) -> Callable[[Sequence[str]], np.ndarray]:
    """How texts are encoded into the space of the encoder's vectors: as a search by text does it."""
    query = encoder.query("text")
    return encoder.encode_texts if query is None else query.encode


def _subject(store: Store, captions: Captions, options: ReportOptions) -> Subject:
    spec = captions.spec
    return Subject(
        store=store.uri,
        version=captions.version.version,
        feature=spec.name,
        source=spec.source,
        kind=spec.kind,
        model=spec.model,
        prompt=f"{spec.prompt.name} {spec.prompt.version}" if spec.prompt else None,
        spec=spec.model_dump(mode="json", exclude_none=True),
        created=captions.version.created,
        reported=datetime.now(UTC),
        language=options.language,
        seed=options.seed,
        mmfeat=package_version("mmfeat"),
        stale=why_stale(captions.version, store.versions(), store.current()),
        medium="sound" if captions.modality == "audio" else "picture",
    )


def _coverage(captions: Captions) -> Coverage:
    counts = Counter(captions.status)
    alike: dict[tuple[str, str], list[int]] = defaultdict(list)
    for at, status in enumerate(captions.status):
        if status == FAILED:
            alike[captions.stages[at], kind_of(captions.reasons[at])].append(at)
    return Coverage(
        items=len(captions.ids),
        ok=counts[OK],
        missing=counts[MISSING],
        failed=counts[FAILED],
        absent=counts[ABSENT],
        failures=tuple(
            _failure(captions, stage, kind, items)
            for (stage, kind), items in sorted(alike.items(), key=lambda pair: -len(pair[1]))
        ),
    )


def _failure(captions: Captions, stage: str, kind: str, items: Sequence[int]) -> FailureReason:
    """Items that failed alike, by their reason in full where they share it."""
    reasons = {captions.reasons[at] for at in items}
    return FailureReason(
        stage=stage,
        reason=reasons.pop() if len(reasons) == 1 else kind,
        count=len(items),
        item_ids=tuple(captions.ids[at] for at in items[:_SHOWN_IDS]),
    )


def _lengths(captions: Captions) -> Lengths:
    facts = [captions.facts[at] for at in captions.ok]
    ends = [fact["finish_reason"] for fact in facts if fact.get("finish_reason")]
    tokens, prompt_tokens, seconds = (
        distribution([fact[name] for fact in facts if fact.get(name) is not None])
        for name in ("new_tokens", "prompt_tokens", "seconds")
    )
    return Lengths(
        words=distribution([len(words_of(captions.texts[at])) for at in captions.ok]),
        tokens=tokens,
        prompt_tokens=prompt_tokens,
        seconds=seconds,
        cut=ends.count("length"),
        finish_known=len(ends),
    )


def _items(captions: Captions, suspects: tuple[Suspects, ...], scores: Scores | Absent) -> tuple[Item, ...]:
    kinds: dict[str, list[str]] = defaultdict(list)
    for one in suspects:
        for item_id in one.item_ids:
            kinds[item_id].append(one.kind)
    rated = {} if isinstance(scores, Absent) else {at: row for row, at in enumerate(scores.at)}
    return tuple(
        _item(captions, at, tuple(kinds[captions.ids[at]]), scores, rated.get(at))
        for at in range(len(captions.ids))
    )


def _item(
    captions: Captions, at: int, kinds: tuple[str, ...], scores: Scores | Absent, row: int | None
) -> Item:
    facts = captions.facts[at]
    reason = ": ".join(part for part in (captions.stages[at], captions.reasons[at]) if part)
    rated = None if row is None or isinstance(scores, Absent) else scores
    return Item.model_validate(
        {
            "item_id": captions.ids[at],
            "title": captions.titles[at],
            "caption": captions.texts[at],
            "status": captions.status[at],
            "reason": reason,
            "suspects": kinds,
            "words": len(words_of(captions.texts[at])) if captions.status[at] == OK else None,
            "tokens": facts.get("new_tokens"),
            "seconds": facts.get("seconds"),
            "finish_reason": facts.get("finish_reason"),
            "grounding": None if rated is None else float(rated.own[row]),
            "best_frame": None if rated is None or rated.best is None else float(rated.best[row]),
            "rank": None if rated is None else int(rated.ranks[row]),
        }
    )


def _comparison(
    before: Captions | None,
    captions: Captions,
    suspects: tuple[Suspects, ...],
    seen: _Seen,
    rules: Rules,
    language: LanguageCheck | None,
    options: ReportOptions,
) -> Comparison | Absent:
    if before is None:
        return Absent(absent="This is the first version of these captions.")
    return compare(before, captions, suspects, seen.pictures, seen.tower, rules, language, options.seed)
