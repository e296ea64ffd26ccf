"""NineRec: tables without header, ids whose columns the releases write in either order."""

from pathlib import Path

import pytest

from mmfeat.datasets import load
from mmfeat.schemas.errors import DatasetError


def make(folder: Path, domain: str, pairs: str | None = None, covers: str | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    items = 'v17551,"韩国电影《女教师》","Korean Movie, The Governess"\nv2,只有中文,\n'
    (folder / f"{domain}_item.csv").write_text(items)
    if pairs is not None:
        (folder / f"{domain}_pair.csv").write_text(pairs)
    (folder / (covers or f"{domain}_cover")).mkdir(exist_ok=True)
    for item_id in ("v17551", "v99"):
        (folder / (covers or f"{domain}_cover") / f"{item_id}.jpg").write_bytes(b"x")
    return folder


def rows(dataset, *columns: str) -> list[tuple]:
    return list(zip(*(dataset.items[c].to_pylist() for c in columns), strict=True))


def log(dataset) -> list[tuple]:
    return [tuple(row.values())[:3] for row in dataset.interactions.to_pylist()]


def codes(dataset) -> dict[str, int]:
    return {note.code: note.count for note in dataset.notes}


@pytest.mark.parametrize(
    "pairs", ["u1,v17551,1588687728\nu1,v5,1588687729\n", "v17551,u1,1588687728\nv5,u1,1588687729\n"]
)
def test_pairs_are_read_the_same_in_either_order_of_their_columns(tmp_path, pairs):
    found = load("ninerec", make(tmp_path / "Bili_Food", "Bili_Food", pairs))
    assert rows(found, "item_id", "title", "cover") == [
        (
            "v17551",
            "Korean Movie, The Governess",
            str(tmp_path / "Bili_Food" / "Bili_Food_cover" / "v17551.jpg"),
        ),
        ("v2", None, None),
        ("v5", None, None),
    ]
    assert log(found) == [("u1", "v17551", 1588687728000), ("u1", "v5", 1588687729000)]
    assert codes(found)["other_covers"] == 1
    assert codes(found)["not_in_titles"] == 1


def test_chinese_titles_on_request_and_a_table_without_english_ones_is_refused(tmp_path):
    folder = make(tmp_path / "QB", "QB")
    assert rows(load("ninerec", folder, language="zh"), "title") == [("韩国电影《女教师》",), ("只有中文",)]
    (folder / "QB_item.csv").write_text("v1,中文\n")
    assert rows(load("ninerec", folder, language="zh"), "item_id", "title") == [("v1", "中文")]
    with pytest.raises(DatasetError, match="no title in the language 'en'") as error:
        load("ninerec", folder)
    assert error.value.hint and "language=zh" in error.value.hint


def test_domains_without_times_give_the_order_of_their_sequences(tmp_path):
    folder = make(tmp_path / "QB", "QB")
    (folder / "QB_behaviour.tsv").write_text("u14500\tv2 v17551 v2\n")
    in_order = [("u14500", "v2", None), ("u14500", "v17551", None), ("u14500", "v2", None)]
    assert log(load("ninerec", folder)) == in_order
    (folder / "QB_pair.csv").write_text("v2,u14500\n")
    assert log(load("ninerec", folder)) == in_order
    (folder / "QB_behaviour.tsv").unlink()
    assert log(load("ninerec", folder)) == [("u14500", "v2", None)]


def test_the_source_datasets_share_their_covers_and_one_is_chosen(tmp_path):
    folder = make(tmp_path, "Bili_2M", "u1,v2,1588687728\n", covers="Source_Bili_2M_cover")
    make(tmp_path, "Bili_500K", covers="Source_Bili_2M_cover")
    with pytest.raises(DatasetError, match="several domains: Bili_2M, Bili_500K") as error:
        load("ninerec", folder)
    assert error.value.hint == "Choose one: --option domain=Bili_2M."
    found = load("ninerec", folder, domain="Bili_500K")
    assert found.interactions is None
    assert rows(found, "cover")[0] == (str(tmp_path / "Source_Bili_2M_cover" / "v17551.jpg"),)
    with pytest.raises(DatasetError, match="no domain 'DY'") as error:
        load("ninerec", folder, domain="DY")
    assert error.value.hint == "There are: Bili_2M, Bili_500K."


def test_covers_alone_are_enough_and_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "KU_cover").mkdir()
    (tmp_path / "KU_cover" / "v1.jpg").write_bytes(b"x")
    assert load("ninerec", tmp_path).items["item_id"].to_pylist() == ["v1"]
    (tmp_path / "KU_cover").rename(tmp_path / "pictures")
    with pytest.raises(DatasetError, match="nothing of NineRec") as error:
        load("ninerec", tmp_path)
    assert error.value.hint
