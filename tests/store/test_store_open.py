from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import lance
import lancedb
import pyarrow as pa
import pytest
from helpers.storing import make_rows, text_spec, vector_spec

from mmfeat.schemas.errors import StoreError
from mmfeat.store import Store


def test_opening_where_there_is_no_store_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"There is no store at .*nowhere \(looked for _store\.lance"
    ) as caught:
        Store.open(str(tmp_path / "nowhere"))
    assert "mmfeat extract" in str(caught.value.hint)
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_of_other_files_is_never_made_a_store(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"")
    with pytest.raises(StoreError, match=r"not a store and not empty: it holds 'photos.zip'"):
        Store.open(str(tmp_path), create=True)
    with pytest.raises(StoreError, match="There is no store"):
        Store.open(str(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["photos.zip"]


def test_a_file_is_not_a_store(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"")
    for create in (False, True):
        with pytest.raises(StoreError, match=r"is a file|Cannot make"):
            Store.open(str(tmp_path / "store"), create=create)


def test_a_store_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    Store.open(str(tmp_path), create=True)
    header = lance.dataset(str(tmp_path / "_store.lance"))
    header.update({"format": "4"})
    with pytest.raises(StoreError, match="has format 4; this mmfeat reads up to 3") as caught:
        Store.open(str(tmp_path))
    assert "Upgrade" in str(caught.value.hint)


def test_a_killed_first_creation_is_completed(tmp_path: Path) -> None:
    # What is on disk before Lance has written the first manifest.
    (tmp_path / "_store.lance" / "data").mkdir(parents=True)
    (tmp_path / "_writer.lock").touch()
    store = Store.open(str(tmp_path), create=True)
    assert store.versions() == []
    assert Store.open(str(tmp_path)).catalog().num_rows == 0


def test_creating_again_opens_what_is_there(store: Store) -> None:
    version = store.add_version(vector_spec())
    again = Store.open(store.uri, create=True)
    assert again.versions() == [version]


def test_file_uris_relative_paths_and_trailing_slashes_name_the_same_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    uris = {
        Store.open(uri, create=True).uri for uri in ("s", "s/", f"file://{tmp_path}/s", str(tmp_path / "s"))
    }
    assert uris == {str(tmp_path / "s")}


def test_any_lancedb_client_can_read_the_store(store: Store) -> None:
    for number in range(15):
        spec = vector_spec(name=f"f{number}")
        store.commit(store.add_version(spec), make_rows(spec, ["a"], [[1, 2, 3, 4]]), replace=False)
    database = lancedb.connect(store.uri)
    table = store.resolve("f7").table
    assert table in database.list_tables(limit=100).tables
    found = database.open_table(table).search([1, 2, 3, 4]).distance_type("cosine").to_list()
    assert [row["item_id"] for row in found] == ["a"]


def test_importing_the_store_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'ray', 'transformers', 'lancedb'}"
    code = f"import sys, mmfeat.store; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_writing_without_the_lease_is_refused(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path), create=True)
    for write in (
        lambda: store.add_version(text_spec()),
        lambda: store.put_interactions(None),
        lambda: store.set_current("caption", "0"),
    ):
        with pytest.raises(StoreError, match="needs its lease"):
            write()


def test_a_damaged_table_is_an_error_with_its_name(store: Store) -> None:
    spec = vector_spec()
    version = store.add_version(spec)
    store.commit(version, make_rows(spec, ["a"], [[1, 2, 3, 4]]), replace=False)
    for file in Path(store.uri, f"{version.table}.lance", "data").iterdir():
        file.write_bytes(b"garbage" * 100)
    with pytest.raises(StoreError, match="clip_image@"):
        Store.open(store.uri).ledger(version)


def test_a_reader_keeps_its_view_until_it_refreshes(store: Store) -> None:
    spec = vector_spec()
    version = store.add_version(spec)
    reader = Store.open(store.uri)
    assert reader.counts(version) == {}
    store.commit(version, make_rows(spec, ["a"], [[1, 2, 3, 4]]), replace=False)
    assert reader.counts(version) == {}
    reader.refresh()
    assert reader.counts(version) == {"ok": 1}
    assert store.counts(version) == {"ok": 1}


def test_a_reader_survives_compaction_and_cleanup(store: Store) -> None:
    spec = vector_spec()
    version = store.add_version(spec)
    for k in range(5):
        store.commit(version, make_rows(spec, [f"{k}"], [[k, 2, 3, 4]]), replace=False)
    reader = Store.open(store.uri)
    before = reader.lookup(["3", "0"], unknown="mask")["clip_image"].matrix.tobytes()
    store.finish(version)
    store.commit(version, make_rows(spec, ["3"], [[9, 9, 9, 9]]), replace=True)
    store.finish(version)
    assert reader.lookup(["3", "0"], unknown="mask")["clip_image"].matrix.tobytes() == before
    assert isinstance(reader.catalog(), pa.Table)
