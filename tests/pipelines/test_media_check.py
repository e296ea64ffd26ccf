"""A dataset's media are opened before anything is computed, and the broken ones named."""

import json
from pathlib import Path

import pytest
from helpers.dataset_files import put
from PIL import Image

from mmfeat import datasets
from mmfeat.cli import main
from mmfeat.pipelines.media_check import SAMPLE, open_media


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three covers, two of them broken, and a title of an item without any."""
    put(
        tmp_path,
        {"covers/cut.jpg": b"", "covers/page.jpg": b"<html>no</html>", "titles.csv": "item,title\n9,a\n"},
    )
    Image.new("RGB", (64, 48), "red").save(tmp_path / "covers/good.jpg")
    whole = (tmp_path / "covers/good.jpg").read_bytes()
    (tmp_path / "covers/cut.jpg").write_bytes(whole[: len(whole) // 2])
    return tmp_path


def test_broken_files_are_named_with_the_reason(folder: Path):
    (covers,) = open_media(datasets.load("folder", folder))
    assert (covers.column, covers.files, covers.opened) == ("cover", 3, 3)
    assert [file.item for file in covers.broken] == ["cut", "page"]
    assert all(file.reason and file.location.startswith(str(folder)) for file in covers.broken)


def test_a_sample_from_all_over_is_opened_and_all_where_asked(folder: Path):
    good = (folder / "covers/good.jpg").read_bytes()
    put(folder, {f"covers/{n:03}.jpg": good for n in range(SAMPLE + 10)})
    dataset = datasets.load("folder", folder)
    (some,), (whole,) = open_media(dataset), open_media(dataset, deep=True)
    assert (some.files, some.opened) == (SAMPLE + 13, SAMPLE)
    assert (whole.opened, [file.item for file in whole.broken]) == (SAMPLE + 13, ["cut", "page"])


def test_the_command_says_what_is_broken(folder: Path, monkeypatch, capsys):
    words = ["mmfeat", "datasets", "check", "folder", "--root", str(folder)]
    for more in ([], ["--deep"], ["--json"]):
        monkeypatch.setattr("sys.argv", [*words, *more])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        out = capsys.readouterr().out
        if more == ["--json"]:
            (covers,) = json.loads(out)["opened"]
            assert [file["item"] for file in covers["broken"]] == ["cut", "page"]
        else:
            assert "cover: 3 of 3 files opened, 2 of them cannot be decoded" in out
            assert "page: " in out


def test_pictures_in_a_tables_cells_are_opened(folder: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = [(folder / "covers" / f"{name}.jpg").read_bytes() for name in ("good", "page", "good")]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = pa.array([{"bytes": data, "path": "x.jpg"} for data in files], kind)
    pq.write_table(pa.table({"id": ["1", "2", "3"], "image": cells}), folder / "a.parquet")
    (covers,) = open_media(datasets.load("table", folder / "a.parquet"))
    assert (covers.opened, [file.item for file in covers.broken]) == (3, ["2"])
