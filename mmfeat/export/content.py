"""What an export format is given to write, and what it hands back when it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from mmfeat.item_fields import Values
from mmfeat.schemas.featureset import FeatureColumn, FeatureSet

# Rows per block: 4 MiB of 1024 float32; large enough for numpy to be quick, small beside a matrix.
BLOCK_ROWS = 1024


@dataclass(frozen=True)
class ExportInput:
    """What is exported: all that the export layer ever sees.

    Attributes:
        features: the features, in the order of the items.
        items: at least ``item_id``; ``title``, ``description`` and other fields where a target reads them.
        interactions: ``INTERACTIONS_SCHEMA``; times, ratings and events may be left out. None if there
            are none.
        dataset: name of the dataset, for the manifest.
        snapshot: name of the snapshot that was read, None for the current versions.
        gone: ids of items that are left out because the dataset has them no more.
        interactions_file: what the manifest says of the file that the interactions are from, where they
            are of one.
    """

    features: FeatureSet
    items: pa.Table
    interactions: pa.Table | None = None
    dataset: str = ""
    snapshot: str | None = None
    gone: Sequence[str] = ()
    interactions_file: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One item's value as a target reads it: an array, or a text."""

    role: str
    item_id: str
    value: np.ndarray | str


@dataclass(frozen=True)
class ItemMap:
    """An export's id map.

    Attributes:
        ids: item ids in row order.
        internal: the target's integer of each; None if it goes by the item's own id.
    """

    ids: list[str]
    internal: list[int] | None


