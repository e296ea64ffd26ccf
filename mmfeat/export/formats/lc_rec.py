"""LC-Rec (https://github.com/RUCAIBox/LC-Rec) and what shares its files: TIGER-style code, LETTER, MACRec."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, ItemMap
from mmfeat.export.files import read_npy, write_json, write_npy, write_plain_table
from mmfeat.export.ids import breaks_lines, refuse_ids
from mmfeat.schemas.codes import to_tokens


class Options(BaseModel):
    """LC-Rec's options.

    Attributes:
        plm: the text encoder's name in ``NAME.emb-PLM-td.npy``; the feature's model when empty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plm: str = Field(default="", pattern=r"^[A-Za-z0-9._-]*$")


class LCRec(Exporter):
    """``NAME.emb-PLM-td.npy``, ``NAME.item.json``, ``NAME.inter.json``, id tables, ``NAME.index.json``.

    Matrices are float32 ``[items, dims]``, row = item id, from 0. ``NAME.inter.json`` lists each
    user's items in time order; LC-Rec takes the last for testing and the one before for validation.
    ``NAME.index.json`` is there when semantic ids are exported too (``--features codes=FEATURE``).
    Texts that an item lacks are empty.
    """

    name = "lc-rec"
    title = "LC-Rec"
    systems = ("LC-Rec", "TIGER", "LETTER", "MACRec", "MQL4GRec")
    roles = (
        Role("embedding", what="what semantic ids are made from"),
        Role("codes", kind="codes", required=False, dtype="int32", what="semantic ids"),
    )
    interactions = "optional"
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    options = Options

    def check(self, content: Content) -> None:
        """Ids go into unquoted tab-separated tables."""
        users = content.interactions.user_ids if content.interactions else []
        refuse_ids(
            [*content.ids, *users],
            breaks_lines,
            "hold control characters, which end a line or a field",
            "Rename them.",
        )

    def write(self, out: Path, content: Content) -> None:
        """Everything but the model."""
        embedding = content.features["embedding"]
        plm = content.options.plm or PurePosixPath(embedding.column.spec.model).name.lower()
        plm = re.sub(r"[^a-z0-9._-]+", "-", plm, flags=re.IGNORECASE)
        write_npy(out / f"{content.name}.emb-{plm}-td.npy", embedding)
        texts = zip(content.titles, content.descriptions, strict=True)
        items = {str(k): {"title": t or "", "description": d or ""} for k, (t, d) in enumerate(texts)}
        write_json(out / f"{content.name}.item.json", items)
        _write_ids(out / f"{content.name}.item2id", content.ids)
        if content.interactions is not None:
            sequences = {str(user): found.tolist() for user, found in content.interactions.sequences()}
            write_json(out / f"{content.name}.inter.json", sequences)
            _write_ids(out / f"{content.name}.user2id", content.interactions.user_ids)
        if "codes" in content.features:
            blocks = content.features["codes"].item_blocks()
            tokens = [row for block in blocks for row in to_tokens(block)]
            index = {str(k): row for k, row in enumerate(tokens)}
            write_json(out / f"{content.name}.index.json", index)

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row, or key, = the number in ``NAME.item2id``."""
        name = manifest["name"]
        lines = (out / f"{name}.item2id").read_text(encoding="utf-8").removesuffix("\n").split("\n")
        numbers = {i: int(number) for i, _, number in (line.rpartition("\t") for line in lines)}
        (path,) = [p for p in out.iterdir() if p.name.startswith(f"{name}.emb-") and p.suffix == ".npy"]
        matrix = read_npy(path, len(numbers))
        for item_id, number in numbers.items():
            yield Entry("embedding", item_id, matrix[number])
        if "codes" in manifest["features"]:
            index = json.loads((out / f"{name}.index.json").read_text(encoding="utf-8"))
            for item_id, number in numbers.items():
                yield Entry("codes", item_id, np.array([int(t[3:-1]) for t in index[str(number)]], np.int32))


def _write_ids(path: Path, ids: list[str]) -> None:
    write_plain_table(path, {"id": ids, "number": np.arange(len(ids))}, header=False)
