"""What an evaluation says: figures with their controls, differences that are real, and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from mmfeat.evaluate.base import Measured, Protocol, Values
from mmfeat.evaluate.statistics import (
    ALPHA,
    Difference,
    Estimate,
    Lift,
    difference,
    estimates,
    holm,
    lift,
    mean_of,
    relative_drop,
)
from mmfeat.schemas.notebook import ShortRepr, table


@dataclass(frozen=True)
class Finding:
    """What one protocol found of one feature.

    Attributes:
        main: the metric that tests and comparisons are about.
        cases: what a case is: ``users`` or ``query items``.
        metrics: of the feature.
        shuffled: of its rows at other items; random: of vectors or codes of the same shape that were drawn.
        lift: what the feature gives more than its shuffled rows, by the main metric.
        holds: whether that is more than chance gives, of all protocols that were asked (Holm); None if
            that was not tested.
        slices: the main metric by what kind of item was to be found.
    """

    main: str
    cases: str
    metrics: dict[str, Estimate]
    shuffled: dict[str, Estimate]
    random: dict[str, Estimate]
    lift: Lift
    holds: bool | None
    slices: dict[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class FeatureVerdict:
    """What is to be thought of one version.

    Attributes:
        version: ``name@fingerprint``.
        verdict: in words.
        findings: by protocol, those that it was judged by.
        leak: why it seems to know what was held out; empty if it does not.
        lacking: items without a value of it: nothing is said of these.
        fitted: how many held-out items it was fitted to, in words; empty if it was to none.
    """

    version: str
    verdict: str
    findings: dict[str, Finding]
    leak: str = ""
    lacking: int = 0
    fitted: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two versions by one protocol, on the same cases.

    Attributes:
        first, second: versions.
        difference: ``second - first`` by the main metric.
        p: of the difference where as many were tested, by Holm's rule.
        drop: the largest share that the second may have lost of what the first one has above chance.
    """

    first: str
    second: str
    protocol: str
    metric: str
    difference: Difference
    p: float
    drop: float

    @property
    def better(self) -> str | None:
        """The version that is better by more than chance; None if neither is."""
        if self.p >= ALPHA:
            return None
        return self.second if self.difference.mean > 0 else self.first


@dataclass(frozen=True, repr=False)
class Evaluation(ShortRepr):
    """What :func:`mmfeat.evaluate.evaluate` found.

    Attributes:
        split: its name; held_out: what it held out, in words.
        items: that have a value in all features that are compared; left_out: items that lack one.
        users, interactions: that took these items; judged: users with a history and something to find.
        baselines: by protocol and name, what is had without any feature.
        agreement: in words, where protocols prefer the same feature and where not.
        notes: what else a person should know.
        interrupted: whether it was stopped: what was not finished is left out.
    """

    store: str
    split: str
    held_out: str
    seed: int
    items: int
    left_out: int
    users: int
    interactions: int
    judged: int
    features: list[FeatureVerdict]
    baselines: dict[str, dict[str, dict[str, Estimate]]]
    comparisons: list[Comparison]
    agreement: list[str]
    notes: list[str]
    interrupted: bool = False
    seconds: float = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    def _repr_html_(self) -> str:
        """Per feature its main figures beside those of shuffled rows, and its verdict."""
        columns = ("protocol", "metric", "value", "interval", "shuffled", "more than chance")
        told = [
            table(one.version, columns, [_row(*found) for found in one.findings.items()], one.verdict)
            for one in self.features
        ]
        said = " ".join(f"{line.rstrip('.')}." for line in (*self.agreement, *self.notes))
        counts = [(self.items, self.users, self.interactions, self.judged, self.held_out)]
        of_all = ("items", "users", "interactions", "users judged", "held out")
        return "".join([table(f"Evaluation of {self.store}", of_all, counts, said), *told])

    def of(self, version: str) -> FeatureVerdict:
        """The verdict on a version."""
        return next(one for one in self.features if one.version == version)


def _row(protocol: str, found: Finding) -> tuple[str, ...]:
    """One protocol's main figure for a notebook's table."""
    if found.main not in found.metrics:
        return protocol, found.main, "could not be measured", "", "", ""
    own, shuffled = found.metrics[found.main], found.shuffled[found.main]
    chance = {True: "yes", False: "no", None: "not tested"}[found.holds]
    interval = f"[{own.low:.4f}, {own.high:.4f}]"
    return protocol, found.main, f"{own.mean:.4f}", interval, f"{shuffled.mean:.4f}", chance


def estimated(values: Values, seed: int) -> dict[str, Estimate]:
    """Every metric that has a value."""
    known = {name: one for name, one in values.items() if not np.isnan(one).all()}
    return dict(zip(known, estimates(list(known.values()), seed), strict=True)) if known else {}


