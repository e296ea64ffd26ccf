"""RecBole (https://recbole.io): item vectors as pretrained embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, Interactions, ItemMap
from mmfeat.export.files import write_plain_table, write_table, write_yaml
from mmfeat.export.ids import NUMBER_THEM, PANDAS_NULLS, IdOptions, breaks_lines, raw_id, refuse_ids
from mmfeat.schemas.errors import UsageError

_PARTS = ("train", "valid", "test")
# The columns of the other files: one field is read from one file.
_TAKEN = ("user_id", "item_id", "timestamp", "rating", "iid", "item_emb")


class RecBole(Exporter):
    """``NAME.itememb``, ``NAME.inter`` and ``NAME.yaml``, for ``data_path`` = the parent folder.

    ``NAME.itememb`` has ``iid:token`` and ``item_emb:float_seq``; the configuration makes ``iid``
    an alias of ``item_id`` and the vectors its preloaded weight. Timestamps are in milliseconds; where
    times are not known, the place of an interaction among its user's stands for its time. Where all
    interactions have a rating, it is there as ``rating:float``. RecBole splits
    by itself (``eval_args``); with ``--split`` there are ``NAME.train.inter``, ``NAME.valid.inter`` and
    ``NAME.test.inter`` instead, as ``benchmark_filename``. In such files RecBole's sequential models want
    histories, which only the format ``unisrec`` writes; without ``--split`` they build them, and leave one
    out.

    Fields that ``--fields`` names are in ``NAME.item``: a text is one ``token``, a list a ``token_seq`` in
    which a token's spaces are ``_`` (RecBole separates tokens by spaces), a number a ``float``.

    Numbers are written as the shortest text that gives the same float32.
    """

    name = "recbole"
    title = "RecBole"
    systems = (
        "SASRec",
        "GRU4Rec",
        "BERT4Rec",
        "BPR",
        "LightGCN",
        "any model that takes pretrained embeddings",
    )
    roles = (Role("item", what="the item's embedding"),)
    interactions = "optional"
    splits = True
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {
        "mask": "it gives an item without a line a row of zeros, silently; say zero if you mean that"
    }
    id_base = None
    user_base = None
    further = True
    options = IdOptions

    def check(self, content: Content) -> None:
        """Tokens must survive RecBole's reader: pandas with a tab, quotes and its own null words."""
        if content.further is not None:
            _fields(content.further)
        if content.options.ids == "index":
            return
        for ids in (content.ids, content.interactions.user_ids if content.interactions else []):
            refuse_ids(
                ids,
                lambda i: i in PANDAS_NULLS or i == "[PAD]" or '"' in i or breaks_lines(i),
                "cannot be RecBole tokens: it reads them as missing, as padding, or cuts them apart",
                NUMBER_THEM,
            )

    def write(self, out: Path, content: Content) -> None:
        """Vectors, interactions and configuration."""
        items = content.options.tokens(content.ids)
        with (out / f"{content.name}.itememb").open("wb") as file:
            file.write(b"iid:token\titem_emb:float_seq\n")
            start = 0
            for block in content.features["item"].blocks():
                for token, values in zip(items[start : start + len(block)], _joined(block), strict=True):
                    file.write(f"{token}\t{values}\n".encode())
                start += len(block)
        if content.interactions is not None:
            # Its sequential models sort by time, and the configuration names the column.
            inter = content.interactions.ordered()
            users = content.options.tokens(inter.user_ids)
            parts = [(f"{content.name}.inter", inter)]
            if inter.labels is not None:
                parts = [(f"{content.name}.{part}.inter", inter.part(k)) for k, part in enumerate(_PARTS)]
            for name, part in parts:
                _write_inter(out / name, part, users, items)
        if content.further is not None:
            columns = {"item_id:token": pa.array(items, pa.string()), **_fields(content.further)}
            write_table(out / f"{content.name}.item", columns)
        write_yaml(out / f"{content.name}.yaml", _config(content), "RecBole: config_file_list=[this file]")

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """By the token that starts each line."""
        with (out / f"{manifest['name']}.itememb").open(encoding="utf-8", newline="\n") as file:
            if next(file) != "iid:token\titem_emb:float_seq\n":
                raise UsageError("The header is not RecBole's.")
            for line in file:
                token, _, values = line.rstrip("\n").partition("\t")
                vector = np.array([float(v) for v in values.split(" ")], np.float32)
                yield Entry("item", raw_id(token, items, manifest["options"]["ids"]), vector)


def _joined(block: np.ndarray) -> list[str]:
    """Every row as numbers separated by spaces."""
    numbers = pc.cast(pa.array(block.reshape(-1)), pa.string())
    offsets = pa.array(np.arange(len(block) + 1, dtype=np.int32) * block.shape[1])
    joined: list[str] = pc.binary_join(pa.ListArray.from_arrays(offsets, numbers), " ").to_pylist()
    return joined


def _write_inter(path: Path, inter: Interactions, users: list[str], items: list[str]) -> None:
    columns: dict[str, Any] = {
        "user_id:token": pa.array(users, pa.string()).take(pa.array(inter.users)),
        "item_id:token": pa.array(items, pa.string()).take(pa.array(inter.items)),
        "timestamp:float": inter.timestamps,
    }
    if inter.ratings is not None:
        columns["rating:float"] = inter.ratings
    write_plain_table(path, columns)


def _fields(table: pa.Table) -> dict[str, pa.Array]:
    """Columns of the catalog under their names and RecBole's types.

    Raises:
        UsageError: a name that another file of RecBole has, or tokens that it could not tell apart.
    """
    columns: dict[str, pa.Array] = {}
    for name in table.column_names:
        if name in _TAKEN:
            raise UsageError(
                f"RecBole reads {name!r} from another file.", hint="Leave it out of --fields, or rename it."
            )
        column = table[name].combine_chunks()
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            columns[f"{name}:token_seq"] = pa.array(_sequences(name, column.to_pylist()), pa.string())
        else:
            columns[f"{name}:{'token' if pa.types.is_string(column.type) else 'float'}"] = column
    return columns


def _sequences(name: str, lists: list[list[str] | None]) -> list[str]:
    own = {token for tokens in lists for token in tokens or []}
    if len({token.replace(" ", "_") for token in own}) < len(own):
        raise UsageError(
            f"Tokens of {name!r} differ in spaces and underscores only: RecBole could not tell them apart.",
            hint="Rename them, or leave the field out of --fields.",
        )
    return [" ".join(token.replace(" ", "_") for token in tokens or []) for tokens in lists]


def _config(content: Content) -> dict[str, Any]:
    inter = content.interactions
    columns = ["user_id", "item_id", "timestamp"]
    if inter is not None and inter.ratings is not None:
        columns.append("rating")
    values: dict[str, Any] = {
        "dataset": content.name,
        "field_separator": "\t",
        "seq_separator": " ",
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "TIME_FIELD": "timestamp",
        "load_col": {
            "inter": columns,
            "itememb": ["iid", "item_emb"],
            **({"item": ["item_id", *content.further.column_names]} if content.further is not None else {}),
        },
        "additional_feat_suffix": ["itememb"],
        "alias_of_item_id": ["iid"],
        "preload_weight": {"iid": "item_emb"},
    }
    if inter is not None and inter.labels is not None:
        values["benchmark_filename"] = list(_PARTS)
    return values
