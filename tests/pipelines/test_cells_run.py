"""Pictures in the cells of a Parquet table are extracted like files, and only what is new is computed."""

from __future__ import annotations

import io
from pathlib import Path

import colours
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from plugins import on_path, write_plugin

import mmfeat
from mmfeat.extract.fence.process import stop_fence
from mmfeat.pipelines.run_report import RunReport

KIND = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(red: int) -> dict[str, object]:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (red, 7, colours.FINE)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": f"{red}.png"}


def write(path: Path, reds: dict[str, int | None]) -> None:
    cells = [None if red is None else picture(red) for red in reds.values()]
    table = pa.table({"item_id": list(reds), "image": pa.array(cells, KIND)})
    pq.write_table(table, path, row_group_size=3)


def extract(folder: Path) -> RunReport:
    return mmfeat.extract(
        dataset="table",
        root=str(folder / "a.parquet"),
        store=str(folder / "store"),
        features=colours.FEATURES,
        resources={"executor": "local", "threads": 1},
    )


def test_a_table_of_pictures_is_extracted_and_a_longer_one_computes_what_is_new(tmp_path: Path):
    with on_path(write_plugin(tmp_path / "plugin", colours.POINTS)):
        reds: dict[str, int | None] = {f"i{n}": 10 * n for n in range(8)} | {"none": None}
        write(tmp_path / "a.parquet", reds)
        first = extract(tmp_path).features[0]
        assert (first.ok, first.missing, first.failed) == (8, 1, 0)
        write(tmp_path / "a.parquet", {"new": 200, **reds, "i3": 201})
        assert extract(tmp_path).computed == 2
        store = mmfeat.open(tmp_path / "store")
        found = store.lookup(["new", "i0", "i3", "i7"], ["colour"])["colour"].matrix
        assert found[:, 0].tolist() == [200, 0, 201, 70]
        store.forget(["i7"], "asked for")
        again = extract(tmp_path)
        assert (again.computed, again.features[0].up_to_date, again.forgotten) == (0, 9, 1)
    stop_fence()
