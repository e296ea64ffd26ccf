"""MMRec (https://github.com/enoche/MMRec), which most multimodal recommenders are built on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pyarrow import csv as arrow_csv
from pydantic import BaseModel, ConfigDict

from mmfeat.export import pickles
from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, Interactions, ItemMap
from mmfeat.export.files import read_npy, write_npy, write_table, write_yaml
from mmfeat.export.interactions import TRAIN

# Of a user's neighbours in the graph that DualGNN and DRAGON read: the nearest so many.
_NEIGHBOURS = 200


class Options(BaseModel):
    """MMRec's options.

    Attributes:
        user_graph: write ``user_graph_dict.npy`` too, which DualGNN and DRAGON read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_graph: bool = False


class MMRec(Exporter):
    """The dataset's folder (``data/NAME``) and its configuration.

    ``NAME.inter`` (tab-separated ``userID itemID rating timestamp x_label``; ``x_label`` 0, 1, 2 =
    train, valid, test; each rating is 1.0 if not all have one; ``timestamp`` in milliseconds),
    ``image_feat.npy`` and ``text_feat.npy`` (float32 ``[items, dims]``, row = ``itemID``, from 0),
    ``i_id_mapping.csv``, ``u_id_mapping.csv``, ``missed_img_itemIDs.csv`` where images were filled
    in, and ``configs/dataset/NAME.yaml``, to be copied to MMRec's ``src/configs/dataset``.

    With ``user_graph=true`` also ``user_graph_dict.npy``, for DualGNN and DRAGON: what
    ``preprocessing/dualgnn-gen-u-u-matrix.py`` makes of ``NAME.inter``, see :func:`user_graph`.

    MMRec counts items as the largest ``itemID`` among the interactions plus 1 and does not compare
    that with the matrices, so items without interactions stay out.
    """

    name = "mmrec"
    title = "MMRec"
    systems = (
        *("FREEDOM", "BM3", "LATTICE", "VBPR", "MGCN", "SMORE", "PGL", "LIRDRec", "MambaRec"),
        *("DualGNN", "DRAGON", "others"),
    )
    roles = (
        Role("image", media=("image",), required=False, what="vision_feature_file: of covers or videos"),
        Role("text", media=("text",), required=False, what="text_feature_file"),
    )
    interactions = "required"
    cold_items = False
    splits = True
    default_split = "ratio:0.8,0.1,0.1"
    missing: ClassVar[tuple[Policy, ...]] = ("mean", "drop", "error")
    refusals: ClassVar[Mapping[Policy, str]] = {
        "zero": "its item graphs divide by the row norm, so a zero row becomes NaN",
        "mask": "it has no mask, and a NaN row spreads through its item graphs",
    }
    zero_rows = "its item graphs divide by the row norm"
    options = Options

    def write(self, out: Path, content: Content) -> None:
        """Everything MMRec opens."""
        inter = content.interactions
        assert inter is not None and inter.labels is not None, "interactions are required and split"
        columns = {"userID": inter.users, "itemID": inter.items, "rating": inter.ratings_or_ones()}
        if inter.timestamps is not None:
            columns["timestamp"] = inter.timestamps
        write_table(out / f"{content.name}.inter", {**columns, "x_label": inter.labels})
        for role, rows in content.features.items():
            write_npy(out / f"{role}_feat.npy", rows)
        write_table(out / "i_id_mapping.csv", {"asin": content.ids, "itemID": np.arange(len(content.ids))})
        write_table(
            out / "u_id_mapping.csv", {"user_id": inter.user_ids, "userID": np.arange(len(inter.user_ids))}
        )
        image = content.features.get("image")
        if image is not None and not image.column.mask[image.index].all():
            missed = np.flatnonzero(~image.column.mask[image.index])
            np.savetxt(out / "missed_img_itemIDs.csv", missed, fmt="%d")
        if content.options.user_graph:
            pickles.write_object_npy(out / "user_graph_dict.npy", user_graph(inter.part(TRAIN)))
        config = out / "configs" / "dataset"
        config.mkdir(parents=True)
        write_yaml(config / f"{content.name}.yaml", _config(content), "Copy to MMRec's src/configs/dataset.")

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = ``itemID`` of ``i_id_mapping.csv``."""
        parse = arrow_csv.ParseOptions(delimiter="\t", newlines_in_values=True)
        table = arrow_csv.read_csv(
            out / "i_id_mapping.csv",
            parse_options=parse,
            convert_options=arrow_csv.ConvertOptions(column_types={"asin": "string"}),
        )
        for role in manifest["features"]:
            matrix = read_npy(out / f"{role}_feat.npy", len(table))
            for asin, row in zip(table["asin"].to_pylist(), table["itemID"].to_pylist(), strict=True):
                yield Entry(role, asin, matrix[row])


def user_graph(training: Interactions) -> dict[int, list[np.ndarray]]:
    """Each user's neighbours: ``[users, weights]``, the number of different items that both met in training.

    The most similar 200 come first, of equal ones those with smaller numbers; a user without any has two
    empty lists. Weights are floats, since DualGNN takes their softmax.
    """
    n = len(training.user_ids)
    users, items = np.unique(np.stack([training.users, training.items]), axis=1)
    of_item = users[np.argsort(items, kind="stable")]
    ends = np.searchsorted(np.sort(items), np.arange(items.max(initial=-1) + 2))
    starts = np.searchsorted(users, np.arange(n + 1))
    graph = {}
    for user in range(n):
        met = items[starts[user] : starts[user + 1]]
        others = [of_item[ends[item] : ends[item + 1]] for item in met]
        common = np.bincount(np.concatenate([*others, np.empty(0, np.int64)]), minlength=n)
        common[user] = 0
        found = np.flatnonzero(common)
        # One number that sorts by weight, from the largest, and then by user.
        order = found - common[found] * n
        if len(order) > _NEIGHBOURS:
            order = np.partition(order, _NEIGHBOURS)[:_NEIGHBOURS]
        nearest = np.sort(order) % n
        graph[user] = [nearest, common[nearest].astype(np.float64)]
    return graph


def _config(content: Content) -> dict[str, Any]:
    return {
        "USER_ID_FIELD": "userID",
        "ITEM_ID_FIELD": "itemID",
        "TIME_FIELD": "timestamp",
        "filter_out_cod_start_users": True,
        "inter_file_name": f"{content.name}.inter",
        "vision_feature_file": "image_feat.npy",
        "text_feature_file": "text_feat.npy",
        "user_graph_dict_file": "user_graph_dict.npy",
        "field_separator": "\t",
    }
