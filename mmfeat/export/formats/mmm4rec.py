"""MMM4Rec (https://github.com/AlwaysFHao/MMM4Rec)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from mmfeat.export import pickles
from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, Interactions, ItemMap
from mmfeat.export.files import write_json
from mmfeat.export.interactions import MIN_TO_SPLIT, refuse_short, refuse_timeless
from mmfeat.export.tensors import need_torch, read_tensor, write_array, write_tensor
from mmfeat.item_fields import lists_of
from mmfeat.schemas.errors import UsageError

_DAY = 86400


class Options(BaseModel):
    """MMM4Rec's options.

    Attributes:
        categories: the field of the catalog, a text or a list, that HM4SR predicts; nothing is written for
            HM4SR and ATHWE when empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    categories: str = ""


class MMM4Rec(Exporter):
    """Everything of a ``dataset_path``.

    ``text_feat.pth`` and ``image_feat.pth``: float32 tensors ``[items, dims]``; the model
    (``get_text_embedding``) puts a pad row before them, so row ``k - 1`` is item ``k``.
    ``item2id.jsonl`` (``[id, number]`` a line, from 1) and ``user2id.jsonl`` (from 0).
    ``train_seq.jsonl``, ``eval_seq.jsonl`` and ``test_seq.jsonl``: ``[user, [[item, seconds], ...]]`` a
    line, the last item the one to predict. By the project's own rule all but the last two
    interactions of a user are for training, as sequences of 2, 3, ... of them; all but the last for
    validation; all for testing.

    With ``categories=FIELD`` there is what the baselines HM4SR and ATHWE read besides: ``cat.pt``, int64
    ``[items + 1, categories]``, how often an item has each category, row = item number, row 0 zeros;
    ``max_interval.bin``, a pickled number, log2 of 1 more than the longest time between two of a user's
    interactions, in seconds; and ``date_range.bin``, a pickled pair, the first and the last day since 1970
    (``dataset/amazon-2018/preprocess/process_item.py:325-454``, ``model/hm4sr.py:78, 331-338``).
    ``categories.json`` names the columns of ``cat.pt``.
    """

    name = "mmm4rec"
    title = "MMM4Rec"
    systems = ("MMM4Rec", "the baselines in its repository")
    roles = (
        Role("text", media=("text",), what="text_embed_path"),
        Role("image", media=("image",), what="vision_embed_path: of covers or videos"),
    )
    interactions = "required"
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {"mask": "it has a row for every item and no mask"}
    id_base = 1
    options = Options

    def check(self, content: Content) -> None:
        """Every interaction has a time, and every user enough of them; categories are texts."""
        need_torch(self.name)
        assert content.interactions is not None, "interactions are required"
        refuse_timeless(content.interactions, self.title)
        refuse_short(content.interactions, MIN_TO_SPLIT, self.title)
        field = content.options.categories
        if field and not any(lists_of(content.fields, field)):
            raise UsageError(
                f"No item has anything in the field {field!r}, so there are no categories.",
                hint="Name another field, or leave --option categories=FIELD out.",
            )

    def write(self, out: Path, content: Content) -> None:
        """Tensors, maps and sequences."""
        inter = content.interactions
        assert inter is not None, "interactions are required"
        for role, rows in content.features.items():
            write_tensor(out / f"{role}_feat.pth", rows)
        _write_lines(out / "item2id.jsonl", (json.dumps([i, k]) for k, i in enumerate(content.ids, start=1)))
        _write_lines(out / "user2id.jsonl", (json.dumps([u, k]) for k, u in enumerate(inter.user_ids)))
        _write_lines(out / "train_seq.jsonl", _beginnings(inter))
        _write_lines(out / "eval_seq.jsonl", (_line(user, met[:-1]) for user, met in _histories(inter)))
        _write_lines(out / "test_seq.jsonl", (_line(user, met) for user, met in _histories(inter)))
        if content.options.categories:
            _write_for_hm4sr(out, inter, lists_of(content.fields, content.options.categories))

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = the number in ``item2id.jsonl`` - 1."""
        with (out / "item2id.jsonl").open(encoding="utf-8", newline="\n") as file:
            numbers = dict(json.loads(line) for line in file)
        for role in manifest["features"]:
            matrix = read_tensor(out / f"{role}_feat.pth")
            if len(matrix) != len(numbers):
                raise UsageError(f"{role}_feat.pth has {len(matrix):,} rows for {len(numbers):,} items.")
            for item_id, number in numbers.items():
                yield Entry(role, item_id, matrix[number - 1])


def _write_for_hm4sr(out: Path, inter: Interactions, categories: list[list[str]]) -> None:
    """Categories of the items, and how far apart and how wide the times are."""
    assert inter.timestamps is not None, "checked before"
    names = {name: k for k, name in enumerate(dict.fromkeys(name for own in categories for name in own))}
    counts = np.zeros((len(categories) + 1, len(names)), np.int64)
    for row, own in zip(counts[1:], categories, strict=True):
        np.add.at(row, [names[name] for name in own], 1)
    write_array(out / "cat.pt", counts)
    write_json(out / "categories.json", list(names))
    seconds = inter.timestamps // 1000
    between = np.diff(seconds)[np.diff(inter.users) == 0]
    pickles.write_plain(out / "max_interval.bin", math.log2(int(between.max()) + 1))
    pickles.write_plain(out / "date_range.bin", (int(seconds.min()) // _DAY, int(seconds.max()) // _DAY))


def _histories(inter: Interactions) -> Iterator[tuple[int, list[str]]]:
    """Every user's interactions as ``[item, seconds]`` in JSON, in time order."""
    assert inter.timestamps is not None, "checked before"
    start = 0
    for user, positions in inter.sequences():
        seconds = inter.timestamps[start : start + len(positions)] // 1000
        start += len(positions)
        yield user, [f"[{k + 1}, {t}]" for k, t in zip(positions.tolist(), seconds.tolist(), strict=True)]


def _beginnings(inter: Interactions) -> Iterator[str]:
    for user, met in _histories(inter):
        yield from (_line(user, met[:k]) for k in range(2, len(met) - 1))


def _line(user: int, met: list[str]) -> str:
    return f"[{user}, [{', '.join(met)}]]"


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
