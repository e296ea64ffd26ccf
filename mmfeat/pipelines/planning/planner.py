"""What is left to do: which (item, feature) pairs lack a committed row for their present content.

The plan is made from the catalog, cheap stamps of the media and the committed rows alone; no model
is loaded and no media decoded. Only files whose stamp changed, or that look like a copy of another
file, are read for their hash.

Items are planned as columns and not one by one: at a million items, a Python object for each would take
hundreds of megabytes. Committed rows are read in batches, of which only numbers are kept. Throughout, an
item is its position in the catalog, a feature its position in the specs, and ``[n]`` an array over items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract import modalities
from mmfeat.pipelines.planning import hashes, rules
from mmfeat.pipelines.planning.columns import (
    IS_FAILED,
    IS_MISSING,
    IS_OK,
    STATUSES,
    UPSTREAM,
    Column,
    Ledger,
    Outdated,
    placed,
)
from mmfeat.pipelines.planning.contents import Content, Contents, Part, has_words, split_stamps
from mmfeat.pipelines.planning.duplicates import hash_contents, likely_copies, sizes_of
from mmfeat.pipelines.planning.groups import groups_of, media_columns_of
from mmfeat.pipelines.planning.plan import COPIES_SCHEMA, KNOWN_SCHEMA, Plan
from mmfeat.pipelines.planning.reuse import find_reusable
from mmfeat.pipelines.planning.rules import since
from mmfeat.pipelines.planning.work import Work, taken
from mmfeat.schemas.catalog import STAMPS_SCHEMA
from mmfeat.schemas.featureset import OK
from mmfeat.schemas.ids import Places
from mmfeat.schemas.inputs import VECTOR, Input, column_of
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import FeatureSpec

#: What two inputs share that hold the same content for every item: see :attr:`Part.key`.
_Key = tuple[str, bool]


class Planner:
    """Makes a :class:`Plan`.

    Args:
        contents: of the items to cover; what is found of them while planning is added.
        specs: features in dependency order.
        ledgers: per feature, the committed rows: ``item_id, status, content_hash, stamp`` (and ``text``).
        stamps: STAMPS_SCHEMA memo of files re-hashed to the same content.
        limits: no file above them is read for its hash.
        retry_failed: plan failed rows again, and those that lack pictures which could not be read.
        outdated_texts: of features by number, what tells that a stored text is not stored any more.
        after: the plan before of the same run, over the same catalog. What it computed is not tried again.
        report: called with how many files are being re-read, for a progress display.
    """

    def __init__(
        self,
        contents: Contents,
        specs: Sequence[FeatureSpec],
        ledgers: Sequence[Ledger],
        stamps: pa.Table,
        *,
        limits: MediaLimits,
        retry_failed: bool = False,
        outdated_texts: Mapping[int, Outdated] = MappingProxyType({}),
        after: Plan | None = None,
        report: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.specs = list(specs)
        self.by_name = {spec.name: number for number, spec in enumerate(self.specs)}
        self.groups = groups_of(self.specs)
        self.ledgers = list(ledgers)
        self.stamps = stamps
        self.limits = limits
        self.retry_failed = retry_failed
        self.outdated_texts = outdated_texts
        self.after = after
        self.report = report
        self.contents = contents
        self.ids = self.contents.ids
        self.places = Places(self.ids)
        self.columns = [Column.empty(len(self.ids)) for _ in specs]
        self.work = Work(self.contents, self.specs)
        self.known: list[pa.Table] = []
        self.copies: list[pa.Table] = []
        self.copied_texts: dict[int, tuple[np.ndarray, pa.Array]] = {}
        self.touched: list[pa.Table] = []
        self.outdated = [0] * len(self.specs)
        self.replaced_texts = [0] * len(self.specs)
        self.unread = [0] * len(self.specs)
        self.confirmed = [_NONE] * len(self.specs)

    def plan(self) -> Plan:
        """Plan every feature: those of columns group by group, then those that read features."""
        base = [n for n, spec in enumerate(self.specs) if not self._upstreams(spec)]
        by_modality = sorted(base, key=lambda n: (not media_columns_of(self.specs[n]), n))
        for group in dict.fromkeys(self.groups[n] for n in by_modality):
            self._plan_group(group, [n for n in base if self.groups[n] == group])
        for number, spec in enumerate(self.specs):
            if self._upstreams(spec):
                self._plan_derived(number)
        return self._finished()

    def _upstreams(self, spec: FeatureSpec) -> dict[str, int]:
        """The features that a feature reads: name to number."""
        return {name: self.by_name[name] for name in spec.upstreams}

    def _plan_group(self, group: str, readers: list[int]) -> None:
        """Plan features that read columns alone and share their files."""
        parts = {n: [self._part(one) for one in self.specs[n].inputs] for n in readers}
        media = list(dict.fromkeys(c for n in readers for c in media_columns_of(self.specs[n])))
        remembered = {name: self._recall(name) for name in media}
        for n in readers:
            self._read_rows(n, parts[n])
        for name in media:
            self._recognise_touched(name, remembered[name], parts)
        for n in readers:
            self.columns[n].recognise(parts[n])
            self._judge_texts(n)
            self._judge_unread(n)
            self._judge_other_rules(n, parts[n])
        needed = {n: self._needed(n, _all_present(parts[n])) for n in readers}
        for name in media:
            of_column = [n for n in readers if name in media_columns_of(self.specs[n])]
            wanted = np.logical_or.reduce([needed[n] for n in of_column])
            if wanted.any():
                self._recognise_copies(name, wanted, of_column)
        self._compute_or_copy(group, parts, needed)

    def _read_rows(self, number: int, parts: Sequence[Part]) -> None:
        outdated = self.outdated_texts.get(number)
        self.columns[number].read(self.ledgers[number], self.places, self.specs[number], parts, outdated)

    def _part(self, read: Input) -> Part:
        """An input that is a column."""
        return Part(read.key, self.contents.of(read.key), read.optional, needs_words=read.named)

    def _recall(self, name: str) -> np.ndarray:
        """Learn the content of files by their remembered stamps; gives the items whose stamp is another."""
        memo = self.stamps.filter(pc.equal(self.stamps["source"], name)).combine_chunks()
        part, moved = Part(name, self.contents.of(name)), [_NONE]
        for batch in memo.to_batches():
            items, rows = placed(batch, self.places)
            content, there = hashes.from_hex(rows["content_hash"])
            same = part.same_stamp(items, rows["stamp"])
            part.content.learn(items[there & same], content[same[there]])
            moved.append(items[there & ~same])
        return np.concatenate(moved)

    def _recognise_touched(
        self, name: str, remembered: np.ndarray, parts: Mapping[int, Sequence[Part]]
    ) -> None:
        """Read files whose stamp is not that of any row: what changed, and what was only touched?

        Args:
            remembered: items whose remembered stamp is another now.
            parts: per feature that may read the column, its inputs.
        """
        content = self.contents.of(name)
        changed = np.zeros(len(self.ids), dtype=bool)
        changed[remembered] = True
        for number, read in parts.items():
            for at in (at for at, part in enumerate(read) if part.column == name):
                for moved in self.columns[number].moved:
                    changed[moved.items_of(at)] = True
        again = np.flatnonzero(content.present & changed & ~content.known)
        if len(again):
            self.report(f"{len(again):,} changed {name} files: comparing their content")
            found = self._read(name, again)
            self.touched.append(
                pa.table(
                    [
                        self.ids.take(pa.array(found)),
                        pa.repeat(name, len(found)),
                        content.stamps(found),
                        hashes.to_hex(content.content[found]),
                    ],
                    schema=STAMPS_SCHEMA,
                )
            )

    def _judge_texts(self, number: int) -> None:
        """Rows of the same content whose text is not stored any more are out of date."""
        column = self.columns[number]
        for items in column.outdated_texts:
            self.replaced_texts[number] += int(np.count_nonzero(column.same[items]))
            column.same[items] = False
        column.outdated_texts = []

    def _judge_unread(self, number: int) -> None:
        """Rows of the same content that lack pictures which could not be read are made again like failed
        ones."""
        column, again = self.columns[number], self._again(number)
        for items in column.unread:
            these = items[column.same[items] & again[items]]
            self.unread[number] += len(these)
            column.same[these] = False
        column.unread = []

    def _judge_other_rules(self, number: int, parts: Sequence[Part]) -> None:
        """Rows of the same content that were read by other rules: which of them a fix touches."""
        column, spec = self.columns[number], self.specs[number]
        for items, said_rules in column.other_rules:
            same = column.same[items] & self._stands(number)[items]
            some, said = (
                items[same],
                [rule for rule, is_same in zip(said_rules, same, strict=True) if is_same],
            )
            touched = np.zeros(len(some), dtype=bool)
            for at, (part, read) in enumerate(zip(parts, spec.inputs, strict=True)):
                before = np.array([since(rule, spec, at) for rule in said], dtype=np.int64)
                touched |= self._touched(part, read, some, before)
            column.same[some[touched]] = False
            self.outdated[number] += int(touched.sum())
            self.confirmed[number] = np.concatenate([self.confirmed[number], some[~touched]])
        column.other_rules = []

    def _touched(self, part: Part, read: Input, items: np.ndarray, before: np.ndarray) -> np.ndarray:
        """``[len(items)]`` bool: whether a fix touches one input.

        Args:
            before: ``[len(items)]``, by which rule each row read it.
        """
        touched = np.zeros(len(items), dtype=bool)
        if read.modality == VECTOR or not len(items):
            return touched
        modality = modalities.modality(read.modality)
        rows = np.flatnonzero((before != modality.rule) & part.content.present[items])
        values = part.content.payload.take(pa.array(items[rows])).to_pylist()
        if part.content.is_media:
            touched[rows] = rules.touched(values, before[rows].tolist(), read.modality, self.limits)
        else:
            touched[rows] = [
                value is None or modality.changed(value.encode(), rule)
                for value, rule in zip(values, before[rows].tolist(), strict=True)
            ]
        return touched

    def _read(self, name: str, items: np.ndarray) -> np.ndarray:
        """Learn the content of media by reading them; gives the items whose media could be read."""
        content, several = self.contents.of(name), column_of(name)[1] is not None
        most = modalities.media(self.contents.modality(name)).max_bytes(self.limits)
        read, there = hash_contents(
            content.payload.take(pa.array(items)), most, self.limits.fetch, several=several
        )
        content.learn(items[there], read)
        return np.asarray(items[there])

    def _needed(self, number: int, present: np.ndarray) -> np.ndarray:
        """``[n]`` bool: items whose row of this feature must be computed or copied; settles all others.

        Args:
            present: ``[n]`` bool, the items that have everything that the feature must have.
        """
        column = self.columns[number]
        column.done = np.where(present, self._stands(number) & column.same, column.status == IS_MISSING)
        self._settle(number, ~present & ~column.done, IS_MISSING)
        return np.asarray(present & ~column.done)

    def _recognise_copies(self, name: str, wanted: np.ndarray, readers: list[int]) -> None:
        """Read and hash the wanted files that look like copies of each other or of known content."""
        content = self.contents.of(name)
        rows = np.flatnonzero(wanted & content.present & ~content.known)
        sizes = sizes_of(content.stamps(rows))
        if sizes.any():
            beside = sizes_of(content.stamps(np.flatnonzero(wanted & content.present & content.known)))
            known = np.concatenate([self._stored_sizes(name, readers), beside])
            copies = likely_copies(content.payload, rows, sizes, known, several=content.several)
            self._read(name, rows[copies])

    def _stored_sizes(self, name: str, readers: list[int]) -> np.ndarray:
        """The sizes of a column's files that a feature has an ``ok`` row of."""
        sizes = [_NONE]
        for number in readers:
            files = media_columns_of(self.specs[number])
            for batch in self.ledgers[number](["status", "stamp"]):
                stamps = batch.column("stamp").filter(pc.equal(batch.column("status"), OK))
                of_column = split_stamps(stamps, len(files))[files.index(name)]
                sizes.append(np.unique(sizes_of(of_column.drop_null())))
        return np.unique(np.concatenate(sizes))

    def _compute_or_copy(
        self, group: str, parts: Mapping[int, Sequence[Part]], needed: Mapping[int, np.ndarray]
    ) -> None:
        """Give every needed value a row to copy, or the work item that computes its content.

        The first item with a content gets the work item of it, and others are its duplicates. Features that
        read the same inputs agree on which item that is, and all features of one item share its work item.

        Args:
            parts: per feature, its inputs.
            needed: per feature, ``[n]`` bool.
        """
        items = np.flatnonzero(np.logical_or.reduce(list(needed.values())))
        # All arrays below are over these items: first[k] is the position of the first of equal content.
        known: dict[_Key, np.ndarray] = {}
        first = {n: _first_of_parts(parts[n], items, known) for n in needed}
        wanted = {n: mask[items] for n, mask in needed.items()}
        for n in needed:
            wanted[n] &= ~self._copied(n, items, wanted[n], parts[n], first[n])
        alike: dict[tuple[_Key, ...], list[int]] = {}
        for n in needed:
            alike.setdefault(tuple(part.key for part in parts[n]), []).append(n)
        owners = np.zeros(len(items), dtype=bool)
        owner_of: dict[int, np.ndarray] = {}
        for numbers in alike.values():
            owner = _first_wanted(first[numbers[0]], [wanted[n] for n in numbers])
            owners[owner[owner >= 0]] = True
            owner_of |= dict.fromkeys(numbers, owner)
        work = np.full(len(items), -1, dtype=np.int32)
        work[owners] = self.work.of(group, items[owners])
        for n, mine in wanted.items():
            self.columns[n].work[items[mine]] = work[owner_of[n][mine]]

    def _copied(
        self, number: int, items: np.ndarray, wanted: np.ndarray, parts: Sequence[Part], first: np.ndarray
    ) -> np.ndarray:
        """``[len(items)]`` bool: which of ``items`` get a copy of a committed row; plans them.

        Args:
            wanted: ``[len(items)]`` bool, which lack the feature.
            first: ``[len(items)]``, which is the first with the same content.
        """
        copied = np.zeros(len(items), dtype=bool)
        known = np.logical_and.reduce([part.known(items) for part in parts])
        rows = np.flatnonzero(wanted & known)
        if not self.columns[number].rows or not len(rows):
            return copied
        distinct, asked = np.unique(first[rows], return_inverse=True)
        contents = np.hstack([part.hashes(items[distinct]) for part in parts])
        has_text = self.specs[number].form == "text"
        found = find_reusable(
            self.ledgers[number], contents, self.specs[number], self.outdated_texts.get(number)
        )
        origin = found.of[asked]
        copied[rows] = origin >= 0
        takers, origin = items[copied], pa.array(origin[origin >= 0])
        columns = [
            pa.array(np.full(len(takers), number, np.int32)),
            self.ids.take(pa.array(takers)),
            found.ids.take(origin),
            self.contents.stamps(media_columns_of(self.specs[number]), takers),
        ]
        self.copies.append(pa.table(columns, schema=COPIES_SCHEMA))
        self.columns[number].status[takers] = IS_OK
        if has_text:
            self.copied_texts[number] = (takers, found.texts.take(origin))
        return copied

    def _plan_derived(self, number: int) -> None:
        """Plan a feature that reads features' texts, and perhaps columns beside them.

        What this plan computes for an item itself is read where it is computed, in the same work item. A
        feature of one input also follows what is computed for another item with the same content; one of
        several inputs waits for a plan that finds it committed.
        """
        spec, column = self.specs[number], self.columns[number]
        upstreams = self._upstreams(spec)
        pending = {name: self.columns[above].work >= 0 for name, above in upstreams.items()}
        joined = np.logical_or.reduce(list(pending.values()))
        texts = {name: self._text_content(above) for name, above in upstreams.items()}
        parts = [
            Part(one.source, texts[one.source], one.optional, needs_words=True)
            if one.source in texts
            else self._part(one)
            for one in spec.inputs
        ]
        media = media_columns_of(spec)
        remembered = {name: self._recall(name) for name in media}
        self._read_rows(number, parts)
        for name in media:
            self._recognise_touched(name, remembered[name], {number: parts})
        column.recognise(parts)
        self._judge_texts(number)
        self._judge_unread(number)
        self._judge_other_rules(number, parts)
        lacking = self._inherit(number, parts, pending)
        self._join(number, joined & ~lacking, pending)
        there = ~joined & ~lacking
        column.done |= there & self._stands(number) & column.same
        needed = there & ~column.done
        if needed.any():
            for name in media:
                self._recognise_copies(name, needed, [number])
            self._read_upstream_texts(number, needed)
            self._compute_or_copy(self._group_beside(number), {number: parts}, {number: needed})

    def _text_content(self, above: int) -> Content:
        """The texts that a feature has, or is to get by a copy."""
        column, n = self.columns[above], len(self.ids)
        there = (column.work < 0) & (column.status == IS_OK) & _not_deferred(column)
        known, blank = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        found = Content(there, pa.nulls(n, pa.string()), None, hashes.none_yet(n), known, blank)
        for items, texts in self._written(above, there):
            found.learn(items, hashes.of_texts(texts))
            blank[items] = ~has_words(texts)
        return found

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
        """``[n]`` the text of each wanted item that has one, null for all others."""
        written = list(self._written(upstream, wanted & (self.columns[upstream].status == IS_OK)))
        place = np.full(len(self.ids), -1, dtype=np.int64)
        filled = np.concatenate([_NONE, *(items for items, _ in written)])
        place[filled] = np.arange(len(filled))
        texts = pa.chunked_array([texts for _, texts in written], pa.string()).combine_chunks()
        return texts.take(pa.array(place, mask=place < 0))

    def _inherit(self, number: int, parts: Sequence[Part], pending: Mapping[str, np.ndarray]) -> np.ndarray:
        """``[n]`` bool: items that lack something which the feature must have, or wait for what they read.

        What is missing makes the feature missing, whatever else failed; what failed upstream makes it
        failed, once it is clear that nothing is missing. Both are settled here.
        """
        column, n = self.columns[number], len(self.ids)
        missing, waiting, undecided = (np.zeros(n, dtype=bool) for _ in range(3))
        failed: dict[str, np.ndarray] = {}
        nothing = np.full(n, self.specs[number].needs_any)
        for part in parts:
            nothing &= ~part.has_value()
            if part.column not in pending:
                missing |= ~part.present()
                continue
            above = self.columns[self.by_name[part.column]]
            waits = ~_not_deferred(above)
            waiting |= waits
            nothing &= ~pending[part.column] & ~waits
            if not part.optional:
                absent = ~pending[part.column] & ~waits & ~part.present()
                failed[part.column] = absent & (above.status == IS_FAILED)
                missing |= absent & ~failed[part.column]
                undecided |= pending[part.column] | waits
        missing |= nothing
        column.done |= missing & (column.status == IS_MISSING)
        self._settle(number, missing & ~column.done, IS_MISSING)
        lacking = missing
        for name, of_upstream in failed.items():
            waiting |= of_upstream & undecided
            these = of_upstream & ~undecided & ~lacking
            column.done |= these & (column.status == IS_FAILED)
            reason = f"{name} failed for this item"
            self._settle(number, these & ~column.done, IS_FAILED, stage=UPSTREAM, reason=reason)
            lacking = lacking | these
        self._defer(number, waiting & ~lacking)
        return lacking | waiting

    def _join(self, number: int, joined: np.ndarray, pending: Mapping[str, np.ndarray]) -> None:
        """Read in the same work item what it computes; what others compute waits for the next plan.

        Args:
            joined: ``[n]`` bool, items of which something that is read is computed by this plan.
            pending: per feature that is read, ``[n]`` bool, where this plan computes it.
        """
        column, spec = self.columns[number], self.specs[number]
        upstreams = [(self.columns[self.by_name[name]].work, mask) for name, mask in pending.items()]
        if len(spec.inputs) == 1:
            column.work[joined] = upstreams[0][0][joined]
            return
        own = self.work.own(self._group_beside(number))
        here = joined & (own >= 0)
        for work, mask in upstreams:
            here &= ~mask | (work == own)
        column.work[here] = own[here]
        self._defer(number, joined & ~here)
        if here.any():
            self._read_upstream_texts(number, here)

    def _group_beside(self, number: int) -> str:
        """The group whose work items a feature joins: of the files behind it, or of what it reads."""
        spec = self.specs[number]
        if not media_columns_of(spec) and len(spec.inputs) > 1:
            for above in self._upstreams(spec).values():
                if media_columns_of(self.specs[above]):
                    return self.groups[above]
                if self._upstreams(self.specs[above]):
                    return self._group_beside(above)
        return self.groups[number]

    def _read_upstream_texts(self, number: int, items: np.ndarray) -> None:
        """Have a feature's work items carry the texts that are committed for ``[n]`` bool items."""
        for name, above in self._upstreams(self.specs[number]).items():
            texts = self._texts_of(above, items & (self.columns[above].work < 0))
            self.work.read_texts(self._group_beside(number), name, texts)

    def _defer(self, number: int, these: np.ndarray) -> None:
        if these.any():
            column = self.columns[number]
            column.deferred = these if column.deferred is None else column.deferred | these

    def _stands(self, number: int) -> np.ndarray:
        """``[n]`` bool: whether a feature's row stands while the item stays the same."""
        column = self.columns[number]
        stands = (column.status == IS_OK) | (column.status == IS_MISSING)
        return np.asarray(stands | ((column.status == IS_FAILED) & ~self._again(number)))

    def _again(self, number: int) -> np.ndarray:
        """``[n]`` bool: of which items a feature is tried again if it failed; never twice in a run."""
        if self.after is None or not self.retry_failed:
            return np.full(len(self.ids), self.retry_failed)
        waited = np.zeros(len(self.ids), dtype=bool)
        waited[self.after.deferred[number]] = True
        return waited

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
        work, own, duplicates = self.work.finished([column.work for column in self.columns])
        out_of_date = [
            np.flatnonzero(column.had_row & ~column.done & _not_deferred(column)) for column in self.columns
        ]
        return Plan(
            specs=self.specs,
            n_items=len(self.ids),
            work=work,
            own=own,
            duplicates=duplicates,
            known=pa.concat_tables([KNOWN_SCHEMA.empty_table(), *self.known]),
            copies=pa.concat_tables([COPIES_SCHEMA.empty_table(), *self.copies]),
            touched=pa.concat_tables([STAMPS_SCHEMA.empty_table(), *self.touched]),
            settled=[column.counts() for column in self.columns],
            replaced=[taken(self.ids, items) for items in out_of_date],
            valued=[
                taken(self.ids, items[column.was_ok[items]])
                for column, items in zip(self.columns, out_of_date, strict=True)
            ],
            outdated=self.outdated,
            replaced_texts=self.replaced_texts,
            unread=self.unread,
            confirmed=[taken(self.ids, items) for items in self.confirmed],
            deferred=[
                _NONE if column.deferred is None else np.flatnonzero(column.deferred)
                for column in self.columns
            ],
            rows=[column.rows for column in self.columns],
        )


