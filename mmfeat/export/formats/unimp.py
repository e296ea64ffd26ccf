"""UniMP (https://github.com/weitianxin/UniMP): a vision-language model that recommends."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmfeat.export import user_split
from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, ItemMap, Rows
from mmfeat.export.files import write_json
from mmfeat.export.interactions import refuse_fewer
from mmfeat.item_fields import values_of
from mmfeat.schemas.errors import UsageError

CODES = "id2semantic.json"
# `len_semanticid` of rec_dataset.py, the tokens of mmrec.py:564-571, and `history_len` of rec_dataset.py:138.
_LEVELS, _TOKENS, _LAST_TOKENS, _HISTORY = 4, 512, 32, 5
# What UniMP calls the parts.
_FILES = {"train": "train_users.json", "valid": "eval_users.json", "test": "test_users.json"}


class UniMP(Exporter):
    """A ``mmrec_path`` without its images: semantic ids, texts and users.

    ``id2semantic.json`` has ``"a,b,c,last"`` by item number, from 0. ``MMRecDataset``
    (``UniMP/pipeline/mm_utils/rec_dataset.py:417-419``) makes ``item_a``, ``item_b``, ``item_c`` and
    ``item_last_...`` of it. ``UniMP/mmrec.py:564-571`` adds 512 and 32 such tokens, and a code beyond them
    would be cut into letters, so it is refused.

    ``meta_all.json`` has ``category`` (the catalog's ``categories``, joined by spaces, as UniMP joins them),
    ``price``, ``brand`` and ``title``; an empty text is "Unknown" there (lines 308-316).
    ``train_users.json``, ``eval_users.json`` and ``test_users.json`` have a list of ``[item]`` by user, in
    time order. The split is by user, as in lines 234-242 of ``data/data_preprocess_multimodal_full.py``: 80,
    10 and 10 percent, drawn at random and always the same.
    """

    name = "unimp"
    title = "UniMP"
    systems = ("UniMP",)
    roles = (Role("codes", kind="codes", dtype="int32", what="id2semantic.json: 4 levels"),)
    interactions = "required"
    missing: ClassVar[tuple[Policy, ...]] = ("error", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {
        "mean": "codes are names, and names have no mean",
        "zero": "code 0 is a code like any other",
        "mask": "it looks every item of a history up",
    }
    user_base = None

    def check(self, content: Content) -> None:
        """Codes are within its tokens, and every user has a history and an item to predict."""
        assert content.interactions is not None, "interactions are required"
        _refuse_other_codes(content.features["codes"])
        user_split.refuse_few(content.interactions)
        refuse_fewer(
            content.interactions, _HISTORY + 1, f"UniMP predicts an item by the {_HISTORY} before it"
        )

    def write(self, out: Path, content: Content) -> None:
        """Codes, texts and users."""
        inter = content.interactions
        assert inter is not None, "interactions are required"
        codes = (row for block in content.features["codes"].blocks() for row in block.tolist())
        write_json(out / CODES, {str(k): ",".join(map(str, row)) for k, row in enumerate(codes)})
        write_json(out / "meta_all.json", {str(k): meta for k, meta in enumerate(_meta(content))})
        sequences = [[[item] for item in met.tolist()] for _, met in inter.sequences()]
        for part, users in user_split.draw(len(sequences)).items():
            write_json(out / _FILES[part], {inter.user_ids[user]: sequences[user] for user in users})

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """By item number."""
        for number, text in json.loads((out / CODES).read_text(encoding="utf-8")).items():
            yield Entry("codes", items.ids[int(number)], np.array(text.split(","), np.int32))


def _refuse_other_codes(rows: Rows) -> None:
    """UsageError for codes that UniMP has no tokens for."""
    version, levels = rows.column.spec.version, rows.shape[1]
    if levels != _LEVELS:
        raise UsageError(
            f"UniMP reads three codes per item and a last one that tells items apart, and {version} has"
            f" {levels}.",
            hint="Quantise with levels = 3 and collision_level = true.",
        )
    largest = np.max([block.max(axis=0) for block in rows.blocks()], axis=0)
    for level, (code, tokens) in enumerate(zip(largest, [_TOKENS] * 3 + [_LAST_TOKENS], strict=True)):
        if code >= tokens:
            raise UsageError(
                f"UniMP has {tokens} tokens for level {level + 1}, and {version} goes up to {int(code):,}.",
                hint=f"Quantise with codebook_size = {_TOKENS} or less; the larger it is, the fewer items"
                " share three codes and need the last level.",
            )


def _meta(content: Content) -> Iterator[dict[str, Any]]:
    """What UniMP knows of each item: empty texts for what is not known."""
    items = len(content.ids)
    names = ("categories", "price", "brand", "title")
    for categories, *known in zip(*(values_of(content.fields, name, items) for name in names), strict=True):
        category = " ".join(categories) if isinstance(categories, list) else categories
        price, brand, title = known
        meta = {"category": category, "price": price, "brand": brand, "title": title}
        yield {name: "" if value is None else value for name, value in meta.items()}
