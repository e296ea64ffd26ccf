"""A prefix trie of semantic ids, for decoding that gives nothing but items."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, ItemMap
from mmfeat.export.formats.tiger import Tiger

FILE = "trie.json"


class Trie(Exporter):
    """``trie.json``: ``levels``, and ``trie``, in which the keys below a prefix are the codes that may follow
    it. A decoder walks down from ``trie`` and allows the keys of the node that it has reached. What stands at
    the last level are the ids of the items with these codes: one, where there is a collision level.

    ``{"levels": 3, "trie": {"12": {"0": {"7": ["4", "11"]}, "3": {"1": ["9"]}}}}``
    """

    name = "trie"
    title = "Prefix trie"
    systems = ("constrained decoding",)
    roles = (Role("codes", kind="codes", dtype="int32", what="semantic ids"),)
    missing: ClassVar[tuple[Policy, ...]] = Tiger.missing
    refusals: ClassVar[Mapping[Policy, str]] = Tiger.refusals
    id_base = None

    def write(self, out: Path, content: Content) -> None:
        """Every prefix once."""
        matrix = np.concatenate(list(content.features["codes"].item_blocks()))
        trie: dict[str, Any] = {}
        for item_id, codes in zip(content.ids, matrix.tolist(), strict=True):
            node = trie
            for code in codes[:-1]:
                node = node.setdefault(str(code), {})
            node.setdefault(str(codes[-1]), []).append(item_id)
        text = json.dumps({"levels": matrix.shape[1], "trie": trie}, ensure_ascii=False)
        (out / FILE).write_text(text, encoding="utf-8")

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """The codes on the way down to each item."""
        read = json.loads((out / FILE).read_text(encoding="utf-8"))
        for codes, ids in _leaves(read["trie"], read["levels"]):
            for item_id in ids:
                yield Entry("codes", item_id, np.array(codes, np.int32))


def _leaves(node: Mapping[str, Any], levels: int) -> Iterator[tuple[list[int], list[str]]]:
    """The codes of every branch that is ``levels`` long, and what stands at its end."""
    for code, below in node.items():
        if levels == 1:
            yield [int(code)], below
        else:
            for codes, ids in _leaves(below, levels - 1):
                yield [int(code), *codes], ids