_NONE = np.zeros(0, dtype=np.int64)


def _all_present(parts: Sequence[Part]) -> np.ndarray:
    """``[n]`` bool: the items that have everything that must be there; something, if nothing must."""
    if all(part.optional for part in parts):
        return np.asarray(np.logical_or.reduce([part.has_value() for part in parts]))
    return np.asarray(np.logical_and.reduce([part.present() for part in parts]))


def _not_deferred(column: Column) -> np.ndarray:
    """``[n]`` bool."""
    return np.ones(len(column.done), dtype=bool) if column.deferred is None else ~column.deferred


def _first_of_content(part: Part, items: np.ndarray) -> np.ndarray:
    """For each of ``items`` the position of the first with its content; its own where that is unknown."""
    first = np.arange(len(items))
    known = np.flatnonzero(part.known(items))
    first[known] = known[hashes.first_equal(part.hashes(items[known]))]
    return first


def _first_of_parts(parts: Sequence[Part], items: np.ndarray, known: dict[_Key, np.ndarray]) -> np.ndarray:
    """The same of everything that a feature reads together.

    Args:
        known: per kind of input, what :func:`_first_of_content` gave for these items; filled here.
    """
    for part in parts:
        if part.key not in known:
            known[part.key] = _first_of_content(part, items)
    if len(parts) == 1:
        return known[parts[0].key]
    # [len(items), parts]: items whose row of it is equal have equal content in every part.
    return hashes.first_equal(np.column_stack([known[part.key].astype(np.uint64) for part in parts]))


def _first_wanted(first: np.ndarray, wanted: Sequence[np.ndarray]) -> np.ndarray:
    """For each position the first of the same content that a feature is wanted of, -1 if none is.

    Args:
        first: for each position, the first of the same content.
    """
    found = np.full(len(first), -1, dtype=np.int64)
    rows = np.flatnonzero(np.logical_or.reduce(list(wanted)))[::-1]
    # Of several values for one place the last one stays: the first row's.
    found[first[rows]] = rows
    return np.asarray(found[first])
