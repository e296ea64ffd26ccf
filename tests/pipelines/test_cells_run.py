"""Pictures in the cells of Parquet and Arrow tables are extracted like files, and only new ones computed."""

from __future__ import annotations

import io
from pathlib import Path

import colours
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.plugins import on_path, write_plugin
from PIL import Image

import mmfeat
from mmfeat.extract.fence.process import stop_fence
from mmfeat.pipelines.run_report import RunReport

KIND = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(red: int) -> dict[str, object]:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (red, 7, colours.FINE)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": f"{red}.png"}


def write(folder: Path, adapter: str, reds: dict[str, int | None]) -> None:
    cells = [None if red is None else picture(red) for red in reds.values()]
    table = pa.table({"item_id": list(reds), "image": pa.array(cells, KIND)})
    folder.mkdir(exist_ok=True)
    if adapter == "table":
        pq.write_table(table, folder / "a.parquet", row_group_size=3)
        return
    (folder / "state.json").write_text('{"_data_files": [{"filename": "a.arrow"}]}')
    with pa.ipc.new_stream(str(folder / "a.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=3)


def extract(folder: Path, adapter: str) -> RunReport:
    return mmfeat.extract(
        dataset=adapter,
        root=str(folder / "items" / "a.parquet" if adapter == "table" else folder / "items"),
        store=str(folder / "store"),
        features=colours.FEATURES,
        resources={"executor": "local", "threads": 1},
    )


@pytest.mark.parametrize("adapter", ["table", "huggingface"])
def test_a_table_of_pictures_is_extracted_and_a_longer_one_computes_what_is_new(tmp_path: Path, adapter: str):
    with on_path(write_plugin(tmp_path / "plugin", colours.POINTS)):
        reds: dict[str, int | None] = {f"i{n}": 10 * n for n in range(8)} | {"none": None}
        write(tmp_path / "items", adapter, reds)
        first = extract(tmp_path, adapter).features[0]
        assert (first.ok, first.missing, first.failed) == (8, 1, 0)
        write(tmp_path / "items", adapter, {"new": 200, **reds, "i3": 201})
        assert extract(tmp_path, adapter).computed == 2
        store = mmfeat.open(tmp_path / "store")
        found = store.lookup(["new", "i0", "i3", "i7"], ["colour"])["colour"].matrix
        assert found[:, 0].tolist() == [200, 0, 201, 70]
        store.forget(["i7"], "asked for")
        again = extract(tmp_path, adapter)
        assert (again.computed, again.features[0].up_to_date, again.forgotten) == (0, 9, 1)
    stop_fence()
