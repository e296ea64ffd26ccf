"""From a store's vectors and interactions to verdicts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.evaluate.base import Measured, Progress, Protocol, Task
from mmfeat.evaluate.features import Feature, feature_of
from mmfeat.evaluate.fitted import fitted_note, held_out
from mmfeat.evaluate.leak import LeakCheck
from mmfeat.evaluate.log import log_of, told_apart
from mmfeat.evaluate.registry import PROTOCOLS
from mmfeat.evaluate.slices import slices_of
from mmfeat.evaluate.splits import split
from mmfeat.evaluate.statistics import Estimate
from mmfeat.evaluate.verdict import (
    Evaluation,
    FeatureVerdict,
    agreement_of,
    comparisons_of,
    estimated,
    findings_of,
    verdict_of,
    with_facts,
)
from mmfeat.schemas.errors import MissingExtra, UsageError
from mmfeat.schemas.evaluation import EvaluateConfig
from mmfeat.schemas.featureset import OK
from mmfeat.store import FeatureVersion, Place, Store

#: Below this nothing is near or far.
LEAST_ITEMS = 10
# Of no more than these a tenth and more are among the first 50.
_FEW_ITEMS = 500
_COMPARED = ("vector", "tokens", "codes")


def quiet(what: str) -> None:
    """Progress that is told to nobody."""


def evaluate(
    store: Store, config: EvaluateConfig, progress: Progress = quiet, place: Place | None = None
) -> Evaluation:
    """Hold features against the store's interactions, beside their controls.

    Items are those that have a value in all features that are named, so that every difference is one of the
    features. Stopped by Ctrl-C, it tells of the protocols that are finished.

    Args:
        place: of the dataset whose items and interactions they are; of all datasets when None.

    Raises:
        UsageError: there are no interactions, or too few, or of other items; or a feature holds texts, or
            there is none.
        MissingExtra: a package that a protocol needs is not installed.
    """
    began = time.monotonic()
    need_packages(config.protocols)
    versions = versions_of(store, config.features)
    ids, left_out, lacking = _shared_ids(store, versions, place)
    progress("reading interactions")
    interactions, unknown = _interactions(store, place)
    log = log_of(interactions, ids)
    if not len(log):
        raise UsageError(
            f"None of the {len(interactions):,} interactions is with one of the {len(ids):,} items that have "
            f"a value in all of {_listed(versions)}.",
            hint="Extract what is missing: `mmfeat status`.",
        )
    parts = split(log, config.split, config.seed)
    slices = slices_of(_rows_of(store, ids), parts.train.popularity)
    task = Task(log, parts, slices, config.seed, config.users, ids=config.ids)
    features = [_read(store, version, ids, progress) for version in versions]
    asked = judge(task, features, config.protocols, progress)
    return Evaluation(
        store=store.uri,
        split=config.split,
        held_out=parts.said,
        seed=config.seed,
        items=len(ids),
        left_out=left_out,
        users=log.n_users,
        interactions=len(log),
        judged=len(parts.judged),
        features=[
            with_facts(
                one,
                lacking[one.version],
                len(ids),
                fitted_note(store, version, ids, held_out(parts)),
            )
            for one, version in zip(asked.verdicts(), versions, strict=True)
        ],
        baselines=asked.baselines,
        comparisons=(made := comparisons_of(asked.measured, asked.protocols, config.seed)),
        agreement=agreement_of(made),
        notes=[*_notes(config, task, left_out, asked), *_notes_on_data(store, place, unknown)],
        interrupted=asked.interrupted,
        seconds=time.monotonic() - began,
    )


def need_packages(protocols: Sequence[str]) -> None:
    """Said before any work.

    Raises:
        UsageError: there is no such protocol.
        MissingExtra: a package of one of the protocols is not installed.
    """
    kinds = [PROTOCOLS.get(name) for name in protocols]
    for package in ("scipy", *(package for kind in kinds for package in kind.packages)):
        if find_spec(package) is None:
            raise MissingExtra("An evaluation", "evaluate", package)


def versions_of(store: Store, features: Sequence[str]) -> list[FeatureVersion]:
    """The versions meant; every current one of vectors or codes if none is named.

    Raises:
        UsageError: one holds texts, or there is none.
    """
    if features:
        return list({version.version: version for version in map(store.resolve, features)}.values())
    found = [
        version for version in map(store.resolve, sorted(store.current())) if version.spec.form in _COMPARED
    ]
    if not found:
        raise UsageError(
            f"{store.uri} holds no current feature of vectors or codes.",
            hint="`mmfeat status` lists all. Texts are evaluated through an encoder that reads them.",
        )
    return found


def judge(
    task: Task, features: Sequence[Feature], names: Sequence[str], progress: Progress = quiet
) -> Judging:
    """Ask protocols, by name, about features; stopped by Ctrl-C it has those that are finished."""
    asked = Judging(task, features, progress)
    with _until_stopped() as stopped:
        asked.all({name: PROTOCOLS.get(name) for name in names})
    asked.interrupted = bool(stopped)
    return asked


class Judging:
    """Protocols, cheapest first, and what they measured of each feature; only what is finished is kept."""

    def __init__(self, task: Task, features: Sequence[Feature], progress: Progress) -> None:
        self._task, self._features, self._progress = task, features, progress
        self.protocols: dict[str, Protocol] = {}
        self.measured: dict[str, dict[str, Measured]] = {feature.version: {} for feature in features}
        self.baselines: dict[str, dict[str, dict[str, Estimate]]] = {}
        self.interrupted = False
        self._leaks: dict[str, str] = {}
        #: Why there was no check for leaks; empty if there was.
        self.unchecked = "it was stopped"

    def all(self, kinds: Mapping[str, type[Protocol]]) -> None:
        """Ask them."""
        self._progress("looking for leaks")
        check = LeakCheck(self._task)
        self._leaks = {feature.version: check(feature) for feature in self._features}
        self.unchecked = check.unmade
        for name in sorted(kinds, key=lambda name: kinds[name].cost):
            self._ask(name, kinds[name])

    def _ask(self, name: str, kind: type[Protocol]) -> None:
        self._progress(f"{name}: {kind.title}")
        protocol = kind(self._task)
        measured = {}
        for feature in self._features:
            if feature.codes is None or kind.takes_codes:
                self._progress(f"{name}: {feature.version}")
                measured[feature.version] = protocol.judge(feature)
        self._progress(f"{name}: without a feature")
        baselines = protocol.baselines()
        # Only now: whoever stops it gets protocols that judged all features.
        self.baselines[name] = {key: estimated(v, self._task.seed) for key, v in baselines.items()}
        self.protocols[name] = protocol
        for version, one in measured.items():
            self.measured[version][name] = one

    def verdicts(self) -> list[FeatureVerdict]:
        """What is to be thought of every feature."""
        made = []
        for version, measured in self.measured.items():
            findings = findings_of(measured, self.protocols, self._task.seed)
            words, leak = verdict_of(findings, self.baselines), self._leaks.get(version, "")
            made.append(FeatureVerdict(version, f"{leak} {words}".lstrip(), findings, leak))
        return made


@contextmanager
def _until_stopped() -> Iterator[list[bool]]:
    """Ctrl-C ends the block and no more; it is told afterwards."""
    stopped: list[bool] = []
    try:
        yield stopped
    except KeyboardInterrupt:
        stopped.append(True)


def _interactions(store: Store, place: Place | None) -> tuple[pa.Table, str]:
    """Who took which items of the catalog, users told apart by their dataset; and how many interactions are
    left out as the catalog does not know their items, in words.

    Raises:
        UsageError: there are none.
    """
    tables = store.interactions_by_dataset()
    if place is not None:
        tables = {number: table for number, table in tables.items() if number == place.number}
    if not tables:
        raise UsageError(
            f"{store.uri} holds no interactions to hold features against.",
            hint="Give the dataset some: -o interactions=clicks.csv, or [dataset] interactions in a job.",
        )
    owned = store.owned()
    known, strange = {}, []
    for number, table in tables.items():
        own = owned.ids.filter(pa.array(owned.numbers == number))
        is_known = pc.is_in(table["item_id"], value_set=own)
        known[number] = table.filter(is_known)
        strange.append(table["item_id"].filter(pc.invert(is_known)))
    left_out, total = sum(map(len, strange)), sum(map(len, tables.values()))
    if not left_out:
        return told_apart(known), ""
    named = next(column for column in strange if len(column))[0]
    words = f"{total:,} interactions are with items that the catalog does not have, such as '{named}'"
    if left_out == total:
        raise UsageError(
            f"All {words}.",
            hint="Are they of this dataset, and are its items named by the same ids there?",
        )
    return told_apart(known), f"{left_out:,} of {words}, and are left out"


def _shared_ids(
    store: Store, versions: Sequence[FeatureVersion], place: Place | None
) -> tuple[list[str], int, dict[str, int]]:
    """Items that are there and have a value in all versions, in the catalog's order; how many lack one; and
    how many lack that of each version."""
    present = store.present_ids(place)
    kept, lacking = present, {}
    for version in versions:
        rows = store.ledger(version).select(["item_id", "status"])
        known = rows["item_id"].filter(pc.equal(rows["status"], OK))
        kept = kept.filter(pc.is_in(kept, value_set=known.combine_chunks()))
        has_value = pc.is_in(present, value_set=known.combine_chunks())
        lacking[version.version] = len(present) - (pc.sum(has_value).as_py() or 0)
    if len(kept) < LEAST_ITEMS:
        raise UsageError(
            f"Only {len(kept)} items have a value in all of {_listed(versions)}.",
            hint="Evaluate fewer features at once, or extract what is missing: `mmfeat status`.",
        )
    ids: list[str] = kept.to_pylist()
    return ids, len(present) - len(kept), lacking


def _listed(versions: Sequence[FeatureVersion]) -> str:
    return ", ".join(version.version for version in versions)


def _rows_of(store: Store, ids: Sequence[str]) -> pa.Table:
    items = store.present()
    return items.filter(pc.is_in(items["item_id"], value_set=pa.array(ids, pa.string())))


def _read(store: Store, version: FeatureVersion, ids: Sequence[str], progress: Progress) -> Feature:
    progress(f"reading {version.version}")
    return feature_of(version.version, store.lookup(ids, [version.version])[version.name])


def _notes(config: EvaluateConfig, task: Task, left_out: int, asked: Judging) -> list[str]:
    notes = []
    if left_out:
        notes.append(f"{left_out:,} items without a value in all features are left out")
    if asked.unchecked:
        notes.append(f"no check for leaks was made: {asked.unchecked}")
    if len(task.split.judged) > config.users:
        notes.append(
            f"{config.users:,} of {len(task.split.judged):,} users were drawn by seed {config.seed}, and as "
            "many query items at most; each is ranked against all items"
        )
    for name in config.protocols:
        if name not in asked.protocols:
            notes.append(f"{name} was not finished")
    if task.log.n_items <= _FEW_ITEMS:
        notes.append(
            f"of {task.log.n_items:,} items the first 50 or 100 are many: look at the probe and at ndcg@10"
        )
    if task.log.times is None:
        notes.append("some interactions have no time: the dataset's order is taken for it")
    return notes


def _notes_on_data(store: Store, place: Place | None, unknown: str) -> list[str]:
    notes = [unknown] if unknown else []
    if place is None and (datasets := len(store.datasets())) > 1:
        notes.append(
            f"the items of {datasets} datasets are ranked together; users of the same id in two datasets are "
            "two users"
        )
    return notes
