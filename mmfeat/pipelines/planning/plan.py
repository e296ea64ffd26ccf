"""What is left to do: which (item, feature) pairs lack a committed row for their present content.

The plan is made from the catalog, cheap stamps of the media and the committed rows alone; no model
is loaded and no media decoded. Only files whose stamp changed, or that look like a copy of another
file, are read for their hash.

Items are planned as columns and not one by one: at a million items, a Python object for each would take
hundreds of megabytes. Committed rows are read in batches, of which only numbers are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.pipelines.planning import hashes
from mmfeat.pipelines.planning.columns import (
    IS_FAILED,
    IS_MISSING,
    IS_OK,
    STATUSES,
    Column,
    Ledger,
    placed,
    same_stamp,
)
from mmfeat.pipelines.planning.contents import Source, Sources, Texts
from mmfeat.pipelines.planning.duplicates import hash_contents, likely_copies, sizes_of
from mmfeat.pipelines.planning.reuse import find_donors
from mmfeat.pipelines.planning.work import Units, taken
from mmfeat.schemas.catalog import MEDIA_SOURCES, STAMPS_SCHEMA, TEXT_SOURCES
from mmfeat.schemas.featureset import OK
from mmfeat.schemas.ids import Places
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import FeatureSpec

_FEATURE = pa.field("feature", pa.int32())

# Rows whose outcome needs no model: no such source, or nothing to read upstream.
KNOWN_SCHEMA = pa.schema(
    [_FEATURE, *(pa.field(name, pa.string()) for name in ("item_id", "status", "stage", "reason", "stamp"))]
)

# Rows whose content was computed before under another item id, the donor.
COPIES_SCHEMA = pa.schema(
    [_FEATURE, *(pa.field(name, pa.string()) for name in ("item_id", "donor", "stamp"))]
)


@dataclass
class Plan:
    """The work of one run.

    Attributes:
        specs: the features in dependency order; "feature" below is an index into it.
        n_items: items in the catalog.
        units: one row per distinct content to compute, UNITS_SCHEMA.
        own: ``[features, units]`` bool, what the unit's own item lacks.
        twins: further items with the content of a unit, TWINS_SCHEMA, in the order of the units.
        known, copies: rows that need no model, KNOWN_SCHEMA and COPIES_SCHEMA.
        touched: files whose stamp changed and whose content did not, STAMPS_SCHEMA.
        settled: per feature, how many items have nothing to do, by status.
        replaced: per feature, the ids of items whose committed row is out of date and will be replaced.
        rows: per feature, how many are committed before this run.
    """

    specs: list[FeatureSpec]
    n_items: int
    units: pa.Table
    own: np.ndarray
    twins: pa.Table
    known: pa.Table
    copies: pa.Table
    touched: pa.Table
    settled: list[dict[str, int]]
    replaced: list[pa.StringArray]
    rows: list[int]

    def up_to_date(self, feature: int) -> int:
        """Items with nothing to do for ``feature``."""
        return sum(self.settled[feature].values())

    def planned(self, feature: int) -> int:
        """Rows of ``feature`` that this run must commit."""
        return self.n_items - self.up_to_date(feature)


class Planner:
    """Makes a :class:`Plan`.

    Args:
        catalog: CATALOG_SCHEMA rows of the items to cover.
        specs: features in dependency order.
        ledgers: per feature, the committed rows: ``item_id, status, content_hash, stamp`` (and ``text``).
        stamps: STAMPS_SCHEMA memo of files re-hashed to the same content.
        limits: no file above them is read for its hash.
        retry_failed: plan failed rows again.
        report: told how many files are being re-read, for a progress display.
    """

    def __init__(
        self,
        catalog: pa.Table,
        specs: Sequence[FeatureSpec],
        ledgers: Sequence[Ledger],
        stamps: pa.Table,
        *,
        limits: MediaLimits,
        retry_failed: bool = False,
        report: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.specs = list(specs)
        self.by_name = {spec.name: number for number, spec in enumerate(self.specs)}
        self.ledgers = list(ledgers)
        self.stamps = stamps
        self.limits = limits
        self.retry_failed = retry_failed
        self.report = report
        self.sources = Sources(catalog)
        self.ids = self.sources.ids
        self.places = Places(self.ids)
        self.columns = [Column.empty(len(self.ids)) for _ in specs]
        self.units = Units(self.sources, self.specs)
        self.known: list[pa.Table] = []
        self.copies: list[pa.Table] = []
        self.copied_texts: dict[int, tuple[np.ndarray, pa.Array]] = {}
        self.touched: list[pa.Table] = []

    def plan(self) -> Plan:
        """Plan every feature: item sources first, then features that read features."""
        for source in (*MEDIA_SOURCES, *TEXT_SOURCES):
            if readers := [n for n, spec in enumerate(self.specs) if spec.source == source]:
                self._plan_source(source, readers)
        for number, spec in enumerate(self.specs):
            if spec.source in self.by_name:
                self._plan_derived(number, self.by_name[spec.source])
        return self._finished()

    def _plan_source(self, name: str, readers: list[int]) -> None:
        source = self.sources.of(name)
        texts = {number: self.sources.texts(self.specs[number].texts) for number in readers}
        remembered = self._recall(name, source) if name in MEDIA_SOURCES else _NONE
        for number in readers:
            self.columns[number].read(self.ledgers[number], self.places, source, texts[number])
        if name in MEDIA_SOURCES:
            self._recognise_touched(name, source, remembered, readers)
        needed = {number: self._needed(number, source.present & texts[number].present) for number in readers}
        wanted = np.logical_or.reduce(list(needed.values()))
        if name in MEDIA_SOURCES and wanted.any():
            self._recognise_copies(name, source, wanted, readers)
        self._compute_or_copy(name, source, texts, needed)

    def _recall(self, name: str, source: Source) -> np.ndarray:
        """Learn the content of files by their remembered stamps; gives the items whose stamp is another."""
        memo = self.stamps.filter(pc.equal(self.stamps["source"], name)).combine_chunks()
        moved = [_NONE]
        for batch in memo.to_batches():
            items, rows = placed(batch, self.places)
            content, there = hashes.from_hex(rows["content_hash"])
            same = same_stamp(source, items, rows["stamp"])
            source.learn(items[there & same], content[same[there]])
            moved.append(items[there & ~same])
        return np.concatenate(moved)

    def _recognise_touched(
        self, name: str, source: Source, remembered: np.ndarray, readers: list[int]
    ) -> None:
        """Read files whose stamp is not that of any row: what changed, and what was only touched?"""
        changed = np.zeros(len(self.ids), dtype=bool)
        changed[remembered] = True
        for number in readers:
            for moved in self.columns[number].moved:
                changed[moved.items] = True
        again = np.flatnonzero(source.present & changed & ~source.known)
        if len(again):
            self.report(f"{len(again):,} changed {name} files: comparing their content")
            found = self._read(name, source, again)
            self.touched.append(
                pa.table(
                    [
                        self.ids.take(pa.array(found)),
                        pa.repeat(name, len(found)),
                        source.stamps(found),
                        hashes.to_hex(source.content[found]),
                    ],
                    schema=STAMPS_SCHEMA,
                )
            )
        for number in readers:
            self.columns[number].recognise(source)

    def _read(self, name: str, source: Source, items: np.ndarray) -> np.ndarray:
        """Learn the content of media by reading them; gives the items whose media could be read."""
        most = self.limits.image_bytes if name == "cover" else self.limits.clip_bytes
        content, there = hash_contents(source.payload.take(pa.array(items)), most, self.limits.fetch)
        source.learn(items[there], content)
        return np.asarray(items[there])

    def _needed(self, number: int, present: np.ndarray) -> np.ndarray:
        """Items whose row of this feature must be computed or copied; settles all others."""
        column = self.columns[number]
        settled = column.settled(self.retry_failed)
        column.done = np.where(present, settled & column.same, column.status == IS_MISSING)
        self._settle(number, ~present & ~column.done, IS_MISSING)
        return np.asarray(present & ~column.done)

    def _recognise_copies(self, name: str, source: Source, wanted: np.ndarray, readers: list[int]) -> None:
        """Read and hash the wanted files that look like copies of each other or of known content."""
        rows = np.flatnonzero(wanted & ~source.known)
        sizes = sizes_of(source.stamps(rows))
        if sizes.any():
            stored = self._stored_sizes(readers)
            self._read(name, source, rows[likely_copies(source.payload, rows, sizes, stored)])

    def _stored_sizes(self, readers: list[int]) -> np.ndarray:
        """The sizes of files that a feature has an ``ok`` row of."""
        sizes = [_NONE]
        for number in readers:
            for batch in self.ledgers[number](["status", "stamp"]):
                stamps = batch.column("stamp").filter(pc.equal(batch.column("status"), OK))
                sizes.append(np.unique(sizes_of(stamps)))
        return np.unique(np.concatenate(sizes))

    def _compute_or_copy(
        self, name: str, source: Source, texts: dict[int, Texts], needed: dict[int, np.ndarray]
    ) -> None:
        """Give every needed value a donor, or the unit that computes its content."""
        items = np.flatnonzero(np.logical_or.reduce(list(needed.values())))
        media = _first_of_content(source, items)
        first = {n: _first_of_texts(media, items, texts[n]) for n in needed}
        wanted = {n: mask[items] for n, mask in needed.items()}
        for n in needed:
            wanted[n] &= ~self._copied(n, items, wanted[n], source, texts[n], first[n])
        self._compute(name, source, items, media, first, wanted)

    def _compute(
        self,
        name: str,
        source: Source,
        items: np.ndarray,
        media: np.ndarray,
        first: dict[int, np.ndarray],
        wanted: dict[int, np.ndarray],
    ) -> None:
        """Plan units: the first item with a content gets the unit of it, and others are its twins.

        Features that read texts too have more contents; those of one item share a unit, which decodes its
        media once.

        Args:
            media: for each of ``items``, which is the first with the same media.
            first: per feature, which is the first with the same media and texts.
            wanted: per feature, ``[len(items)]`` bool, which lack it.
        """
        owner: dict[tuple[str, ...], np.ndarray] = {(): _first_wanted(media, list(wanted.values()))}
        for names in {self.specs[n].texts for n in wanted} - {()}:
            same = [n for n in wanted if self.specs[n].texts == names]
            owner[names] = _first_wanted(first[same[0]], [wanted[n] for n in same])
        has_unit = np.zeros(len(items), dtype=bool)
        for found in owner.values():
            has_unit[found[found >= 0]] = True
        unit_of = np.full(len(items), -1, dtype=np.int32)
        unit_of[has_unit] = self.units.add(name, items[has_unit], taken(source.payload, items[has_unit]))
        for n, mine in wanted.items():
            self.columns[n].unit[items[mine]] = unit_of[owner[self.specs[n].texts][mine]]

    def _copied(
        self,
        number: int,
        items: np.ndarray,
        wanted: np.ndarray,
        source: Source,
        texts: Texts,
        first: np.ndarray,
    ) -> np.ndarray:
        """Which of ``items`` get the row of a donor; plans them.

        Args:
            wanted: ``[len(items)]`` bool, which lack the feature.
            first: for each of them, which is the first with the same content.
        """
        copied = np.zeros(len(items), dtype=bool)
        rows = np.flatnonzero(wanted & source.known[items])
        if not self.columns[number].rows or not len(rows):
            return copied
        distinct, asked = np.unique(first[rows], return_inverse=True)
        contents = np.hstack([part.content[items[distinct]] for part in (source, *texts.sources)])
        has_text = self.specs[number].output == "text"
        donors = find_donors(self.ledgers[number], contents, has_text)
        donor = donors.of[asked]
        copied[rows] = donor >= 0
        takers, donor = items[copied], pa.array(donor[donor >= 0])
        columns = [
            pa.array(np.full(len(takers), number, np.int32)),
            self.ids.take(pa.array(takers)),
            donors.ids.take(donor),
            source.stamps(takers),
        ]
        self.copies.append(pa.table(columns, schema=COPIES_SCHEMA))
        self.columns[number].status[takers] = IS_OK
        if has_text:
            self.copied_texts[number] = (takers, donors.texts.take(donor))
        return copied

    def _plan_derived(self, number: int, upstream: int) -> None:
        """Plan a feature that reads another feature's text."""
        assert self.specs[upstream].output == "text", "registry.resolve_all refuses vector sources"
        column, above, n = self.columns[number], self.columns[upstream], len(self.ids)
        joined = above.unit >= 0
        column.unit[joined] = above.unit[joined]
        there = ~joined & (above.status == IS_OK)
        source = Source(there, pa.nulls(n, pa.string()), None, hashes.none_yet(n), np.zeros(n, dtype=bool))
        for items, texts in self._written(upstream, there):
            source.learn(items, hashes.of_texts(texts))
        nothing_beside = self.sources.texts(())
        column.read(self.ledgers[number], self.places, source, nothing_beside)
        column.done = there & column.settled(self.retry_failed) & column.same
        self._inherit(number, above, ~there & ~joined)
        needed = there & ~column.done
        if needed.any():
            source = replace(source, payload=self._texts_of(upstream, needed))
            self._compute_or_copy(
                self.specs[upstream].name, source, {number: nothing_beside}, {number: needed}
            )

    def _written(self, upstream: int, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, pa.Array]]:
        """Items, and the texts that a feature has or is to get by a copy for them."""
        for batch in self.ledgers[upstream](["item_id", "text"]):
            items, rows = placed(batch, self.places)
            some = wanted[items] & self.columns[upstream].done[items]
            yield items[some], rows["text"].filter(pa.array(some))
        if upstream in self.copied_texts:
            items, texts = self.copied_texts[upstream]
            yield items[wanted[items]], texts.filter(pa.array(wanted[items]))

    def _texts_of(self, upstream: int, wanted: np.ndarray) -> pa.Array:
        """The text of each wanted item, null for all others."""
        written = list(self._written(upstream, wanted))
        place = np.full(len(self.ids), -1, dtype=np.int64)
        place[np.concatenate([items for items, _ in written])] = np.arange(np.count_nonzero(wanted))
        texts = pa.chunked_array([texts for _, texts in written], pa.string()).combine_chunks()
        return texts.take(pa.array(place, mask=place < 0))

    def _inherit(self, number: int, above: Column, textless: np.ndarray) -> None:
        """Upstream has no text: missing stays missing, failed stays failed."""
        column = self.columns[number]
        same = column.status == above.status
        column.done |= textless & same
        failed, missing = (textless & ~same & (above.status == status) for status in (IS_FAILED, IS_MISSING))
        reason = f"{self.specs[number].source} failed for this item"
        self._settle(number, failed, IS_FAILED, stage="upstream", reason=reason)
        self._settle(number, missing, IS_MISSING)

    def _settle(self, number: int, these: np.ndarray, status: int, stage: str = "", reason: str = "") -> None:
        items = np.flatnonzero(these)
        if len(items):
            columns = [
                pa.array(np.full(len(items), number, np.int32)),
                taken(self.ids, items),
                *(pa.repeat(value, len(items)) for value in (STATUSES[status], stage, reason, "")),
            ]
            self.known.append(pa.table(columns, schema=KNOWN_SCHEMA))
            self.columns[number].status[items] = status

    def _finished(self) -> Plan:
        units, own, twins = self.units.finished([column.unit for column in self.columns])
        replaced = [np.flatnonzero(column.had_row & ~column.done) for column in self.columns]
        return Plan(
            specs=self.specs,
            n_items=len(self.ids),
            units=units,
            own=own,
            twins=twins,
            known=pa.concat_tables([KNOWN_SCHEMA.empty_table(), *self.known]),
            copies=pa.concat_tables([COPIES_SCHEMA.empty_table(), *self.copies]),
            touched=pa.concat_tables([STAMPS_SCHEMA.empty_table(), *self.touched]),
            settled=[column.counts() for column in self.columns],
            replaced=[taken(self.ids, items) for items in replaced],
            rows=[column.rows for column in self.columns],
        )


_NONE = np.zeros(0, dtype=np.int64)


def _first_of_content(source: Source, items: np.ndarray) -> np.ndarray:
    """For each of ``items`` the position of the first with its content; its own where that is unknown."""
    first = np.arange(len(items))
    known = np.flatnonzero(source.known[items])
    first[known] = known[hashes.first_equal(source.content[items[known]])]
    return first


def _first_of_texts(media: np.ndarray, items: np.ndarray, texts: Texts) -> np.ndarray:
    """The same of content and texts together, where ``media`` is that of the content."""
    if not texts.sources:
        return media
    parts = [part.content[items] for part in texts.sources]
    return hashes.first_equal(np.column_stack([media.astype(np.uint64), *parts]))


def _first_wanted(first: np.ndarray, wanted: Sequence[np.ndarray]) -> np.ndarray:
    """For each position the first of the same content that a feature is wanted of, -1 where none is.

    Args:
        first: for each position, the first of the same content.
    """
    found = np.full(len(first), -1, dtype=np.int64)
    rows = np.flatnonzero(np.logical_or.reduce(list(wanted)))[::-1]
    # Of several values for one place the last one stays: the first row's.
    found[first[rows]] = rows
    return np.asarray(found[first])