def findings_of(
    measured: Mapping[str, Measured], protocols: Mapping[str, Protocol], seed: int
) -> dict[str, Finding]:
    """What the protocols found of one feature, each judged knowing that there are others."""
    lifts = {}
    for name, one in measured.items():
        main = protocols[name].main
        lifts[name] = lift(one.own[main][one.sample], [s[main] for s in one.shuffled], seed, one.chance)
    tested = {name: one.p for name, one in lifts.items() if one.p is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    found = {}
    for name, one in measured.items():
        protocol = protocols[name]
        means = {metric: mean_of([s[metric] for s in one.shuffled]) for metric in one.own}
        found[name] = Finding(
            main=protocol.main,
            cases=protocol.cases,
            metrics=estimated(one.own, seed),
            shuffled=estimated(means, seed),
            random=estimated(one.random, seed),
            lift=lifts[name],
            holds=adjusted[name] < ALPHA if name in adjusted else None,
            slices={key: estimates([values], seed)[0] for key, values in one.slices.items()},
        )
    return found


def verdict_of(
    findings: Mapping[str, Finding], baselines: Mapping[str, Mapping[str, Mapping[str, Estimate]]]
) -> str:
    """One feature's findings in words: what it knows, by how much, and what is had without it."""
    if not findings:
        return "No protocol judged it."
    knows = [name for name, one in findings.items() if one.holds]
    silent = [name for name, one in findings.items() if one.holds is False]
    if knows:
        words = f"It tells something of taste by {_listed(knows)}" + (
            f", and nothing by {_listed(silent)}." if silent else "."
        )
    elif silent:
        words = "It tells no more of taste than its own rows at other items."
    else:
        words = "Whether it knows taste was not tested."
    return " ".join([words, *(_told(name, one, baselines.get(name, {})) for name, one in findings.items())])


def with_facts(verdict: FeatureVerdict, lacking: int, judged: int, fitted: str) -> FeatureVerdict:
    """The verdict with how many items it says nothing of, and what it was fitted to."""
    words = [verdict.verdict]
    if lacking:
        words.append(f"It has no value for {lacking:,} items, and is judged by {judged:,} others.")
    if fitted:
        words.append(fitted)
    return replace(verdict, verdict=" ".join(words), lacking=lacking, fitted=fitted)


def _told(name: str, one: Finding, baselines: Mapping[str, Mapping[str, Estimate]]) -> str:
    if one.main not in one.metrics:
        return f"{name} could not be measured."
    own, shuffled = one.metrics[one.main], one.shuffled[one.main]
    words = f"{name}: {one.main} {own.mean:.4f} [{own.low:.4f}, {own.high:.4f}], {shuffled.mean:.4f} shuffled"
    if one.lift.untested:
        words += f", not tested: {one.lift.untested}"
    if one.lift.ratio is not None and one.main != "auc":
        words += f" ({one.lift.ratio:.1f} times that)"
    beside = [
        f"{base} has {values[one.main].mean:.4f}" for base, values in baselines.items() if one.main in values
    ]
    return words + (f"; {', '.join(beside)}." if beside else ".")


def comparisons_of(
    measured: Mapping[str, Mapping[str, Measured]], protocols: Mapping[str, Protocol], seed: int
) -> list[Comparison]:
    """Every pair of features by every protocol that judged both.

    Args:
        measured: by version and protocol.
    """
    found = []
    for first, second in combinations(measured, 2):
        for name in [p for p in measured[first] if p in measured[second]]:
            main = protocols[name].main
            a, b = measured[first][name].own[main], measured[second][name].own[main]
            made = difference(a, b, seed)
            drop = relative_drop(a - protocols[name].chance, b - protocols[name].chance, seed)
            found.append(Comparison(first, second, name, main, made, made.p, drop))
    adjusted = holm([one.difference.p for one in found])
    return [
        Comparison(c.first, c.second, c.protocol, c.metric, c.difference, p, c.drop)
        for c, p in zip(found, adjusted, strict=True)
    ]


def agreement_of(comparisons: Sequence[Comparison]) -> list[str]:
    """Of every pair of features which protocols prefer which, in words."""
    words = []
    for pair in dict.fromkeys((c.first, c.second) for c in comparisons):
        mine = [c for c in comparisons if (c.first, c.second) == pair]
        prefer = {one: [c.protocol for c in mine if c.better == one] for one in pair}
        undecided = [c.protocol for c in mine if c.better is None]
        parts = [
            f"{_listed(names)} prefer{'s' * (len(names) == 1)} {one}"
            for one, names in prefer.items()
            if names
        ]
        if undecided:
            parts.append(f"{_listed(undecided)} find{'s' * (len(undecided) == 1)} no difference")
        disagree = "The protocols disagree: " if all(prefer.values()) else ""
        words.append(f"{pair[0]} and {pair[1]}: {disagree}{', '.join(parts)}.")
    return words


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
