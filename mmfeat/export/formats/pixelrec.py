"""PixelRec (https://github.com/westlake-repl/PixelRec): its ViNet models, which read visual features.

And MicroLens's and NineRec's own code (https://github.com/westlake-repl/MicroLens and NineRec), which is of
the same family.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, Interactions, ItemMap
from mmfeat.export.files import read_npy, write_npy, write_table
from mmfeat.export.ids import NUMBER_THEM, PANDAS_NULLS, IdOptions, breaks_lines, raw_id, refuse_ids
from mmfeat.export.interactions import MIN_TO_SPLIT, refuse_short

_FEATURES = Path("visual_features", "image.npy")


# Each user's last interactions, which are for validation and testing.
_HELD_OUT = 2


class Options(IdOptions):
    """PixelRec's options: with ``ids=index`` an item's number is its row.

    Attributes:
        layout: ``pixelrec``: the project's own. ``microlens``: that of MicroLens's IDRec and VIDRec and of
            NineRec's baselines.
    """

    first: ClassVar[int] = 1
    layout: Literal["pixelrec", "microlens"] = "pixelrec"

    @property
    def suffix(self) -> str:
        """Of the table of interactions."""
        return "csv" if self.layout == "pixelrec" else "inter"


class PixelRec(Exporter):
    """``NAME.csv`` and ``visual_features/image.npy``, for ``data_path`` = this folder.

    ``NAME.csv`` has ``item_id,user_id,timestamp`` (milliseconds; where times are not known, the
    position in the dataset's order). ``visual_features/image.npy`` is float32 ``[items + 1, dims]``;
    row 0 is a pad row of zeros.

    The rule is that of ``REC/data/dataload.py``, which numbers items from 1 in the order in which the
    CSV first names them, and of ``REC/model/ViNet``, which indexes ``v_feat_path`` by those numbers.
    So the lines are in the order of the items' rows, and items without interactions stay out. It sorts
    by time itself, and takes each user's last two interactions for validation and testing.

    ``layout=microlens``: the table is called ``NAME.inter``, with a comma as ever, and ``pop.npy`` (float64
    ``[items + 1]``) has each item's share of the training interactions and 1 for the pad row, whose logarithm
    the models take. The rule is that of MicroLens's ``Code/VIDRec/DSSM/REC``: ``data/data.py``
    (``_load_inter_feat``, ``_data_processing``) and ``model/FreezeModel/vbpr.py``. Its
    ``Code/IDRec/process_data.ipynb`` counts only the windows of 11 that its sequence models see; VBPR trains
    on all of a user's interactions but two, and an item that was not counted there would make its loss
    infinite. Times have the same number of digits, because NineRec's ``data.py`` sorts them as texts.
    """

    name = "pixelrec"
    title = "PixelRec"
    systems = (
        *("VBPR", "VisRank", "CuratorNet", "SASRec with frozen visual features"),
        *("MicroLens's IDRec and VIDRec", "NineRec's baselines"),
    )
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
        if content.options.ids == "raw":
            refuse_tokens([content.ids, content.interactions.user_ids], self.title)

    def write(self, out: Path, content: Content) -> None:
        """Interactions in the order of the items, and the matrix."""
        inter = content.interactions
        assert inter is not None, "interactions are required"
        options = content.options
        times = np.arange(len(inter)) if inter.timestamps is None else inter.timestamps
        if options.layout == "microlens":
            times = np.char.zfill(times.astype(str), max(map(len, times.astype(str))))
            np.save(out / "pop.npy", popularity(inter, len(content.ids)))
        order = np.argsort(inter.items, kind="stable")
        write_interactions(out / f"{content.name}.{options.suffix}", content, times, order)
        (out / _FEATURES).parent.mkdir()
        write_npy(out / _FEATURES, content.features["image"])

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = place among the different items of the CSV, from 1."""
        table = arrow_csv.read_csv(
            out / f"{manifest['name']}.{Options.model_validate(manifest['options']).suffix}",
            convert_options=arrow_csv.ConvertOptions(
                column_types={"item_id": "string", "user_id": "string"}, strings_can_be_null=False
            ),
        )
        tokens = pc.unique(table["item_id"]).to_pylist()
        if "layout" not in manifest["options"]:
            # Exports of earlier versions: their map counts from 1, and the numbers in their table from 0.
            items = ItemMap(items.ids, None)
        matrix = read_npy(out / _FEATURES, len(tokens) + 1)
        for token, row in zip(tokens, matrix[1:], strict=True):
            yield Entry("image", raw_id(token, items, manifest["options"]["ids"]), row)


def refuse_tokens(ids: Sequence[Sequence[str]], title: str) -> None:
    """UsageError for ids of items or users that ``pandas.read_csv`` changes, or that mean padding."""
    for each in ids:
        refuse_ids(
            each,
            lambda i: i in PANDAS_NULLS or i == "[PAD]" or breaks_lines(i),
            f"cannot be {title}'s: it reads them as missing, as padding, or cuts them apart",
            NUMBER_THEM,
        )


def write_interactions(path: Path, content: Content, times: np.ndarray, order: np.ndarray) -> None:
    """``item_id,user_id,timestamp``, the interactions in ``order``."""
    inter = content.interactions
    assert inter is not None, "interactions are required"
    items = pa.array(content.options.tokens(content.ids), pa.string())
    users = pa.array(content.options.tokens(inter.user_ids), pa.string())
    columns = {
        "item_id": items.take(pa.array(inter.items[order])),
        "user_id": users.take(pa.array(inter.users[order])),
        "timestamp": times[order],
    }
    write_table(path, columns, separator=",")


def popularity(inter: Interactions, items: int) -> np.ndarray:
    """``[items + 1]`` float64: 1 for the pad row, then each item's share of the training interactions."""
    ends = np.searchsorted(inter.users, inter.users, side="right")
    trained = inter.items[ends - np.arange(len(inter)) > _HELD_OUT]
    counts = np.bincount(trained, minlength=items)
    return np.concatenate([[1.0], counts / counts.sum()])
