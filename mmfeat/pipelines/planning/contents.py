"""What items hold at present in each column, as far as that is known without reading media."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract.media.read import location_stamp, stamp_of
from mmfeat.pipelines.planning import hashes
from mmfeat.pipelines.planning.several import joined_file_stamps, joined_places
from mmfeat.schemas.catalog import columns_of, joined_lists, texts_of
from mmfeat.schemas.ids import slices, whole
from mmfeat.schemas.inputs import column_of

#: Between the stamps of several files that are read together. No file stamp and no address holds it.
BETWEEN_STAMPS = "\x1e"


@dataclass
class Content:
    """Per item, the present state of one column, or of a feature's texts.

    ``n`` is the number of items in the catalog, an item its position there.

    Attributes:
        present: ``[n]`` bool, whether the item has it.
        payload: ``[n]``, a media location or a text; null if it is not present or not needed.
        file_stamps: of media, ``[n]`` the stamp of a local file, null if there is none; None for texts.
        content: ``[n, 4]`` uint64, the hash of the content where it is known; zeros elsewhere.
        known: ``[n]`` bool, where it is.
        blank: of a feature's texts, ``[n]`` bool, whether it is blanks alone; None of columns.
        several: whether each media location is several joined ones.
    """

    present: np.ndarray
    payload: pa.Array
    file_stamps: pa.LargeStringArray | None
    content: np.ndarray
    known: np.ndarray
    blank: np.ndarray | None = None
    several: bool = False

    @property
    def is_media(self) -> bool:
        """Whether its values are files."""
        return self.file_stamps is not None

    def with_words(self) -> np.ndarray:
        """``[n]`` bool: the items that have a text of more than blanks."""
        if self.blank is not None:
            return np.asarray(self.present & ~self.blank)
        return has_words(self.payload)

    def stamps(self, rows: np.ndarray) -> pa.StringArray:
        """The stamps of the items at ``rows``; empty for texts and where an item has no media."""
        if self.file_stamps is None:
            return pa.repeat("", len(rows))
        chosen = pa.array(rows)
        files = self.file_stamps.take(chosen).cast(pa.string())
        if not files.null_count:
            return files
        # A URL has no stamp that costs no request: its address stands for its content.
        locations = self.payload.take(chosen)
        if self.several:
            locations = joined_places(locations)
        else:
            locations = pc.binary_join_element_wise(location_stamp(""), locations, "")
        return pc.coalesce(files, locations, pa.scalar("", pa.string()))

    def learn(self, rows: np.ndarray, content: np.ndarray) -> None:
        """The content hashes of the items at ``rows`` are known from now on."""
        self.content[rows], self.known[rows] = content, True


@dataclass(frozen=True)
class Part:
    """One input of a feature: a content, and what the feature makes of its absence.

    Several inputs may be one column: a clip's frames and its sound.

    A content that an item may lack has the hash of zeros if it does.

    Attributes:
        column: the name of the column, or of the feature whose texts these are.
        optional: whether an item without it still has the feature.
        needs_words: whether a text of blanks counts as none, as one that a prompt names does, and every text
            of a feature.
    """

    column: str
    content: Content
    optional: bool = False
    needs_words: bool = False

    @property
    def key(self) -> tuple[str, bool]:
        """Inputs with the same key hold the same content for every item."""
        return self.column, self.optional

    def present(self) -> np.ndarray:
        """``[n]`` bool: the items that have it, or may lack it."""
        if self.optional:
            return np.ones(len(self.content.present), dtype=bool)
        return self.has_value()

    def has_value(self) -> np.ndarray:
        """``[n]`` bool: the items that have it."""
        return self.content.with_words() if self.needs_words else self.content.present

    def known(self, items: np.ndarray) -> np.ndarray:
        """Whether the content of each of ``items`` is known, that it is absent included."""
        known = self.content.known[items]
        return np.asarray(known | ~self.content.present[items]) if self.optional else known

    def hashes(self, items: np.ndarray) -> np.ndarray:
        """``[len(items), 4]`` uint64 of those whose content is known."""
        return np.asarray(self.content.content[items])

    def same(self, items: np.ndarray, content: np.ndarray) -> np.ndarray:
        """``[len(items)]`` bool: whether the content is known to be this."""
        return np.asarray(self.known(items) & hashes.same(self.hashes(items), content))

    def same_stamp(self, items: np.ndarray, stamps: pa.Array) -> np.ndarray:
        """``[len(items)]`` bool: whether the media have these stamps now, or are absent as they were."""
        equal = pc.equal(self.content.stamps(items), stamps).fill_null(False).to_numpy(zero_copy_only=False)
        return np.asarray(equal & (self.content.present[items] | self.optional))


class Contents:
    """The columns of a catalog, each looked at once."""

    def __init__(self, catalog: pa.Table) -> None:
        self.ids = whole(catalog["item_id"])
        self._columns = columns_of(catalog.schema)
        self._catalog = catalog
        self._known: dict[str, Content] = {}

    def of(self, name: str) -> Content:
        """The present state of one column; of media its stamp alone is looked up."""
        if name not in self._known:
            self._known[name] = self._look(name)
        return self._known[name]

    def modality(self, name: str) -> str:
        """The modality of a column."""
        return self._columns[column_of(name)[0]].modality

    def is_media(self, name: str) -> bool:
        """Whether a column's values are files; False of what is no column."""
        column, _ = column_of(name)
        return column in self._columns and self._columns[column].is_media

    def is_text(self, name: str) -> bool:
        """Whether a column's values are texts; False of what is no column."""
        return name in self._columns and not self._columns[name].is_media

    def stamps(self, names: Sequence[str], rows: np.ndarray) -> pa.StringArray:
        """The stamps of columns that are read together, of the items at ``rows``; empty if none is of
        media."""
        return joint_stamps([self.of(name).stamps(rows) for name in names], len(rows))

    def _look(self, name: str) -> Content:
        column, several = column_of(name)
        values = whole(self._catalog[column])
        if self._columns[column].several:
            values = self._of_lists(column, values, several)
        joined = pa.types.is_list(values.type)
        if self.is_media(name):
            payload = joined_lists(values) if joined else values
        else:
            payload = texts_of(values, self._columns[column])
        present = payload.is_valid().to_numpy(zero_copy_only=False)
        content, known = hashes.none_yet(len(payload)), np.zeros(len(payload), dtype=bool)
        if self.is_media(name):
            stamps = _file_stamps(values.flatten() if joined else values)
            stamps = joined_file_stamps(values, stamps) if joined else stamps
            return Content(present, payload, stamps, content, known, several=joined)
        found = Content(present, payload, None, content, known)
        for start, some in slices(payload):
            rows = start + np.flatnonzero(present[start : start + len(some)])
            found.learn(rows, hashes.of_texts(some.drop_null()))
        return found

    def _of_lists(self, column: str, values: pa.Array, several: int | None) -> pa.Array:
        """``[n]`` what is read of each list: all texts, or so many files; the first file alone is no list."""
        empty = pc.equal(pc.list_value_length(values), 0)
        values = pc.if_else(empty, pa.scalar(None, values.type), values)
        if several is not None:
            return pc.list_slice(values, 0, several)
        return pc.list_element(values, 0) if self._columns[column].is_media else values


