"""MLLM-MSR (https://github.com/YuyangYe/MLLM-MSR)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pyarrow import csv as arrow_csv

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, ItemMap
from mmfeat.export.files import write_table
from mmfeat.export.ids import NUMBER_THEM, PANDAS_NULLS, IdOptions, breaks_lines, raw_id, refuse_ids
from mmfeat.schemas.errors import UsageError

_FILE = "image_summary.csv"


class MLLMMSR(Exporter):
    """``image_summary.csv``: ``item_id,summary``, a description of each item's cover.

    The rule is that of ``preferece_inference_recurrent.py``: pandas reads the file by its defaults,
    turns the ids back into texts and looks up every item of a user's history by its own id, beside the
    dataset's titles. So ids that pandas takes for numbers other than plain integers, for truth values
    or for nothing are refused, and so are texts that it takes for nothing. With ``ids=index`` the histories
    must follow the numbers.
    """

    name = "mllm-msr"
    title = "MLLM-MSR"
    systems = ("MLLM-MSR",)
    roles = (Role("summary", kind="text", dtype=None, what="a description of the cover, such as a caption"),)
    missing: ClassVar[tuple[Policy, ...]] = ("error", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {
        "mask": "it stops at the first item of a history that has no line",
        "mean": "texts have no mean",
        "zero": "a text has no zero",
        "empty": "pandas reads an empty text as NaN",
    }
    id_base = None
    options = IdOptions

    def check(self, content: Content) -> None:
        """Ids and texts must survive ``pandas.read_csv`` and ``astype(str)``."""
        for item_id, text in zip(content.ids, content.features["summary"].texts(), strict=True):
            if text is not None and (text in PANDAS_NULLS or "\0" in text):
                raise UsageError(
                    f"The text of item {item_id!r} is {text[:40]!r}, which pandas reads as missing or cuts.",
                    hint="Caption the item again, or leave it out.",
                )
        if content.options.ids == "raw":
            refuse_ids(
                content.ids,
                _changes_in_pandas,
                "cannot be MLLM-MSR's ids: pandas reads them as other numbers, as truth values or as missing",
                f"Plain integers without leading zeros are safe, and so are words. {NUMBER_THEM}",
            )

    def write(self, out: Path, content: Content) -> None:
        """The one file."""
        texts = list(content.features["summary"].texts())
        tokens = content.options.tokens(content.ids)
        write_table(out / _FILE, {"item_id": tokens, "summary": texts}, separator=",")

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """By ``item_id``."""
        table = arrow_csv.read_csv(
            out / _FILE,
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types={"item_id": "string", "summary": "string"}, strings_can_be_null=False
            ),
        )
        for token, text in zip(table["item_id"].to_pylist(), table["summary"].to_pylist(), strict=True):
            yield Entry("summary", raw_id(token, items, manifest["options"]["ids"]), text)


def _changes_in_pandas(item_id: str) -> bool:
    if item_id in PANDAS_NULLS or item_id.lower() in ("true", "false") or breaks_lines(item_id):
        return True
    try:
        float(item_id)
    except ValueError:
        return False
    # A number: only a plain int64 comes back as it was.
    plain = item_id.removeprefix("-").isdecimal() and str(int(item_id)) == item_id
    return not plain or abs(int(item_id)) >= 2**63
