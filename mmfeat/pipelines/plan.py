"""What is left to do: which (item, feature) pairs lack a committed row for their present content.

The plan is made from the catalog, cheap stamps of the media and the committed rows alone; no model
is loaded and no media decoded. Only files whose stamp changed, or that look like a copy of another
file, are read for their hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.pipelines.sources import Source, Sources, Texts, content_of, objects, split_hash
from mmfeat.pipelines.twins import hash_contents, likely_copies
from mmfeat.pipelines.units import Twin, Units
from mmfeat.schemas.catalog import MEDIA_SOURCES, STAMPS_SCHEMA, TEXT_SOURCES
from mmfeat.schemas.featureset import FAILED, MISSING, OK
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import FeatureSpec, text_hash


@dataclass(frozen=True)
class Known:
    """A row whose outcome needs no model: no such source, or nothing to read upstream."""

    feature: int
    item_id: str
    status: str
    stamp: str
    stage: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Copy:
    """A row whose content was computed before under another item id."""

    feature: int
    item_id: str
    donor: str
    stamp: str


@dataclass
class Plan:
    """The work of one run.

    Attributes:
        specs: the features in dependency order; "feature" below is an index into it.
        units: one row per distinct content to compute, UNITS_SCHEMA.
        own: per unit, the features that the unit's own item lacks.
        twins: per unit number, further items with the same content.
        known, copies: rows that need no model.
        touched: files whose stamp changed and whose content did not, STAMPS_SCHEMA.
        settled: per feature, how many items have nothing to do, by status.
        replaced: per feature, items whose committed row is out of date and will be replaced.
        n_items: items in the catalog.
    """

    specs: list[FeatureSpec]
    n_items: int
    units: pa.Table
    own: list[frozenset[int]]
    twins: dict[int, list[Twin]]
    known: list[Known]
    copies: list[Copy]
    touched: pa.Table
    settled: list[dict[str, int]]
    replaced: list[frozenset[str]]

    def up_to_date(self, feature: int) -> int:
        """Items with nothing to do for ``feature``."""
        return sum(self.settled[feature].values())

    def planned(self, feature: int) -> int:
        """Rows of ``feature`` that this run must commit."""
        return self.n_items - self.up_to_date(feature)


@dataclass
class _Column:
    """Per item, what is committed for one feature and what it will be after this run.

    A row's content hash is that of the source, ``content``, and of the ``texts`` read beside it.
    """

    had_row: np.ndarray
    status: np.ndarray
    content: np.ndarray
    texts: np.ndarray
    stamp: np.ndarray
    text: np.ndarray | None
    unit: np.ndarray
    done: np.ndarray


class Planner:
    """Makes a :class:`Plan`.

    Args:
        catalog: CATALOG_SCHEMA rows of the items to cover.
        specs: features in dependency order.
        ledgers: per feature, the committed ``item_id, status, content_hash, stamp`` (and ``text``).
        stamps: STAMPS_SCHEMA memo of files re-hashed to the same content.
        limits: no file above them is read for its hash.
        retry_failed: plan failed rows again.
        report: told how many files are being re-read, for a progress display.
    """

    def __init__(
        self,
        catalog: pa.Table,
        specs: Sequence[FeatureSpec],
        ledgers: Sequence[pa.Table],
        stamps: pa.Table,
        *,
        limits: MediaLimits,
        retry_failed: bool = False,
        report: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.catalog = catalog
        self.specs = list(specs)
        self.by_name = {spec.name: number for number, spec in enumerate(self.specs)}
        self.ledgers = list(ledgers)
        self.stamps = stamps
        self.limits = limits
        self.retry_failed = retry_failed
        self.report = report
        self.ids = catalog["item_id"].combine_chunks()
        self.columns = [self._column(number) for number in range(len(self.specs))]
        self.units = Units()
        self.sources = Sources(catalog)
        self.known: list[Known] = []
        self.copies: list[Copy] = []
        self.touched: list[tuple[str, str, str, str]] = []

    def plan(self) -> Plan:
        """Plan every feature: item sources first, then features that read features."""
        for source in (*MEDIA_SOURCES, *TEXT_SOURCES):
            if readers := [n for n, spec in enumerate(self.specs) if spec.source == source]:
                self._plan_source(source, readers)
        for number, spec in enumerate(self.specs):
            if spec.source in self.by_name:
                self._plan_derived(number, self.by_name[spec.source])
        return self._finished()

    def _column(self, number: int) -> _Column:
        rows = _aligned(self.ids, self.ledgers[number])
        n = len(self.ids)
        status = objects(rows["status"])
        content, texts = objects(rows["content_hash"]), np.full(n, "", dtype=object)
        if self.specs[number].texts:
            for i, joint in enumerate(content):
                if joint is not None:
                    content[i], texts[i] = split_hash(joint)
        return _Column(
            had_row=np.array([s is not None for s in status], dtype=bool),
            status=status,
            content=content,
            texts=texts,
            stamp=objects(rows["stamp"]),
            text=objects(rows["text"]) if "text" in rows.column_names else None,
            unit=np.full(n, -1, dtype=np.int64),
            done=np.zeros(n, dtype=bool),
        )

    def _plan_source(self, name: str, readers: list[int]) -> None:
        source = self.sources.of(name)
        if name in MEDIA_SOURCES:
            self._recognise_touched(name, source, readers)
        texts = {number: self.sources.texts(self.specs[number].texts) for number in readers}
        needed = {number: self._needed(number, source, texts[number]) for number in readers}
        wanted = np.logical_or.reduce(list(needed.values()))
        if name in MEDIA_SOURCES and wanted.any():
            self._recognise_copies(name, source, wanted, readers)
        self._compute_or_copy(name, source, texts, needed)

    def _recognise_touched(self, name: str, source: Source, readers: list[int]) -> None:
        """Fill in the content hash of files with a known stamp, or a changed one and a row."""
        memo = self.stamps.filter(pc.equal(self.stamps["source"], name)).drop_columns(["source"])
        known = _aligned(self.ids, memo)
        pairs = [(objects(known["stamp"]), objects(known["content_hash"]))]
        pairs += [(self.columns[n].stamp, self.columns[n].content) for n in readers]
        changed = np.zeros(len(source.stamp), dtype=bool)
        for stamp, content in pairs:
            same = source.present & (stamp == source.stamp)
            source.content[same] = np.where(content[same] == None, source.content[same], content[same])  # noqa: E711
            changed |= np.array([c is not None for c in content], dtype=bool)
        unknown = np.array([c is None for c in source.content], dtype=bool)
        again = np.flatnonzero(source.present & changed & unknown)
        if len(again):
            self.report(f"{len(again):,} changed {name} files: comparing their content")
            hashes = hash_contents(
                [source.payload[i] for i in again], self._max_bytes(name), self.limits.fetch
            )
            for i, found in zip(again.tolist(), hashes, strict=True):
                source.content[i] = found
                if found is not None:
                    self.touched.append((self.ids[i].as_py(), name, source.stamp[i], found))

    def _needed(self, number: int, source: Source, texts: Texts | None) -> np.ndarray:
        """Items whose row of this feature must be computed or copied; settles all others."""
        column = self.columns[number]
        known = np.array([c is not None for c in source.content], dtype=bool)
        # A file that could not be read has no hash: its unchanged stamp says it is still the same.
        same = (known & (column.content == source.content)) | (
            (source.stamp != "") & (column.stamp == source.stamp)
        )
        present = source.present
        if texts is not None:
            present = present & texts.present
            same &= (column.texts == texts.hashes) | (column.content == None)  # noqa: E711
        settled = (column.status == OK) | ((column.status == FAILED) & (not self.retry_failed))
        column.done = np.where(present, settled & same, column.status == MISSING).astype(bool)
        for i in np.flatnonzero(~present & ~column.done).tolist():
            self._settle(number, i, MISSING, stamp="")
        return np.asarray(present & ~column.done)

    def _recognise_copies(self, name: str, source: Source, wanted: np.ndarray, readers: list[int]) -> None:
        """Read and hash the wanted files that look like copies of each other or of known content."""
        rows = np.flatnonzero(wanted & np.array([c is None for c in source.content], dtype=bool))
        committed = {s for n in readers for s in self.columns[n].stamp[self.columns[n].status == OK]}
        locations = [source.payload[i] for i in rows]
        alike = likely_copies(locations, [source.stamp[i] for i in rows], committed)
        hashes = hash_contents([locations[j] for j in alike], self._max_bytes(name), self.limits.fetch)
        for j, content in zip(alike, hashes, strict=True):
            source.content[rows[j]] = content

    def _compute_or_copy(
        self,
        name: str,
        source: Source,
        texts: dict[int, Texts | None],
        needed: dict[int, np.ndarray],
    ) -> None:
        donors = {n: _donors(self.ledgers[n]) for n in needed}
        units: dict[str, int] = {}
        for i in np.flatnonzero(np.logical_or.reduce(list(needed.values()))).tolist():
            compute: dict[str | None, set[int]] = {}
            for n in needed:
                if needed[n][i]:
                    content = content_of(source, texts[n], i)
                    donor = donors[n].get(content) if content is not None else None
                    if donor is None:
                        compute.setdefault(content, set()).add(n)
                    else:
                        self._copy(n, i, donor, source.stamp[i])
            if compute:
                self._compute(name, i, source, compute, units)

    def _compute(
        self,
        name: str,
        i: int,
        source: Source,
        wanted: dict[str | None, set[int]],
        units: dict[str, int],
    ) -> None:
        """Compute features of item ``i``, by the content they read: as a twin of equal ones where there
        are any, and the others in one unit, which reads and decodes the item's media once.

        Args:
            units: content hash to the unit that computes it; added to.
        """
        item_id, stamp = self.ids[i].as_py(), source.stamp[i]
        rest: set[int] = set()
        for content, features in wanted.items():
            unit = units.get(content) if content is not None else None
            if unit is None:
                rest |= features
            else:
                self.units.add_twin(unit, item_id, stamp, features)
                self._mark(i, features, unit)
        if not rest:
            return
        names = sorted({text for n in rest for text in self.specs[n].texts})
        texts: dict[str, str] = {text: self.sources.of(text).payload[i] for text in names}
        unit = self.units.add(item_id, name, source.payload[i], stamp, texts, rest)
        self._mark(i, rest, unit)
        for content in (source.content[i], *wanted):
            if content is not None:
                units.setdefault(content, unit)

    def _mark(self, i: int, features: set[int], unit: int) -> None:
        for number in features:
            self.columns[number].unit[i] = unit

    def _plan_derived(self, number: int, upstream: int) -> None:
        """Plan a feature that reads another feature's text."""
        column, above = self.columns[number], self.columns[upstream]
        donors = _donors(self.ledgers[number])
        units: dict[str, int] = {}
        assert above.text is not None, "registry.resolve_all refuses vector sources"
        n = len(self.ids)
        source = Source(above.status == OK, above.text, np.full(n, "", object), np.full(n, None, object))
        for i in range(n):
            if (unit := int(above.unit[i])) >= 0:
                self.units.join(unit, self.ids[i].as_py(), number)
                self._mark(i, {number}, unit)
            elif source.present[i]:
                content = source.content[i] = text_hash(source.payload[i])
                settled = column.status[i] == OK or (column.status[i] == FAILED and not self.retry_failed)
                column.done[i] = settled and column.content[i] == content
                if column.done[i]:
                    continue
                if (donor := donors.get(content)) is not None:
                    self._copy(number, i, donor, "")
                else:
                    self._compute(self.specs[upstream].name, i, source, {content: {number}}, units)
            else:
                self._inherit(number, i, above)

    def _inherit(self, number: int, i: int, above: _Column) -> None:
        """Upstream has no text: missing stays missing, failed stays failed."""
        column = self.columns[number]
        status = str(above.status[i])
        column.done[i] = column.status[i] == status
        if column.done[i]:
            return
        if status == FAILED:
            reason = f"{self.specs[number].source} failed for this item"
            self._settle(number, i, FAILED, stamp="", stage="upstream", reason=reason)
        else:
            self._settle(number, i, MISSING, stamp="")

    def _settle(self, number: int, i: int, status: str, **row: str) -> None:
        self.known.append(Known(number, self.ids[i].as_py(), status, **row))
        self.columns[number].status[i] = status

    def _copy(self, number: int, i: int, donor: str, stamp: str) -> None:
        self.copies.append(Copy(number, self.ids[i].as_py(), donor, stamp))
        column = self.columns[number]
        column.status[i] = OK
        if column.text is not None:
            texts = self.ledgers[number]
            column.text[i] = texts["text"][pc.index(texts["item_id"], donor).as_py()].as_py()

    def _max_bytes(self, source: str) -> int:
        return self.limits.image_bytes if source == "cover" else self.limits.clip_bytes

    def _finished(self) -> Plan:
        units, own, twins = self.units.finished()
        return Plan(
            specs=self.specs,
            n_items=len(self.ids),
            units=units,
            own=own,
            twins=twins,
            known=self.known,
            copies=self.copies,
            touched=pa.Table.from_pylist(
                [dict(zip(STAMPS_SCHEMA.names, row, strict=True)) for row in self.touched],
                schema=STAMPS_SCHEMA,
            ),
            settled=[self._settled(column) for column in self.columns],
            replaced=[self._replaced(column) for column in self.columns],
        )

    def _settled(self, column: _Column) -> dict[str, int]:
        statuses = column.status[column.done]
        return {status: int((statuses == status).sum()) for status in (OK, MISSING, FAILED)}

    def _replaced(self, column: _Column) -> frozenset[str]:
        return frozenset(self.ids[int(i)].as_py() for i in np.flatnonzero(column.had_row & ~column.done))


def _aligned(ids: pa.Array, rows: pa.Table) -> pa.Table:
    """``rows`` in the order of ``ids``, null where an id has none."""
    return rows.take(pc.index_in(ids, value_set=rows["item_id"].combine_chunks()))


def _donors(ledger: pa.Table) -> dict[str, str]:
    """Content hash to an item that has an ``ok`` row computed from it."""
    ok = ledger.filter(pc.and_(pc.equal(ledger["status"], OK), pc.is_valid(ledger["content_hash"])))
    return dict(zip(_pylist(ok, "content_hash"), _pylist(ok, "item_id"), strict=True))


def _pylist(table: pa.Table, name: str) -> Iterable[str]:
    values: list[str] = table[name].to_pylist()
    return values
