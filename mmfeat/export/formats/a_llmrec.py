"""A-LLMRec (https://github.com/ghdtjr/A-LLMRec)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmfeat.export import pickles
from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, ItemMap


class ALLMRec(Exporter):
    """``NAME_text_name_dict.json.gz`` and ``NAME.txt``, for A-LLMRec's ``data/amazon``.

    The first is, whatever its name says, a plain pickle: ``{"title": {id: text}, "description": {id:
    text}}``. Titles are the dataset's; the description is the exported text, such as a caption. A text
    that an item lacks is left out, for which A-LLMRec says "No Title" and "No Description".
    ``NAME.txt`` has a line ``user item`` per interaction, each user's in time order. Users and items
    count from 1.

    The rule is that of ``models/a_llmrec_model.py`` and ``pre_train/sasrec/utils.py``, which takes each
    user's last interaction for testing and the one before for validation.
    """

    name = "a-llmrec"
    title = "A-LLMRec"
    systems = ("A-LLMRec",)
    roles = (Role("description", kind="text", dtype=None, what="the item's description, such as a caption"),)
    interactions = "required"
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mask", "empty", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {
        "mean": "texts have no mean",
        "zero": "a text has no zero; say mask for none, or empty for a description without words",
    }
    id_base = 1
    user_base = 1

    def write(self, out: Path, content: Content) -> None:
        """Texts and interactions."""
        inter = content.interactions
        assert inter is not None, "interactions are required"
        descriptions = content.features["description"].texts()
        texts = {"title": _numbered(content.titles), "description": _numbered(descriptions)}
        pickles.write_plain(out / f"{content.name}_text_name_dict.json.gz", texts)
        np.savetxt(out / f"{content.name}.txt", np.column_stack([inter.users, inter.items]) + 1, fmt="%d")

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """By item number, from 1."""
        texts = pickles.read_plain(out / f"{manifest['name']}_text_name_dict.json.gz")
        for number, text in texts["description"].items():
            yield Entry("description", items.ids[number - 1], text)


def _numbered(texts: Iterable[str | None]) -> dict[int, str]:
    return {number: text for number, text in enumerate(texts, 1) if text is not None}
