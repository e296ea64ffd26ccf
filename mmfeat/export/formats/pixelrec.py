"""PixelRec (https://github.com/westlake-repl/PixelRec): its ViNet models, which read visual features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, ItemMap
from mmfeat.export.files import read_npy, write_npy, write_table
from mmfeat.export.ids import NUMBER_THEM, PANDAS_NULLS, IdOptions, breaks_lines, raw_id, refuse_ids
from mmfeat.export.interactions import MIN_TO_SPLIT, refuse_short

_FEATURES = Path("visual_features", "image.npy")


class Options(IdOptions):
    """PixelRec's options: with ``ids=index`` an item's number is its row."""

    first: ClassVar[int] = 1


class PixelRec(Exporter):
    """``NAME.csv`` and ``visual_features/image.npy``, for ``data_path`` = this folder.

    ``NAME.csv`` has ``item_id,user_id,timestamp`` (milliseconds; where times are not known, the
    position in the dataset's order). ``visual_features/image.npy`` is float32 ``[items + 1, dims]``;
    row 0 is a pad row of zeros.

    The rule is that of ``REC/data/dataload.py``, which numbers items from 1 in the order in which the
    CSV first names them, and of ``REC/model/ViNet``, which indexes ``v_feat_path`` by those numbers.
    So the lines are in the order of the items' rows, and items without interactions stay out. It sorts
    by time itself, and takes each user's last two interactions for validation and testing.
    """

    name = "pixelrec"
    title = "PixelRec"
    systems = ("VBPR", "VisRank", "CuratorNet", "SASRec with frozen visual features")
    roles = (Role("image", media=("image",), what="v_feat_path"),)
    interactions = "required"
    cold_items = False
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {"mask": "it has no mask, and a NaN row makes the loss NaN"}
    id_base = 1
    user_base = None
    pad_row = True
    options = Options

    def check(self, content: Content) -> None:
        """Every user needs three interactions; ids must survive ``pandas.read_csv``, and not mean padding."""
        assert content.interactions is not None, "interactions are required"
        refuse_short(content.interactions, MIN_TO_SPLIT, self.title)
        if content.options.ids == "index":
            return
        for ids in (content.ids, content.interactions.user_ids):
            refuse_ids(
                ids,
                lambda i: i in PANDAS_NULLS or i == "[PAD]" or breaks_lines(i),
                "cannot be PixelRec's: it reads them as missing, as padding, or cuts them apart",
                NUMBER_THEM,
            )

    def write(self, out: Path, content: Content) -> None:
        """Interactions in the order of the items, and the matrix."""
        inter = content.interactions
        assert inter is not None, "interactions are required"
        order = np.argsort(inter.items, kind="stable")
        times = np.arange(len(inter)) if inter.timestamps is None else inter.timestamps
        items = pa.array(content.options.tokens(content.ids), pa.string())
        users = pa.array(content.options.tokens(inter.user_ids), pa.string())
        columns = {
            "item_id": items.take(pa.array(inter.items[order])),
            "user_id": users.take(pa.array(inter.users[order])),
            "timestamp": times[order],
        }
        write_table(out / f"{content.name}.csv", columns, separator=",")
        (out / _FEATURES).parent.mkdir()
        write_npy(out / _FEATURES, content.features["image"])

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = place among the different items of the CSV, from 1."""
        table = arrow_csv.read_csv(
            out / f"{manifest['name']}.csv",
            convert_options=arrow_csv.ConvertOptions(
                column_types={"item_id": "string", "user_id": "string"}, strings_can_be_null=False
            ),
        )
        tokens = pc.unique(table["item_id"]).to_pylist()
        matrix = read_npy(out / _FEATURES, len(tokens) + 1)
        for token, row in zip(tokens, matrix[1:], strict=True):
            yield Entry("image", raw_id(token, items, manifest["options"]["ids"]), row)
