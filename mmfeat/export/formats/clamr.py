"""CLaMR (https://github.com/meetdavidwan/clamr): videos by what is seen, said and written in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, ItemMap
from mmfeat.export.files import write_json
from mmfeat.export.formats.hf import read_dataset, write_dataset

_TEXT = pa.string()
# The columns of data/create_data_multivent.py:139-149; queries are not in an export.
_SCHEMA = pa.schema(
    [("video_id", _TEXT), ("query", _TEXT), ("query_type", _TEXT), ("images", pa.list_(_TEXT))]
    + [(name, _TEXT) for name in ("ocr", "description", "title", "asr")]
)
_TEXTS = ("ocr", "description", "asr")


class Options(BaseModel):
    """CLaMR's options.

    Attributes:
        split: what the rows are for.
        frames: how many frames of a video ``images`` lists; 0 for none.
        frame: a frame's file in CLaMR's ``frames_dir``, with ``{item_id}`` and its number ``{frame}``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: Literal["train", "validation", "test"] = "test"
    frames: int = Field(default=0, ge=0)
    frame: str = Field(
        default="{item_id}_frame_{frame}.jpg", pattern=r"^[^{}]*\{item_id\}[^{}]*\{frame\}[^{}]*$"
    )

    def images(self, item_id: str) -> list[str]:
        """The files of an item's frames, in order."""
        named = self.frame.replace("{item_id}", item_id)
        return [named.replace("{frame}", str(k)) for k in range(self.frames)]


class CLaMR(Exporter):
    """A Hugging Face ``DatasetDict`` with one split, for ``data_dir``: a row per video.

    Columns are ``video_id``, ``images`` (files of frames), ``ocr``, ``description``, ``title`` and ``asr``,
    null if there is none, which ``MultimodalCollator`` (``src/multimodal_collator.py:71-98``) takes for a
    modality that a video lacks. ``query`` and ``query_type`` are there and null: the collator leaves them out
    where a whole batch has none (lines 41-65).
    """

    name = "clamr"
    title = "CLaMR"
    systems = ("CLaMR",)
    roles = (
        Role("ocr", kind="text", required=False, dtype=None, what="text that is read in the video"),
        Role("description", kind="text", required=False, dtype=None, what="a description, such as a caption"),
        Role("asr", kind="text", required=False, dtype=None, what="what is said"),
    )
    missing: ClassVar[tuple[Policy, ...]] = ("mask", "empty", "drop", "error")
    id_base = None
    options = Options

    def write(self, out: Path, content: Content) -> None:
        """The rows, in one file."""
        split, items = content.options.split, len(content.ids)
        nothing = pa.nulls(items, _TEXT)
        columns = {
            "video_id": content.ids,
            "query": nothing,
            "query_type": nothing,
            "images": [content.options.images(item_id) for item_id in content.ids],
            "title": content.titles,
        }
        for role in _TEXTS:
            columns[role] = list(content.features[role].texts()) if role in content.features else nothing
        (out / split).mkdir()
        write_dataset(out / split, f"{content.name}: videos", _SCHEMA, [pa.table(columns, schema=_SCHEMA)])
        write_json(out / "dataset_dict.json", {"splits": [split]})

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """By ``video_id``."""
        for batch in read_dataset(out / manifest["options"]["split"]):
            for row in batch.to_pylist():
                found = ((role, row[role]) for role in manifest["features"])
                yield from (Entry(role, row["video_id"], text) for role, text in found if text is not None)
