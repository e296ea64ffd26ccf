"""A Hugging Face dataset (https://huggingface.co/docs/datasets) on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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

    Columns are ``item_id`` and one per feature, null if it is missing, and the fields that ``--fields``
    names. Written without the library, which infers its own column types from the stream.
    """

    name = "hf"
    title = "Hugging Face datasets"
    systems = ("datasets", "PyTorch", "TensorFlow", "JAX")
    kinds: ClassVar[tuple[Kind, ...]] = ("vector", "vectors", "tokens", "codes", "text")
    missing: ClassVar[tuple[Policy, ...]] = ("mask", "mean", "zero", "empty", "drop", "error")
    id_base = None
    further = True

    def write(self, out: Path, content: Content) -> None:
        """The stream, block by block."""
        write_dataset(out, f"{content.name}: item features", item_schema(content), item_batches(content))

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """By the ``item_id`` of each row."""
        for batch in read_dataset(out):
            yield from entries(batch, list(manifest["features"]))


def write_dataset(folder: Path, description: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """What ``Dataset.save_to_disk`` makes of these rows."""
    with pa.ipc.new_stream(folder / FILE, schema) as writer:
        for table in tables:
            writer.write_table(table)
    write_json(folder / "dataset_info.json", {"description": description})
    state: dict[str, Any] = {
        "_data_files": [{"filename": FILE}],
        "_fingerprint": "mmfeat",
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    write_json(folder / "state.json", state)


def read_dataset(folder: Path) -> Iterator[pa.RecordBatch]:
    """The rows of :func:`write_dataset`."""
    with pa.OSFile(str(folder / FILE)) as file:
        yield from pa.ipc.open_stream(file)
