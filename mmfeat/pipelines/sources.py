"""What items' sources hold at present, as far as that is known without reading media."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mmfeat.extract.media.read import location_stamp, stamp_of
from mmfeat.schemas.catalog import TEXT_SOURCES
from mmfeat.schemas.spec import text_hash


@dataclass
class Source:
    """Per item, the present state of one source, arrays of objects but for ``present``.

    Attributes:
        present: whether the item has it.
        payload: a media location or a text.
        stamp: of a media file; empty for texts.
        content: SHA-256 where it is known without reading, else None.
    """

    present: np.ndarray
    payload: np.ndarray
    stamp: np.ndarray
    content: np.ndarray


@dataclass(frozen=True)
class Texts:
    """Per item, the texts that a feature reads beside its source.

    Attributes:
        present: whether the item has all of them.
        hashes: the joint hash of them.
    """

    present: np.ndarray
    hashes: np.ndarray


class Sources:
    """The sources of a catalog (CATALOG_SCHEMA), each looked at once."""

    def __init__(self, catalog: pa.Table) -> None:
        self.catalog = catalog
        self._known: dict[str, Source] = {}

    def of(self, name: str) -> Source:
        """The present state of one source; of media its stamp alone is looked up."""
        if name not in self._known:
            self._known[name] = self._look(name)
        return self._known[name]

    def texts(self, names: Sequence[str]) -> Texts | None:
        """The texts of these sources together; None for no name.

        A text of blanks is none: it says nothing that a prompt could use.
        """
        if not names:
            return None
        sources = [self.of(name) for name in names]
        rows = zip(*(source.payload for source in sources), strict=True)
        present = np.array([all(text and text.strip() for text in row) for row in rows], dtype=bool)
        hashes = np.full(len(present), "", dtype=object)
        found = zip(*(source.content[present] for source in sources), strict=True)
        hashes[present] = [joint_hash(*row) for row in found]
        return Texts(present, hashes)

    def _look(self, name: str) -> Source:
        payload = objects(self.catalog[name])
        present = np.array([p is not None for p in payload], dtype=bool)
        content = np.full(len(payload), None, dtype=object)
        stamp = np.full(len(payload), "", dtype=object)
        if name in TEXT_SOURCES:
            content[present] = [text_hash(p) for p in payload[present]]
        else:
            # A URL has no stamp that costs no request: its address stands for its content.
            stamp[present] = [stamp_of(p) or location_stamp(p) for p in payload[present]]
        return Source(present, payload, stamp, content)


def content_of(source: Source, texts: Texts | None, i: int) -> str | None:
    """The content hash of what a feature reads of item ``i``; None where its media is not read yet."""
    content: str | None = source.content[i]
    return content if content is None or texts is None else joint_hash(content, texts.hashes[i])


def joint_hash(*hashes: str) -> str:
    """Content hash of what is read together, such as media and then the item's texts."""
    return "+".join(hashes)


def split_hash(joint: str) -> tuple[str, str]:
    """The first of the hashes in a joint hash, and the joint hash of all others, empty where none are."""
    first, _, others = joint.partition("+")
    return first, others


def objects(column: pa.ChunkedArray) -> np.ndarray:
    """A column as an array of Python objects, None where it is null."""
    out = np.empty(len(column), dtype=object)
    out[:] = column.to_pylist()
    return out
