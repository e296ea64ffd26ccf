"""HLLM (https://github.com/bytedance/HLLM), and Molar (https://github.com/qqt-code/Molar), built on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from mmfeat.export.base import Exporter, Kind, Policy
from mmfeat.export.content import Content, Entry, ItemMap, Rows
from mmfeat.export.files import write_table
from mmfeat.export.formats.pixelrec import refuse_tokens, write_interactions
from mmfeat.export.ids import PANDAS_NULLS, IdOptions, raw_id
from mmfeat.export.interactions import MIN_TO_SPLIT, refuse_short
from mmfeat.schemas.errors import UsageError

INTERACTIONS, TEXTS = "dataset", "information"
_CATALOG = ("title", "description")


class HLLM(Exporter):
    """``dataset/NAME.csv`` and ``information/NAME.csv``: the folders of HLLM's README.

    ``dataset/NAME.csv`` (for ``data_path`` and ``dataset``) has ``item_id,user_id,timestamp``, times in
    seconds, of which its models take year, month and so on; where times are not known, the position in the
    dataset's order. ``information/NAME.csv`` (``text_path``) has ``item_id``, the dataset's ``title`` and
    ``description``, the fields that ``--fields`` asks for (lists as texts, joined by commas), and a column
    for every exported text, under the feature's name: ``text_keys`` chooses among them. Where there is no
    such text, the others are enough.

    The rule is that of ``code/REC/data/dataload.py`` (interactions) and of ``load_content`` in
    ``code/REC/data/dataset/trainset.py`` and ``batchset.py``: pandas reads the texts by its defaults,
    an item is looked up by its own id, and a text that was read as missing is left out. Molar reads the same
    files in the same way (``trainset_v.py``, ``batchset_v.py``). Pictures it finds by name,
    ``NAME/{item_id}.jpg`` in a folder whose path stands in these two files.
    """

    name = "hllm"
    title = "HLLM"
    systems = ("HLLM", "Molar")
    kinds: ClassVar[tuple[Kind, ...]] = ("text",)
    min_features = 0
    further = True
    interactions = "required"
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mask", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {
        "mean": "texts have no mean",
        "zero": "a text has no zero; say mask for none",
        "empty": "pandas reads an empty text as missing; say mask for none",
    }
    id_base = None
    user_base = None
    options = IdOptions

    def check(self, content: Content) -> None:
        """Every user needs three interactions; ids and texts must survive ``pandas.read_csv``."""
        assert content.interactions is not None, "interactions are required"
        refuse_short(content.interactions, MIN_TO_SPLIT, self.title)
        if not (content.features or content.further or any(content.titles) or any(content.descriptions)):
            raise UsageError(
                "HLLM reads texts, and there is neither a text feature, nor a title or description.",
                hint="Name fields of the items: --fields brand,tags. Or extract captions.",
            )
        for name, rows in content.features.items():
            if name in _CATALOG:
                raise UsageError(
                    f"HLLM's column {name!r} is the dataset's own, and a feature is called so too.",
                    hint=f"Leave it out, or give it another name in the job's [features.{name}].",
                )
            _refuse_lost(name, content.ids, rows)
        if content.options.ids == "raw":
            refuse_tokens([content.ids, content.interactions.user_ids], self.title)

    def write(self, out: Path, content: Content) -> None:
        """Interactions of each user in time order, and texts."""
        inter = content.interactions
        assert inter is not None, "interactions are required"
        (out / INTERACTIONS).mkdir()
        (out / TEXTS).mkdir()
        times = np.arange(len(inter)) if inter.timestamps is None else inter.timestamps // 1000
        path = out / INTERACTIONS / f"{content.name}.csv"
        write_interactions(path, content, times, np.arange(len(inter)))
        texts = {"title": content.titles, "description": content.descriptions}
        known = {key: pa.array(found, pa.string()) for key, found in texts.items() if any(found)}
        further = {} if content.further is None else _cells(content.further)
        made = {name: pa.array(list(rows.texts()), pa.string()) for name, rows in content.features.items()}
        columns = {"item_id": content.options.tokens(content.ids), **known, **further, **made}
        write_table(out / TEXTS / f"{content.name}.csv", columns, separator=",")

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """By ``item_id``; an empty cell is no text."""
        names = list(manifest["features"])
        table = arrow_csv.read_csv(
            out / TEXTS / f"{manifest['name']}.csv",
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(["item_id", *names], pa.string()), strings_can_be_null=False
            ),
        )
        ids = [raw_id(t, items, manifest["options"]["ids"]) for t in table["item_id"].to_pylist()]
        for name in names:
            found = zip(ids, table[name].to_pylist(), strict=True)
            yield from (Entry(name, item_id, text) for item_id, text in found if text)


def _cells(table: pa.Table) -> dict[str, pa.Array]:
    """Columns as a CSV file holds them: lists of texts as one text each."""
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    return {
        name: pc.binary_join(column, ", ") if pa.types.is_list(column.type) else column
        for name, column in columns.items()
    }


def _refuse_lost(name: str, ids: list[str], rows: Rows) -> None:
    """UsageError for texts that pandas reads as missing or as something else than texts."""
    texts = [(item_id, text) for item_id, text in zip(ids, rows.texts(), strict=True) if text is not None]
    for item_id, text in texts:
        if text in PANDAS_NULLS or "\0" in text:
            raise UsageError(
                f"The text {name} of item {item_id!r} is {text[:40]!r}, which pandas reads as missing or"
                " cuts.",
                hint="Make it again, or leave it out.",
            )
    if texts and all(_is_no_text(text) for _, text in texts):
        raise UsageError(
            f"All texts of {name} are numbers or truth values, such as {texts[0][1][:40]!r}, and pandas makes"
            " other texts of them.",
            hint="Leave the feature out.",
        )


def _is_no_text(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.strip().lower() in ("true", "false")
    return True
