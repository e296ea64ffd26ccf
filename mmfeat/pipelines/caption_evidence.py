"""Whether captions help to recommend: their vectors against the interactions, beside those of the captions
before and of titles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mmfeat.evaluate import Comparison, Evaluation, evaluate
from mmfeat.report.captions import Captions
from mmfeat.report.model import Absent, Evidence, EvidenceDifference, EvidenceFigure, Read
from mmfeat.report.pictures import Progress
from mmfeat.report.usefulness import (
    NO_TEXT_FEATURE,
    caption_reader,
    is_of_titles,
    reads,
    same_encoder,
    stale_feature,
)
from mmfeat.schemas.errors import MissingExtra, UsageError
from mmfeat.schemas.evaluation import EvaluateConfig
from mmfeat.store import FeatureVersion, Store


@dataclass(frozen=True)
class CaptionEvidence:
    """Asks the interactions about captions, by the protocols that train nothing.

    Args:
        seed: of everything that is drawn.
        progress: told when it begins.
    """

    store: Store
    seed: int
    progress: Progress

    def __call__(self, captions: Captions, earlier: FeatureVersion | None) -> Evidence | Absent:
        """What they say; or why they say nothing.

        Args:
            earlier: the captions to compare with; None if there are none.

        Raises:
            KeyboardInterrupt: it was stopped.
        """
        mine = caption_reader(self.store, captions)
        if mine is None:
            return Absent(absent=stale_feature(self.store, captions) or NO_TEXT_FEATURE)
        others = self._others(mine, earlier)
        known = {read: one for read, one in others.items() if isinstance(one, FeatureVersion)}
        versions: dict[Read, FeatureVersion] = {**known, "captions": mine}
        config = EvaluateConfig(features=tuple(one.version for one in versions.values()), seed=self.seed)
        self.progress("features held against the interactions", 0, len(versions))
        try:
            found = evaluate(self.store, config)
        except (UsageError, MissingExtra) as error:
            return Absent(absent=str(error))
        if found.interrupted:
            raise KeyboardInterrupt
        return _evidence(found, versions, tuple(why for why in others.values() if isinstance(why, str)))

    def _others(
        self, mine: FeatureVersion, earlier: FeatureVersion | None
    ) -> dict[Read, FeatureVersion | str]:
        """Versions whose vectors were made of other texts in the same way, or why there are none."""
        by = f"made as those of {mine.version}"
        if earlier is None:
            before: FeatureVersion | str = "There are no captions before these."
        else:
            of_earlier = [
                one
                for one in self.store.versions()
                if reads(one.spec, earlier) and same_encoder(one.spec, mine.spec)
            ]
            before = of_earlier[-1] if of_earlier else f"The store has no vectors of {earlier.version} {by}."
        current = map(self.store.resolve, sorted(self.store.current()))
        of_titles = next((one for one in current if is_of_titles(one.spec, mine.spec)), None)
        return {"before": before, "titles": of_titles or f"The store has no vectors of titles {by}."}


def _evidence(
    found: Evaluation, versions: Mapping[Read, FeatureVersion], missing: tuple[str, ...]
) -> Evidence:
    mine = versions["captions"].version
    read_by = {one.version: read for read, one in versions.items()}
    ours = [one for one in found.comparisons if one.second == mine]
    return Evidence(
        version=mine,
        verdict=found.of(mine).verdict,
        items=found.items,
        users=found.judged,
        held_out=found.held_out,
        figures=tuple(figure for read in versions for figure in _figures(found, read, versions[read])),
        differences=tuple(_difference(one, read_by[one.first]) for one in ours),
        agreement=tuple(words for words in found.agreement if mine in words),
        missing=missing,
        notes=tuple(found.notes),
    )


def _figures(found: Evaluation, read: Read, version: FeatureVersion) -> list[EvidenceFigure]:
    """The main metric of each protocol that could measure it."""
    return [
        EvidenceFigure(
            reads=read,
            version=version.version,
            protocol=protocol,
            metric=one.main,
            value=one.metrics[one.main].mean,
            low=one.metrics[one.main].low,
            high=one.metrics[one.main].high,
            shuffled=one.shuffled[one.main].mean,
            holds=one.holds,
        )
        for protocol, one in found.of(version.version).findings.items()
        if one.main in one.metrics
    ]


def _difference(one: Comparison, against: Read) -> EvidenceDifference:
    return EvidenceDifference.model_validate(
        {
            "against": against,
            "version": one.first,
            "protocol": one.protocol,
            "metric": one.metric,
            "difference": one.difference.mean,
            "low": one.difference.low,
            "high": one.difference.high,
            "p": one.p,
            "effect": one.difference.effect,
            "better": None if one.better is None else one.better == one.second,
        }
    )