@dataclass(frozen=True)
class Rows:
    """One feature's values for the exported items, made block by block.

    Attributes:
        column: the feature in the FeatureSet.
        index: ``[n]``, row of each exported item in ``column``.
        present: ``[n]`` bool, whether the item's row holds a value: its own, or a filled one.
        fill: value of the rows that had none, ``[dims]``, ``[m, dims]`` or a text; None leaves them out, as
            it does of any number of vectors.
        convert: the format's conversion of a block, see ``Exporter.converter``.
        pad_row: whether a row of zeros comes first.
    """

    column: FeatureColumn
    index: np.ndarray
    present: np.ndarray
    fill: np.ndarray | str | None
    convert: Any
    pad_row: bool = False

    @property
    def is_text(self) -> bool:
        """Whether the feature holds texts: then only :meth:`texts` can be read."""
        return self.column.spec.form == "text"

    @property
    def is_tokens(self) -> bool:
        """Whether the feature holds any number of vectors per item: then only :meth:`tokens` can be read."""
        return self.column.spec.form == "tokens"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the file's array, the pad row included."""
        return (len(self.index) + self.pad_row, *self._sample.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """What the target holds."""
        return self._sample.dtype

    def take(self, positions: np.ndarray) -> Rows:
        """The rows of the items at ``positions``, in that order."""
        return replace(self, index=self.index[positions], present=self.present[positions])

    def blocks(self) -> Iterator[np.ndarray]:
        """The file's array in blocks of rows, in order: pad row, then the items.

        Rows without a value are NaN, 0 for an integer dtype, or -1 for codes; :attr:`present` says which.
        """
        if self.pad_row:
            yield np.zeros((1, *self.shape[1:]), self.dtype)
        yield from self.item_blocks()

    def item_blocks(self) -> Iterator[np.ndarray]:
        """Like :meth:`blocks`, without the pad row."""
        for start in range(0, len(self.index), BLOCK_ROWS):
            yield self.block(start, start + BLOCK_ROWS)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Rows of the items ``start:stop`` as the target holds them."""
        index = self.index[start:stop]
        rows = self.column.matrix[index]
        if isinstance(self.fill, np.ndarray):
            gaps = ~self.column.mask[index]
            rows[gaps] = self.fill.astype(rows.dtype)
        return np.ascontiguousarray(self.convert(rows))

    def texts(self, start: int = 0, stop: int | None = None) -> Iterator[str | None]:
        """The texts of the items ``start:stop`` in order, None if there is none."""
        texts, own = self.column.texts, self.column.mask
        filled = self.fill if isinstance(self.fill, str) else None
        found = zip(self.index[start:stop], self.present[start:stop], strict=True)
        return ((texts[i] if own[i] else filled) if ok else None for i, ok in found)

    def tokens(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray | None]:
        """The ``[m, dims]`` of the items ``start:stop`` in order, None if there is none."""
        found = zip(self.index[start:stop], self.present[start:stop], strict=True)
        each = (self.column.tokens[i] if ok else None for i, ok in found)
        return (None if own is None else np.ascontiguousarray(self.convert(own)) for own in each)

    def offsets(self) -> np.ndarray:
        """int64 ``[n + 1]``: where each item's token vectors begin among those of all items."""
        counts = (0 if own is None else len(own) for own in self.tokens())
        return np.cumsum([0, *counts], dtype=np.int64)

    def token_blocks(self) -> Iterator[np.ndarray]:
        """The token vectors of all items, one item after the other: ``[m, dims]`` of each that has any."""
        return (own for own in self.tokens() if own is not None)

    def values(self) -> Iterator[tuple[int, np.ndarray | str]]:
        """``(position, value)`` of every item that has one."""
        if self.is_text or self.is_tokens:
            found: Iterator[np.ndarray | str | None] = self.texts() if self.is_text else self.tokens()
            yield from ((k, own) for k, own in enumerate(found) if own is not None)
            return
        position = 0
        for block in self.item_blocks():
            for row in block:
                if self.present[position]:
                    yield position, row
                position += 1

    @property
    def _sample(self) -> np.ndarray:
        if self.is_tokens:
            return np.asarray(
                self.convert(np.zeros((1, *self.column.spec.shape), self.column.spec.value_dtype))
            )
        return np.asarray(
            self.convert(np.zeros((1, *self.column.matrix.shape[1:]), self.column.matrix.dtype))
        )


@dataclass(frozen=True)
class Interactions:
    """Who met what, by position.

    Attributes:
        user_ids: raw user ids; a user's position is its row here, in order of first appearance.
        users, items: ``[m]`` int64 positions in ``user_ids`` and in the export's ids.
        timestamps: ``[m]`` int64 milliseconds since 1970-01-01 UTC; None if times are not known.
        labels: ``[m]`` int8, 0 train, 1 valid, 2 test; None if the target splits by itself.
        ratings: ``[m]`` float64; None if not every interaction has one.

    Rows are ordered by user position and, within a user, in time (in the dataset's own order where
    times are equal or not known).
    """

    user_ids: list[str]
    users: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray | None
    labels: np.ndarray | None = None
    ratings: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.users)

    def sequences(self) -> Iterator[tuple[int, np.ndarray]]:
        """``(user position, item positions in time order)`` of every user."""
        starts = np.searchsorted(self.users, np.arange(len(self.user_ids) + 1))
        for user in range(len(self.user_ids)):
            yield user, self.items[starts[user] : starts[user + 1]]

    def ordered(self) -> Interactions:
        """The same; where times are not known, places stand for them: 0 for each user's first, and so on."""
        if self.timestamps is not None:
            return self
        firsts = np.searchsorted(self.users, self.users)
        return replace(self, timestamps=np.arange(len(self)) - firsts)

    def ratings_or_ones(self) -> np.ndarray:
        """``[m]`` the ratings; 1.0 for each where not all are known: that there was an interaction."""
        return np.ones(len(self)) if self.ratings is None else self.ratings

    def part(self, label: int) -> Interactions:
        """The rows of one split, user positions unchanged."""
        assert self.labels is not None, "no split was made"
        keep = self.labels == label
        times, ratings = (None if of is None else of[keep] for of in (self.timestamps, self.ratings))
        return Interactions(
            self.user_ids, self.users[keep], self.items[keep], times, self.labels[keep], ratings
        )


@dataclass(frozen=True)
class Content:
    """What a format writes.

    Attributes:
        name: what the target will call the dataset: the name of the export's folder, which is
            where loaders look for ``NAME.inter`` and the like.
        ids: item ids in row order.
        features: role (or the feature's name, for a format without roles) to rows.
        titles, descriptions: per item, None if it has none.
        fields: a column of texts or numbers to the items' values in order, see
            :class:`~mmfeat.item_fields.Fields`.
        further: of a format that takes any features, the fields that were asked for as further columns, a
            row per item; None if none was.
        interactions: None if there are none or the target reads none.
        options: the format's validated options.
    """

    name: str
    ids: list[str]
    features: dict[str, Rows]
    titles: list[str | None]
    descriptions: list[str | None]
    interactions: Interactions | None
    options: Any
    fields: Mapping[str, Values] = field(default_factory=dict)
    further: pa.Table | None = None