def has_words(texts: pa.Array) -> np.ndarray:
    """``[n]`` bool: which of ``texts`` are more than blanks; not those that are null."""
    words = pc.utf8_trim_whitespace(texts)
    return np.asarray(pc.not_equal(words, "").fill_null(False).to_numpy(zero_copy_only=False))


def _file_stamps(locations: pa.Array) -> pa.LargeStringArray:
    stamps = [
        pa.array([p and stamp_of(p) for p in some.to_pylist()], pa.large_string())
        for _, some in slices(locations)
    ]
    return pa.concat_arrays(stamps) if stamps else pa.array([], pa.large_string())


def joint_hash(*hashes: str) -> str:
    """Content hash of what is read together, in the order of the inputs."""
    return "+".join(hashes)


def joint_stamps(stamps: Sequence[pa.Array], n: int) -> pa.StringArray:
    """The stamps of ``n`` items' media that are read together."""
    if len(stamps) == 1:
        return stamps[0]
    return pc.binary_join_element_wise(*stamps, BETWEEN_STAMPS) if stamps else pa.repeat("", n)


def split_stamps(stamps: pa.Array, parts: int) -> list[pa.Array]:
    """What :func:`joint_stamps` joined; null if it was not so many."""
    if parts <= 1:
        return [stamps] * parts
    split = pc.split_pattern(stamps, BETWEEN_STAMPS)
    fitting = pc.if_else(pc.equal(pc.list_value_length(split), parts), split, pa.scalar(None, split.type))
    return [pc.list_element(fitting, part) for part in range(parts)]
