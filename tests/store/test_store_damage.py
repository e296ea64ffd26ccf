"""Files of a store that are cut, changed or removed: found, named, mended; and the rest stays of use."""

from __future__ import annotations

import random
from pathlib import Path

import lance
import pytest
from helpers.storing import make_rows, text_spec, vector_spec, vectors

import mmfeat
from mmfeat.schemas.errors import StoreError
from mmfeat.store import Damage, Store, examine, repair

IDS = [f"item-{n}" for n in range(300)]
VECTORS = vectors(len(IDS), dims=64, dtype="float32")
CLIP, CAPTION = vector_spec("clip", dims=64, dtype="float32"), text_spec()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with 300 items in two features, each in three files of 100 rows."""
    store = Store.open(str(tmp_path / "store"), create=True)
    with store.lease("test"):
        for spec, values in ((CLIP, VECTORS.tolist()), (CAPTION, [f"caption of {i}" for i in IDS])):
            version = store.add_version(spec)
            for start in range(0, len(IDS), 100):
                part = slice(start, start + 100)
                store.commit(version, make_rows(spec, IDS[part], values[part]), replace=False)
            table = lance.dataset(str(tmp_path / "store" / f"{version.table}.lance"))
            table.create_scalar_index("item_id", "BTREE", name="item_id_idx")
            store.set_current(version.name, version.fingerprint)
    return tmp_path / "store"


def table_of(folder: Path, spec) -> Path:
    return folder / f"{Store.open(str(folder)).resolve(spec.name).table}.lance"


def data_file(folder: Path, spec, fragment: int) -> Path:
    table = table_of(folder, spec)
    return table / "data" / lance.dataset(str(table)).get_fragment(fragment).data_files()[0].path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_in_the_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    path.write_bytes(data)


def mend(folder: Path, found: list[Damage]) -> list[Damage]:
    with Store.open(str(folder)).lease("test"):
        return repair(str(folder), found)


def test_a_sound_store_has_no_damage(folder):
    assert examine(str(folder)) == examine(str(folder), deep=True) == []


@pytest.mark.parametrize("harm", [cut, Path.unlink])
def test_a_lost_data_file_is_named_with_its_feature_and_rows_and_costs_only_these(folder, harm):
    harm(data_file(folder, CLIP, 1))
    (found,) = examine(str(folder))
    assert (found.what, found.items) == (f"feature {CLIP.version}", 100)
    assert found.repairable and "--repair" in found.mend
    # The damaged feature says so, the other is as it was.
    opened = mmfeat.open(folder)
    with pytest.raises(StoreError, match=f"Could not read {CLIP.version}"):
        opened.lookup(IDS, ["clip"])
    assert opened.lookup(IDS, ["caption"])["caption"].mask.all()
    status = {s.version: s for s in opened.status()}
    assert status[CAPTION.version].ok == 300 and status[CAPTION.version].problem == ""
    assert "Could not read" in status[CLIP.version].problem

    assert mend(folder, [found]) == [found]
    assert examine(str(folder), deep=True) == []
    column = mmfeat.open(folder).lookup(IDS, ["clip"], unknown="mask")["clip"]
    assert column.status.tolist() == ["ok"] * 100 + ["absent"] * 100 + ["ok"] * 100
    assert (column.matrix[:100] == VECTORS[:100]).all() and (column.matrix[200:] == VECTORS[200:]).all()
    store = Store.open(str(folder))
    with store.lease("test"):
        rows = make_rows(CLIP, IDS[100:200], VECTORS[100:200].tolist())
        store.commit(store.resolve("clip"), rows, replace=False)
        store.finish(store.resolve("clip"))
    assert (mmfeat.open(folder).lookup(IDS, ["clip"])["clip"].matrix == VECTORS).all()


def test_a_flipped_bit_in_a_vector_is_found_by_the_deep_look(folder):
    with (store := Store.open(str(folder))).lease("test"):
        store.finish(store.resolve("clip"))
    (fragment,) = lance.dataset(str(table_of(folder, CLIP))).get_fragments()
    path = data_file(folder, CLIP, fragment.fragment_id)
    data = path.read_bytes()
    at = data.index(VECTORS[7].tobytes()) + 1
    path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
    assert mmfeat.open(folder).lookup(["item-7"], ["clip"])["clip"].mask.all(), "no reader can tell"
    assert examine(str(folder)) == []
    (found,) = examine(str(folder), deep=True)
    assert (found.what, found.items) == (f"feature {CLIP.version}", 300)
    assert "not what was written" in found.problem and path.name in found.problem
    mend(folder, [found])
    assert examine(str(folder), deep=True) == []
    assert mmfeat.open(folder).lookup(["item-7"], ["clip"], unknown="mask")["clip"].status[0] == "absent"


@pytest.mark.parametrize("harm", [cut, Path.unlink])
def test_a_lost_index_is_found_and_dropped_and_no_row_is_lost(folder, harm):
    for path in (table_of(folder, CLIP) / "_indices").rglob("page_data.lance"):
        harm(path)
    (found,) = examine(str(folder))
    assert found.what == f"feature {CLIP.version}" and "index" in found.problem
    mend(folder, [found])
    assert examine(str(folder), deep=True) == []
    assert (mmfeat.open(folder).lookup(IDS, ["clip"])["clip"].matrix == VECTORS).all()


@pytest.mark.parametrize("harm", [cut, flip_in_the_middle, Path.unlink])
def test_a_lost_manifest_takes_the_table_back_to_the_state_before_it_and_this_is_noticed(folder, harm):
    store = Store.open(str(folder))
    with store.lease("test"):
        store.finish(store.resolve("clip"))
        store.commit(store.resolve("clip"), make_rows(CLIP, ["new"], [[0.5] * 64]), replace=False)
        store.finish(store.resolve("clip"))
    newest = min((table_of(folder, CLIP) / "_versions").glob("*.manifest"))
    harm(newest)
    found = examine(str(folder), deep=True)
    assert {damage.what for damage in found} == {f"feature {CLIP.version}"}
    assert mend(folder, found) == found
    assert examine(str(folder), deep=True) == []
    assert (mmfeat.open(folder).lookup(IDS, ["clip"])["clip"].matrix == VECTORS).all()
    assert mmfeat.open(folder).lookup(IDS, ["caption"])["caption"].mask.all()


def test_a_table_that_is_gone_is_named_and_made_anew(folder):
    import shutil

    shutil.rmtree(table_of(folder, CLIP))
    (found,) = examine(str(folder))
    assert (found.what, found.problem) == (f"feature {CLIP.version}", "its table is gone")
    with pytest.raises(StoreError, match=r"table of clip@.* is gone"):
        mmfeat.open(folder).lookup(IDS, ["clip"])
    mend(folder, [found])
    store = Store.open(str(folder))
    with store.lease("test"):
        version = store.add_version(CLIP)
        store.commit(version, make_rows(CLIP, IDS, VECTORS.tolist()), replace=False)
    assert examine(str(folder)) == []
    assert (mmfeat.open(folder).lookup(IDS, ["clip"])["clip"].matrix == VECTORS).all()


def test_what_cannot_be_made_again_is_not_dropped(folder):
    for path in (folder / "_versions.lance" / "data").iterdir():
        cut(path)
    found = [damage for damage in examine(str(folder)) if damage.table == "_versions"]
    assert len(found) == 1 and not found[0].repairable and "backup" in found[0].mend
    before = sorted(p.name for p in (folder / "_versions.lance" / "data").iterdir())
    assert mend(folder, found) == []
    assert sorted(p.name for p in (folder / "_versions.lance" / "data").iterdir()) == before


def test_a_snapshot_that_lost_a_file_is_named_and_can_be_deleted(folder):
    store = Store.open(str(folder))
    with store.lease("test"):
        store.create_snapshot("v1")
        old = data_file(folder, CLIP, 0)
        store.finish(store.resolve("clip"))
    old.unlink()
    (found,) = examine(str(folder))
    assert (found.what, found.items, found.repairable) == ("snapshot v1", 100, False)
    assert "mmfeat snapshot delete v1" in found.mend
    mmfeat.open(folder).delete_snapshot("v1")
    assert examine(str(folder)) == []


@pytest.mark.parametrize("content", [b"", b"\x00\xff not json", b'{"pid": 1}'])
def test_a_damaged_lock_file_keeps_nobody_out(folder, content):
    (folder / "_writer.lock").write_bytes(content)
    with Store.open(str(folder)).lease("test"):
        pass
    assert examine(str(folder)) == []


def test_whatever_is_done_to_any_file_no_look_at_the_store_fails_or_hangs(folder):
    with (store := Store.open(str(folder))).lease("test"):
        store.create_snapshot("v1")
        store.finish(store.resolve("clip"))
    chance = random.Random(0)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and "_store.lance" not in str(p))
    for path in chance.sample(files, 40):
        data = path.read_bytes()
        for harm in (cut, flip_in_the_middle, Path.unlink):
            if data:
                harm(path)
            examine(str(folder), deep=True)
            path.write_bytes(data)
    assert examine(str(folder), deep=True) == []


def test_doctor_names_the_damage_mends_it_and_is_content(run, folder):
    data_file(folder, CLIP, 1).unlink()
    code, out, _ = run("doctor", "--store", folder)
    assert code == 1
    assert f"feature {CLIP.version}" in out and "100 rows cannot be read" in out and "--repair" in out
    code, out, _ = run("doctor", "--store", folder, "--repair")
    assert code == 0 and "mended" in out
    code, out, _ = run("doctor", "--store", folder, "--deep")
    assert code == 0
    code, _, err = run("doctor", "--repair")
    assert code == 2 and "--store" in err
