"""What is committed for one feature, item by item, against what the items hold now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.pipelines.planning import hashes
from mmfeat.pipelines.planning.contents import Part, split_stamps
from mmfeat.pipelines.planning.rules import by_other_rules
from mmfeat.pipelines.planning.several import lack_unread, reads_several
from mmfeat.schemas.featureset import FAILED, MISSING, OK
from mmfeat.schemas.ids import Places
from mmfeat.schemas.spec import FeatureSpec

#: Gives batches that together hold the named columns of every committed row of a feature.
Ledger = Callable[[Sequence[str]], Iterable[pa.RecordBatch]]

#: Tells of a stored text whether it is one that is not stored any more: see :meth:`Method.outdated`.
Outdated = Callable[[str], bool]

#: The stage of a failure that is that of a feature which is read.
UPSTREAM = "upstream"
#: A status as a number is its place here.
STATUSES = (OK, MISSING, FAILED)
IS_OK, IS_MISSING, IS_FAILED, NO_ROW = 0, 1, 2, -1


@dataclass(frozen=True)
class Moved:
    """Rows some of whose media have another stamp by now: the content that they were made from.

    Attributes:
        items: ``[m]``, positions in the catalog.
        parts: which inputs of the feature are media.
        moved: ``[m, parts]`` bool, whether the stamp is another.
        content: ``[m, parts, 4]`` uint64.
        rest_same: ``[m]`` bool, whether everything else that is read is the same.
    """

    items: np.ndarray
    parts: tuple[int, ...]
    moved: np.ndarray
    content: np.ndarray
    rest_same: np.ndarray

    def items_of(self, part: int) -> np.ndarray:
        """The items whose media of one input have another stamp."""
        return np.asarray(self.items[self.moved[:, self.parts.index(part)]])

    def same(self, parts: Sequence[Part]) -> np.ndarray:
        """``[m]`` bool: whether the content is the same, whatever the stamp."""
        same = self.rest_same.copy()
        for at, part in enumerate(self.parts):
            same &= ~self.moved[:, at] | parts[part].same(self.items, self.content[:, at])
        return same


@dataclass
class Column:
    """Per item, what is committed for one feature and what it will be after this run.

    Attributes:
        had_row: ``[n]`` bool.
        was_ok: ``[n]`` bool, whether that row holds a value.
        status: ``[n]`` int8, the place in ``STATUSES`` or ``NO_ROW``.
        same: ``[n]`` bool, whether the row was made from what the item holds now.
        work: ``[n]`` int32, the work item that computes the item's value, -1 for none.
        done: ``[n]`` bool, whether there is nothing to do.
        deferred: ``[n]`` bool, whether it waits for another feature's values; None if nothing does.
        rows: how many are committed, those of other items among them.
        moved: rows of media that are the same if the content is.
        other_rules: rows that were read by other rules than those of now: items and what the rows say.
        outdated_texts: items whose row holds a text that is not stored any more.
        unread: items whose row holds a value without pictures that could not be read.
    """

    had_row: np.ndarray
    was_ok: np.ndarray
    status: np.ndarray
    same: np.ndarray
    work: np.ndarray
    done: np.ndarray
    deferred: np.ndarray | None = None
    rows: int = 0
    moved: list[Moved] = field(default_factory=list)
    other_rules: list[tuple[np.ndarray, list[str | None]]] = field(default_factory=list)
    outdated_texts: list[np.ndarray] = field(default_factory=list)
    unread: list[np.ndarray] = field(default_factory=list)

    @classmethod
    def empty(cls, n: int) -> Column:
        """Of ``n`` items without a row."""
        had_row, was_ok, same, done = (np.zeros(n, dtype=bool) for _ in range(4))
        return cls(had_row, was_ok, np.full(n, NO_ROW, np.int8), same, np.full(n, -1, np.int32), done)

    def read(
        self,
        ledger: Ledger,
        places: Places,
        spec: FeatureSpec,
        parts: Sequence[Part],
        outdated: Outdated | None = None,
    ) -> None:
        """Take in the committed rows; media's content becomes known where a row's stamp is their own.

        Args:
            parts: the feature's inputs, in order.
            outdated: tells which texts are not stored any more.
        """
        more = ["stage"] if any(part.content.is_media for part in parts) else []
        more += ["text"] if outdated else []
        several = reads_several(spec)
        more += ["reason"] if several else []
        for batch in ledger(["item_id", "status", "content_hash", "stamp", "rules", *more]):
            self.rows += len(batch)
            items, rows = placed(batch, places)
            self.had_row[items] = True
            self.status[items] = pc.index_in(rows["status"], value_set=pa.array(STATUSES)).fill_null(NO_ROW)
            self.was_ok[items] = self.status[items] == IS_OK
            self._compare(items, rows, parts)
            others = by_other_rules(rows["rules"], spec)
            if others.any():
                self.other_rules.append((items[others], rows["rules"].filter(pa.array(others)).to_pylist()))
            if outdated and (wrong := texts_outdated(rows["text"], outdated)).any():
                self.outdated_texts.append(items[wrong])
            if several:
                self.unread.append(items[self.was_ok[items] & lack_unread(rows["reason"])])

    def _compare(self, items: np.ndarray, rows: pa.RecordBatch, parts: Sequence[Part]) -> None:
        """Whether rows were made from what their items hold now.

        A failed row without a content hash is of media that could not be read: its stamp alone is compared.
        Other rows without one lack something, or something that they read failed: where it is there now,
        they are out of date.
        """
        media = tuple(at for at, part in enumerate(parts) if part.content.is_media)
        whole, there = hashes.joint_from_hex(rows["content_hash"], len(parts))
        # [rows with a hash, parts, 4]
        content = whole.reshape(-1, len(parts), hashes.WORDS)
        rest_same = _unreadable(rows) if media else np.zeros(len(items), dtype=bool)
        rest_same[there] = True
        for at, part in enumerate(parts):
            if not part.content.is_media:
                rest_same[there] &= part.same(items[there], content[:, at])
        moved = np.zeros((len(items), len(media)), dtype=bool)
        # One stamp for each file, however many inputs read it.
        files = list(dict.fromkeys(parts[at].column for at in media))
        stamps = dict(zip(files, split_stamps(rows["stamp"], len(files)), strict=True))
        for column, at in enumerate(media):
            moved[:, column] = ~parts[at].same_stamp(items, stamps[parts[at].column])
            unmoved = there & ~moved[:, column]
            parts[at].content.learn(items[unmoved], content[unmoved[there], at])
        any_moved = moved.any(axis=1)
        self.same[items] = rest_same & ~any_moved
        if (again := there & any_moved).any():
            self.moved.append(
                Moved(items[again], media, moved[again], content[again[there]][:, media], rest_same[again])
            )

    def recognise(self, parts: Sequence[Part]) -> None:
        """Rows of media are the same, whatever the stamp, where the content is."""
        for moved in self.moved:
            self.same[moved.items[moved.same(parts)]] = True
        self.moved = []

    def counts(self) -> dict[str, int]:
        """Items with nothing to do, by status."""
        return {
            status: int(np.count_nonzero(self.done & (self.status == number)))
            for number, status in enumerate(STATUSES)
        }


def _unreadable(rows: pa.RecordBatch) -> np.ndarray:
    """``[n]`` bool: rows of media that could not be read or decoded."""
    failed = pc.and_(pc.equal(rows["status"], FAILED), pc.not_equal(rows["stage"], UPSTREAM))
    return np.asarray(failed.fill_null(False).to_numpy(zero_copy_only=False))


def texts_outdated(texts: pa.Array, outdated: Outdated) -> np.ndarray:
    """``[n]`` bool: which texts are not stored any more; none if there is no text."""
    return np.array([text is not None and outdated(text) for text in texts.to_pylist()], dtype=bool)


def placed(batch: pa.RecordBatch, places: Places) -> tuple[np.ndarray, pa.RecordBatch]:
    """A batch's rows of items of the catalog, and where in it these are."""
    items = places.of(batch.column("item_id"))
    known = items >= 0
    return items[known], batch if known.all() else batch.filter(pa.array(known))
