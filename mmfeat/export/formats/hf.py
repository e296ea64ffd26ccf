"""A Hugging Face dataset (https://huggingface.co/docs/datasets) on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from mmfeat.export.base import Exporter, Kind, Policy
from mmfeat.export.content import Content, Entry, ItemMap
from mmfeat.export.files import write_json
from mmfeat.export.formats.parquet import entries, item_batches, item_schema

FILE = "data-00000-of-00001.arrow"


class HuggingFace(Exporter):
    """What ``datasets.load_from_disk`` reads: an Arrow stream and two JSON files.

    Columns are ``item_id`` and one per feature, null where it is missing, and the fields that ``--fields``
    names. Written without the
    library, which infers its own column types from the stream.
    """

    name = "hf"
    title = "Hugging Face datasets"
    systems = ("datasets", "PyTorch", "TensorFlow", "JAX")
    kinds: ClassVar[tuple[Kind, ...]] = ("vector", "vectors", "codes", "text")
    missing: ClassVar[tuple[Policy, ...]] = ("mask", "mean", "zero", "empty", "drop", "error")
    id_base = None
    further = True

    def write(self, out: Path, content: Content) -> None:
        """The stream, block by block."""
        with pa.ipc.new_stream(out / FILE, item_schema(content)) as writer:
            for batch in item_batches(content):
                writer.write_table(batch)
        write_json(out / "dataset_info.json", {"description": f"{content.name}: item features"})
        state: dict[str, Any] = {
            "_data_files": [{"filename": FILE}],
            "_fingerprint": "mmfeat",
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        write_json(out / "state.json", state)

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """By the ``item_id`` of each row."""
        with pa.OSFile(str(out / FILE)) as file:
            for batch in pa.ipc.open_stream(file):
                yield from entries(batch, list(manifest["features"]))
