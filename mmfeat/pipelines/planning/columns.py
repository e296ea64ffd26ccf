"""What is committed for one feature, item by item, against what the items hold now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.pipelines.planning import hashes
from mmfeat.pipelines.planning.contents import Source, Texts
from mmfeat.schemas.featureset import FAILED, MISSING, OK
from mmfeat.schemas.ids import Places

#: Gives batches that together hold the named columns of every committed row of a feature.
Ledger = Callable[[Sequence[str]], Iterable[pa.RecordBatch]]

#: A status as a number is its place here.
STATUSES = (OK, MISSING, FAILED)
IS_OK, IS_MISSING, IS_FAILED, NO_ROW = 0, 1, 2, -1


@dataclass(frozen=True)
class Moved:
    """Rows of media whose stamp is another by now: the content that they were made from.

    Attributes:
        items: ``[m]``, positions in the catalog.
        content: ``[m, 4]`` uint64.
        same_texts: ``[m]`` bool, whether the texts read beside the media are the same.
    """

    items: np.ndarray
    content: np.ndarray
    same_texts: np.ndarray


@dataclass
class Column:
    """Per item, what is committed for one feature and what it will be after this run.

    Attributes:
        had_row: ``[n]`` bool.
        status: ``[n]`` int8, the place in ``STATUSES`` or ``NO_ROW``.
        same: ``[n]`` bool, whether the row was made from what the item holds now.
        unit: ``[n]`` int32, the unit that computes the item's value, -1 for none.
        done: ``[n]`` bool, whether there is nothing to do.
        rows: how many are committed, those of other items among them.
        moved: rows of media that are the same if the content is.
    """

    had_row: np.ndarray
    status: np.ndarray
    same: np.ndarray
    unit: np.ndarray
    done: np.ndarray
    rows: int = 0
    moved: list[Moved] = field(default_factory=list)

    @classmethod
    def empty(cls, n: int) -> Column:
        """Of ``n`` items without a row."""
        had_row, same, done = (np.zeros(n, dtype=bool) for _ in range(3))
        return cls(had_row, np.full(n, NO_ROW, np.int8), same, np.full(n, -1, np.int32), done)

    def read(self, ledger: Ledger, places: Places, source: Source, texts: Texts) -> None:
        """Take in the committed rows; a source's content becomes known where a row's stamp is its own."""
        for batch in ledger(["item_id", "status", "content_hash", "stamp"]):
            self.rows += len(batch)
            items, rows = placed(batch, places)
            self.had_row[items] = True
            self.status[items] = pc.index_in(rows["status"], value_set=pa.array(STATUSES)).fill_null(NO_ROW)
            content, there = hashes.from_hex(rows["content_hash"])
            same_texts = ~there
            same_texts[there] = _same_texts(rows["content_hash"].filter(pa.array(there)), items[there], texts)
            if source.file_stamps is None:
                self.same[items[there]] = _same_content(source, items[there], content)
            else:
                unmoved = same_stamp(source, items, rows["stamp"])
                self.same[items] = unmoved
                source.learn(items[there & unmoved], content[unmoved[there]])
                moved = ~unmoved[there]
                if moved.any():
                    at = items[there][moved]
                    self.moved.append(Moved(at, content[moved], same_texts[there][moved]))
            self.same[items] &= same_texts

    def recognise(self, source: Source) -> None:
        """Rows of media are the same, whatever the stamp, where the content is."""
        for moved in self.moved:
            same = moved.same_texts & _same_content(source, moved.items, moved.content)
            self.same[moved.items[same]] = True
        self.moved = []

    def settled(self, retry_failed: bool) -> np.ndarray:
        """``[n]`` bool: whether the row stands while the item stays the same."""
        return np.asarray((self.status == IS_OK) | ((self.status == IS_FAILED) & (not retry_failed)))

    def counts(self) -> dict[str, int]:
        """Items with nothing to do, by status."""
        return {
            status: int(np.count_nonzero(self.done & (self.status == number)))
            for number, status in enumerate(STATUSES)
        }


def placed(batch: pa.RecordBatch, places: Places) -> tuple[np.ndarray, pa.RecordBatch]:
    """A batch's rows of items of the catalog, and where in it these are."""
    items = places.of(batch.column("item_id"))
    known = items >= 0
    return items[known], batch if known.all() else batch.filter(pa.array(known))


def same_stamp(source: Source, items: np.ndarray, stamps: pa.Array) -> np.ndarray:
    """Whether ``items`` have media of these stamps now."""
    equal = pc.equal(source.stamps(items), stamps).fill_null(False).to_numpy(zero_copy_only=False)
    return np.asarray(equal & source.present[items])


def _same_content(source: Source, items: np.ndarray, content: np.ndarray) -> np.ndarray:
    return np.asarray(source.known[items] & hashes.same(source.content[items], content))


def _same_texts(joint: pa.Array, items: np.ndarray, texts: Texts) -> np.ndarray:
    """Whether the texts behind rows' joint hashes are those that the items hold now."""
    same = np.ones(len(items), dtype=bool)
    for part, source in enumerate(texts.sources, start=1):
        content, there = hashes.from_hex(joint, part)
        same[~there] = False
        same[there] &= _same_content(source, items[there], content)
    return same
