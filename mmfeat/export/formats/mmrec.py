"""MMRec (https://github.com/enoche/MMRec), which most multimodal recommenders are built on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pyarrow import csv as arrow_csv

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, ItemMap
from mmfeat.export.files import read_npy, write_npy, write_table, write_yaml


class MMRec(Exporter):
    """The dataset's folder (``data/NAME``) and its configuration.

    ``NAME.inter`` (tab-separated ``userID itemID rating timestamp x_label``; ``x_label`` 0, 1, 2 =
    train, valid, test; the dataset has no ratings, so each is 1.0; ``timestamp`` in milliseconds),
    ``image_feat.npy`` and ``text_feat.npy`` (float32 ``[items, dims]``, row = ``itemID``, from 0),
    ``i_id_mapping.csv``, ``u_id_mapping.csv``, ``missed_img_itemIDs.csv`` where images were filled
    in, and ``configs/dataset/NAME.yaml``, to be copied to MMRec's ``src/configs/dataset``.

    MMRec counts items as the largest ``itemID`` among the interactions plus 1 and does not compare
    that with the matrices, so items without interactions stay out.
    """

    name = "mmrec"
    title = "MMRec"
    systems = ("FREEDOM", "BM3", "LATTICE", "VBPR", "MGCN", "SMORE", "PGL", "LIRDRec", "MambaRec", "others")
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

    def write(self, out: Path, content: Content) -> None:
        """Everything MMRec opens."""
        inter = content.interactions
        assert inter is not None and inter.labels is not None, "interactions are required and split"
        columns = {"userID": inter.users, "itemID": inter.items, "rating": np.ones(len(inter))}
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
