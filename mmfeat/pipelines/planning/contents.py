"""What items' sources hold at present, as far as that is known without reading media."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract.media.read import location_stamp, stamp_of
from mmfeat.pipelines.planning import hashes
from mmfeat.schemas.catalog import MEDIA_SOURCES, TEXT_SOURCES
from mmfeat.schemas.ids import slices, whole


@dataclass
class Source:
    """Per item, the present state of one source.

    Attributes:
        present: ``[n]`` bool, whether the item has it.
        payload: a media location or a text.
        file_stamps: of media, the stamp of a local file, null where there is none; None for texts.
        content: ``[n, 4]`` uint64, the hash of the content where it is known without reading.
        known: ``[n]`` bool, where it is.
    """

    present: np.ndarray
    payload: pa.Array
    file_stamps: pa.LargeStringArray | None
    content: np.ndarray
    known: np.ndarray

    def stamps(self, rows: np.ndarray) -> pa.StringArray:
        """The stamps of the items at ``rows``; empty for texts and where an item has no media."""
        if self.file_stamps is None:
            return pa.repeat("", len(rows))
        chosen = pa.array(rows)
        # A URL has no stamp that costs no request: its address stands for its content.
        locations = pc.binary_join_element_wise(location_stamp(""), self.payload.take(chosen), "")
        files = self.file_stamps.take(chosen).cast(pa.string())
        return pc.coalesce(files, locations, pa.scalar("", pa.string()))

    def learn(self, rows: np.ndarray, content: np.ndarray) -> None:
        """The content hashes of the items at ``rows`` are known from now on."""
        self.content[rows], self.known[rows] = content, True


@dataclass(frozen=True)
class Texts:
    """Per item, the texts that a feature reads beside its source.

    Attributes:
        present: ``[n]`` bool, whether the item has all of them.
        sources: of each of them.
    """

    present: np.ndarray
    sources: Sequence[Source]


class Sources:
    """The sources of a catalog (CATALOG_SCHEMA), each looked at once."""

    def __init__(self, catalog: pa.Table) -> None:
        self.ids = whole(catalog["item_id"])
        self._catalog = catalog
        self._known: dict[str, Source] = {}

    def of(self, name: str) -> Source:
        """The present state of one source; of media its stamp alone is looked up."""
        if name not in self._known:
            self._known[name] = self._look(name)
        return self._known[name]

    def stamps(self, name: str, rows: np.ndarray) -> pa.StringArray:
        """The stamps of a source of the items at ``rows``; empty for texts, those of a feature too."""
        return self.of(name).stamps(rows) if name in MEDIA_SOURCES else pa.repeat("", len(rows))

    def texts(self, names: Sequence[str]) -> Texts:
        """The texts of these sources together.

        A text of blanks is none: it says nothing that a prompt could use.
        """
        present = np.ones(len(self.ids), dtype=bool)
        for name in names:
            words = pc.utf8_trim_whitespace(self.of(name).payload)
            present &= pc.not_equal(words, "").fill_null(False).to_numpy(zero_copy_only=False)
        return Texts(present, [self.of(name) for name in names])

    def _look(self, name: str) -> Source:
        payload = whole(self._catalog[name])
        present = payload.is_valid().to_numpy(zero_copy_only=False)
        content, known = hashes.none_yet(len(payload)), np.zeros(len(payload), dtype=bool)
        if name not in TEXT_SOURCES:
            return Source(present, payload, _file_stamps(payload), content, known)
        source = Source(present, payload, None, content, known)
        for start, some in slices(payload):
            rows = start + np.flatnonzero(present[start : start + len(some)])
            source.learn(rows, hashes.of_texts(some.drop_null()))
        return source


def _file_stamps(locations: pa.Array) -> pa.LargeStringArray:
    stamps = [
        pa.array([p and stamp_of(p) for p in some.to_pylist()], pa.large_string())
        for _, some in slices(locations)
    ]
    return pa.concat_arrays(stamps) if stamps else pa.array([], pa.large_string())


def joint_hash(*hashes: str) -> str:
    """Content hash of what is read together, such as media and then the item's texts."""
    return "+".join(hashes)
