"""UniSRec (https://github.com/RUCAIBox/UniSRec) and its Amazon Reviews 2023 version."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, Interactions, ItemMap
from mmfeat.export.files import write_json, write_yaml
from mmfeat.export.ids import PANDAS_NULLS, breaks_lines, refuse_ids
from mmfeat.schemas.errors import UsageError

PAD = "[PAD]"
# What both projects' preprocessing keeps of a history.
MAX_HISTORY = 50
_HEADER = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
_NUMBER_THEM = "Choose --option form=unisrec, which numbers items and users."
_PARTS = ("train", "valid", "test")


class Options(BaseModel):
    """UniSRec's options.

    Attributes:
        form: ``unisrec``: the project's own files. ``amazon2023``: those of its version in
            https://github.com/hyp1231/AmazonReviews2023 (``seq_rec_results``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Literal["unisrec", "amazon2023"] = "unisrec"


class UniSRec(Exporter):
    """The item vectors without any header, and interactions with their histories.

    ``form=unisrec``: ``NAME.feat1CLS``, float32, row = item token, from 0
    (``UniSRecDataset.load_plm_embedding`` takes ``loaded_feat[int(token)]``).

    ``form=amazon2023``: ``NAME.MODEL.feature`` and ``NAME.data_maps`` (JSON; ``item2id`` counts from 1,
    0 is the pad item); tokens are the dataset's own ids, and row = ``item2id[token] - 1``. ``MODEL`` is
    the last part of the feature's model name. In both, ``id_map.parquet`` holds the row.

    ``NAME.train.inter``, ``NAME.valid.inter`` and ``NAME.test.inter`` have a line for every
    interaction but each user's first: the 50 items before it, and the item. So ratio splits, in which
    histories hold what is to be predicted, are refused.

    Neither project compares the files' size with its ``plm_size``; a wrong one cuts rows apart.
    ``NAME.yaml`` has the right one.
    """

    name = "unisrec"
    title = "UniSRec"
    systems = ("UniSRec", "SASRecText on Amazon Reviews 2023")
    roles = (Role("text", what="item vectors, usually of texts"),)
    interactions = "optional"
    splits = True
    default_split = "leave-one-out"
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {"mask": "it has a row for every item and no mask"}
    options = Options

    def check(self, content: Content) -> None:
        """Histories must lie before what they predict; tokens must survive RecBole's reader."""
        inter = content.interactions
        if inter is not None:
            _refuse_leaks(inter)
        if content.options.form == "amazon2023":
            users = inter.user_ids if inter else []
            refuse_ids(
                [*content.ids, *users],
                _is_no_token,
                "cannot be tokens: RecBole reads them as missing, as padding, or cuts them apart",
                _NUMBER_THEM,
            )
            refuse_ids(
                content.ids,
                lambda i: " " in i,
                "hold spaces, which separate the items of a history",
                _NUMBER_THEM,
            )

    def write(self, out: Path, content: Content) -> None:
        """Vectors, maps, interactions and the settings that depend on them."""
        rows = content.features["text"]
        suffix = _suffix(content.options.form, rows.column.spec.model)
        with (out / f"{content.name}.{suffix}").open("wb") as file:
            for block in rows.blocks():
                block.astype("<f4", copy=False).tofile(file)
        inter = content.interactions
        users = inter.user_ids if inter else []
        items = content.ids
        if content.options.form == "amazon2023":
            maps = {**_maps("user", users), **_maps("item", items)}
            write_json(out / f"{content.name}.data_maps", maps)
        else:
            users, items = [str(k) for k in range(len(users))], [str(k) for k in range(len(items))]
        if inter is not None:
            _write_histories(out, content.name, inter, users, items)
        dims = rows.shape[1]
        settings = {"plm_suffix": suffix, "plm_size": dims, "adaptor_layers": [dims, 300]}
        write_yaml(out / f"{content.name}.yaml", settings, "In place of these lines of UniSRec.yaml.")

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = token, or ``item2id[token] - 1``."""
        name, entry = manifest["name"], manifest["features"]["text"]
        form = manifest["options"]["form"]
        dims = entry["exported"]["shape"][0]
        path = out / f"{name}.{_suffix(form, entry['spec']['model'])}"
        matrix = np.fromfile(path, dtype="<f4").reshape(-1, dims)
        if form == "amazon2023":
            numbers = json.loads((out / f"{name}.data_maps").read_text(encoding="utf-8"))["item2id"]
            found = {token: number - 1 for token, number in numbers.items() if number}
        else:
            found = {item_id: row for row, item_id in enumerate(items.ids)}
        if len(matrix) != len(found):
            raise UsageError(f"{path.name} has {len(matrix):,} rows for {len(found):,} items.")
        for item_id, row in found.items():
            yield Entry("text", item_id, matrix[row])


def _is_no_token(own: str) -> bool:
    return own in PANDAS_NULLS or own == PAD or '"' in own or breaks_lines(own)


def _suffix(form: str, model: str) -> str:
    if form == "unisrec":
        return "feat1CLS"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", PurePosixPath(model).name) + ".feature"


def _maps(what: str, ids: list[str]) -> dict[str, Any]:
    padded = [PAD, *ids]
    return {f"{what}2id": {token: k for k, token in enumerate(padded)}, f"id2{what}": padded}


def _refuse_leaks(inter: Interactions) -> None:
    assert inter.labels is not None, "it has a default split"
    steps = np.diff(inter.labels.astype(np.int64))
    if ((steps < 0) & (np.diff(inter.users) == 0)).any():
        raise UsageError(
            "UniSRec's histories would hold interactions that are for validation or testing.",
            hint="Choose --split leave-one-out, or a split in time.",
        )


def _write_histories(out: Path, name: str, inter: Interactions, users: list[str], items: list[str]) -> None:
    labels = inter.labels
    assert labels is not None, "it has a default split"
    files = [(out / f"{name}.{part}.inter").open("w", encoding="utf-8", newline="\n") for part in _PARTS]
    try:
        for file in files:
            file.write(_HEADER)
        start = 0
        for user, positions in inter.sequences():
            tokens = [items[k] for k in positions]
            for k in range(1, len(tokens)):
                history = " ".join(tokens[max(0, k - MAX_HISTORY) : k])
                files[labels[start + k]].write(f"{users[user]}\t{history}\t{tokens[k]}\n")
            start += len(tokens)
    finally:
        for file in files:
            file.close()
