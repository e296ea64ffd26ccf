"""Lists of a store that go back, away or bad: noticed by doctor and by whoever would write, never an 'ok'."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
from helpers.flaky_s3 import FlakyS3
from helpers.interaction_rows import interactions_of
from helpers.storing import exported, make_rows, text_spec, vector_spec, vectors
from pyarrow import fs

import mmfeat
from mmfeat.schemas.catalog import CATALOG_SCHEMA, STAMPS_SCHEMA
from mmfeat.schemas.errors import StoreError, UsageError
from mmfeat.store import Store, accept_losses, examine
from mmfeat.store.lists import LISTS, PRECIOUS

IDS = [f"item-{n}" for n in range(30)]
GONE = ("item-3", "item-4", "item-5")
CHAIN = ("_chain/first.json", "_chain/second.json")


def filled(uri: str) -> Store:
    """A store each of whose lists was written several times."""
    store = Store.open(uri, create=True)
    with store.lease("test"):
        write_once(store, 0, IDS)
    for item in GONE:
        mmfeat.open(uri).forget([item], "asked to", cache=Path("/nonexistent"))
    for turn in (1, 2):
        with store.lease("test"):
            # One snapshot alone is quicker to look through.
            store.delete_snapshot(f"v{turn - 1}")
            write_once(store, turn, [i for i in IDS if i not in GONE])
    for number in range(3):
        store.exports.add(exported(number))
    return store


def write_once(store: Store, turn: int, ids: list[str]) -> None:
    number = len(ids)
    titles = {"item_id": ids, "title": [f"{turn} {i}" for i in ids]}
    nulls = {name: [None] * number for name in CATALOG_SCHEMA.names if name not in titles}
    store.put_catalog(pa.table(titles | nulls, schema=CATALOG_SCHEMA), {"name": "test", "turn": turn})
    store.put_interactions(interactions_of(("u", item_id, turn) for item_id in ids))
    stamp = {"item_id": ids, "source": ["cover"] * number, "stamp": [f"{turn}"] * number}
    store.put_stamps(pa.table(stamp | {"content_hash": ["h"] * number}, schema=STAMPS_SCHEMA))
    store.record_run({"run_id": f"r{turn}", "end": "completed"})
    store.logs.add(f"r{turn}", [(datetime.now(UTC), "said")])
    spec = vector_spec("clip", method_version=turn + 1)
    version = store.add_version(spec)
    given_out = np.array([[turn, 0, 1]], np.int32)
    store.put_collision_numbers(version, given_out, given_out)
    store.commit(version, make_rows(spec, ids, vectors(number).tolist()), replace=True)
    store.put_codebooks(version.fingerprint, b"state", {"error": turn})
    store.put_canary(version, f"{turn}")
    store.put_evaluation("clip", f"{turn}", "{}")
    store.finish(version)
    store.set_current("clip", version.fingerprint)
    store.create_snapshot(f"v{turn}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "store"
    filled(str(folder))
    return folder


# What befalls a table.


def manifests(table: Path) -> list[Path]:
    """The newest first."""
    return sorted((table / "_versions").glob("*.manifest"))


def remove_folder(table: Path) -> None:
    shutil.rmtree(table)


def remove_newest_manifest(table: Path) -> None:
    manifests(table)[0].unlink()


def remove_two_newest_manifests(table: Path) -> None:
    for path in manifests(table)[:2]:
        path.unlink()


def remove_newest_manifest_and_its_hint(table: Path) -> None:
    (table / "_versions" / "latest_version_hint.json").unlink()
    remove_newest_manifest(table)


def newest_data_file(table: Path) -> Path:
    files = [file.path for f in lance.dataset(str(table)).get_fragments() for file in f.data_files()]
    return table / "data" / files[-1]


def remove_data_file(table: Path) -> None:
    newest_data_file(table).unlink()


def cut_data_file(table: Path) -> None:
    path = newest_data_file(table)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty_data_file(table: Path) -> None:
    newest_data_file(table).write_bytes(b"")


def copy_older_manifest_over_newest(table: Path) -> None:
    newest, older = manifests(table)[:2]
    shutil.copyfile(older, newest)


def copy_newest_manifest_of_another_list(table: Path) -> None:
    other = next(t for t in sorted(table.parent.glob("_*.lance")) if t != table)
    shutil.copyfile(manifests(other)[0], manifests(table)[0])


HARMS = [
    remove_folder,
    remove_newest_manifest,
    remove_two_newest_manifests,
    remove_newest_manifest_and_its_hint,
    remove_data_file,
    cut_data_file,
    empty_data_file,
    copy_older_manifest_over_newest,
    copy_newest_manifest_of_another_list,
]
Harm = Callable[[Path], None]

# Tried on one list of each kind alone: nothing but the name tells the others apart.
RARE = [
    remove_two_newest_manifests,
    remove_newest_manifest_and_its_hint,
    remove_data_file,
    empty_data_file,
    copy_newest_manifest_of_another_list,
]
OF_EACH_KIND = ["_forgotten", "_runs", "_files"]


def befalling(harms: list[Harm], names: Iterable[str]) -> list:
    """Parameters: each harm with each list, a rare one with few."""
    return [
        pytest.param(name, harm, id=f"{name}-{harm.__name__}")
        for name in names
        for harm in harms
        if harm not in RARE or name in OF_EACH_KIND
    ]


def problems(folder: Path, deep: bool = False) -> list[str]:
    """What doctor would say: where the store does not open, that is it."""
    try:
        return sorted({damage.table for damage in mmfeat.open(folder).examine(deep)})
    except StoreError:
        return ["the store"]


def test_every_list_is_in_the_store_that_is_harmed_and_has_several_states(folder):
    assert {path.stem for path in folder.glob("_*.lance")} == set(LISTS)
    few = {name for name in LISTS if len(manifests(folder / f"{name}.lance")) < 3}
    assert few == {"_store"}, "the header is written twice: when it is made and by the first writer"
    assert problems(folder) == problems(folder, deep=True) == []


@pytest.mark.parametrize(("name", "harm"), befalling(HARMS, LISTS))
def test_whatever_is_lost_of_a_list_is_noticed(folder, name, harm: Harm):
    harm(folder / f"{name}.lance")
    assert problems(folder) in ([name], ["the store"])


STATES = [harm for harm in HARMS if "data_file" not in harm.__name__]
SOME = [remove_folder, remove_two_newest_manifests, cut_data_file, copy_older_manifest_over_newest]


@pytest.mark.parametrize(("name", "harm"), befalling(STATES, LISTS))
def test_no_writer_goes_on_from_a_list_that_is_not_what_it_was(folder, name, harm: Harm):
    harm(folder / f"{name}.lance")
    before = sorted(path for path in folder.rglob("*") if path.is_file())
    with pytest.raises(StoreError) as raised, Store.open(str(folder)).lease("test"):
        raise AssertionError("it may write")
    assert name in raised.value.message or "no store" in raised.value.message
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == before


@pytest.mark.parametrize("copy", CHAIN)
@pytest.mark.parametrize("content", [None, b"", b"{}", b'[[["_forgotten", [1, "x"]]], "0"]', b"\xff"])
def test_a_lost_copy_of_what_the_lists_were_is_noticed_and_mended_from_the_other(folder, copy, content):
    told = (folder / copy).read_bytes()
    (folder / copy).unlink() if content is None else (folder / copy).write_bytes(content)
    assert problems(folder) == ["_chain"]
    opened = mmfeat.open(folder)
    opened.repair(opened.examine())
    assert problems(folder) == []
    states = {name for name, _ in json.loads((folder / copy).read_bytes())[0]}
    assert states == {name for name, _ in json.loads(told)[0]} == set(LISTS)


def test_an_older_copy_of_what_the_lists_were_hides_no_loss(folder):
    for copy in CHAIN:
        older = (folder / copy).read_bytes()
        mmfeat.open(folder).forget(["item-7"], "asked to", cache=folder.parent / "cache")
        (folder / copy).write_bytes(older)
        assert problems(folder) == []
        remove_newest_manifest(folder / "_forgotten.lance")
        assert problems(folder) == ["_forgotten"]
        mmfeat.open(folder).accept_losses(["_forgotten"])


def test_without_any_copy_no_list_can_be_checked_and_that_is_said(folder):
    shutil.rmtree(folder / "_chain")
    (damage,) = examine(str(folder))
    assert (damage.table, damage.repairable) == ("_chain", False)
    assert "--accept-loss _chain" in damage.mend
    with pytest.raises(StoreError, match="_chain"), Store.open(str(folder)).lease("test"):
        pass
    assert mmfeat.open(folder).accept_losses(["_chain"]) == ["_chain"]
    assert problems(folder) == []
    remove_newest_manifest(folder / "_forgotten.lance")
    assert problems(folder) == ["_forgotten"]


def delete_snapshots_that_lost_it(folder: Path) -> None:
    """A snapshot of a list that is lost is lost too, and deleting it is for people to decide."""
    opened = mmfeat.open(folder)
    for what in {damage.what for damage in opened.examine()}:
        opened.delete_snapshot(what.removeprefix("snapshot "))


@pytest.mark.parametrize(("name", "harm"), befalling(SOME, [name for name in PRECIOUS if name != "_store"]))
def test_what_cannot_be_made_again_is_dropped_only_by_who_accepts_the_loss(folder, name, harm: Harm):
    harm(folder / f"{name}.lance")
    opened = mmfeat.open(folder)
    found = opened.examine()
    for damage in found:
        assert (damage.table, damage.repairable) == (name, False)
        assert "backup" in damage.mend and f"--accept-loss {name}" in damage.mend
    assert opened.repair(found) == [] and problems(folder) == [name]
    assert opened.accept_losses([name]) == [name]
    delete_snapshots_that_lost_it(folder)
    assert problems(folder, deep=True) == []


@pytest.mark.parametrize(("name", "harm"), befalling(SOME, [name for name in LISTS if name not in PRECIOUS]))
def test_what_the_next_run_makes_again_is_mended_by_repair(folder, name, harm: Harm):
    harm(folder / f"{name}.lance")
    opened = mmfeat.open(folder)
    found = opened.examine()
    assert opened.repair(found) == found
    delete_snapshots_that_lost_it(folder)
    assert problems(folder) == []
    store = Store.open(str(folder))
    with store.lease("test"):
        write_once(store, 3, [i for i in IDS if i not in GONE])
    assert problems(folder, deep=True) == []


def test_no_forgotten_item_comes_back_from_a_list_that_lost_its_newest_state(folder):
    remove_two_newest_manifests(folder / "_forgotten.lance")
    store = Store.open(str(folder))
    assert "item-5" not in {t.item_id for t in store.forgetting.tombstones() if t.done}, "no reader can tell"
    with (
        pytest.raises(
            StoreError, match=r"_forgotten, the list of forgotten items: its last 2 states are gone"
        ),
        store.lease("test"),
    ):
        store.put_catalog(store.catalog(), {"name": "test"})


def test_a_list_that_does_not_exist_cannot_be_accepted(folder):
    with pytest.raises(UsageError, match="no list 'clip'") as raised:
        mmfeat.open(folder).accept_losses(["clip"])
    assert "_forgotten" in raised.value.hint


# What must raise no alarm.


@pytest.mark.parametrize("copies", [(), CHAIN, CHAIN[:1], CHAIN[1:]])
def test_a_writer_killed_before_it_wrote_down_what_a_list_is_at_raises_no_alarm(folder, copies):
    before = {copy: (folder / copy).read_bytes() for copy in copies}
    store = Store.open(str(folder))
    with store.lease("test"):
        store.record_run({"run_id": "r9", "end": "completed"})
        store.create_snapshot("later")
    for copy, told in before.items():
        (folder / copy).write_bytes(told)
    assert problems(folder) == problems(folder, deep=True) == []
    with Store.open(str(folder)).lease("test"):
        pass
    remove_newest_manifest(folder / "_snapshots.lance")
    assert problems(folder) == ["_snapshots"], "the next writer wrote it down"


def test_a_store_from_before_this_was_written_down_gets_it_from_its_first_writer(folder):
    shutil.rmtree(folder / "_chain")
    header = lance.dataset(str(folder / "_store.lance"))
    lance.write_dataset(header.to_table().replace_schema_metadata(None), header, mode="overwrite")
    assert problems(folder) == []
    assert mmfeat.open(folder).lookup(["item-7"], ["clip"])["clip"].mask.all()
    with Store.open(str(folder)).lease("test"):
        pass
    assert problems(folder) == [] and all((folder / copy).exists() for copy in CHAIN)
    remove_newest_manifest(folder / "_current.lance")
    assert problems(folder) == ["_current"]


def test_exports_that_two_processes_note_at_once_are_all_written_down(folder):
    from concurrent.futures import ThreadPoolExecutor

    stores = [Store.open(str(folder)) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: stores[n % 4].exports.add(exported(10 + n)), range(12)))
    assert problems(folder) == []
    remove_newest_manifest(folder / "_exports.lance")
    assert problems(folder) == ["_exports"]


def test_a_restored_backup_is_whole(folder, tmp_path):
    backup = shutil.copytree(folder, tmp_path / "backup")
    mmfeat.open(folder).forget(["item-8"], "asked to", cache=tmp_path / "cache")
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)
    assert problems(folder, deep=True) == []
    mmfeat.open(folder).forget(["item-9"], "asked to", cache=tmp_path / "cache")
    # One list alone, of the backup, is no restored store.
    shutil.rmtree(folder / "_forgotten.lance")
    shutil.copytree(backup / "_forgotten.lance", folder / "_forgotten.lance")
    assert problems(folder) == ["_forgotten"]


# On the command line, and on an object store.


def test_doctor_says_it_and_goes_on_where_the_loss_is_accepted(run, folder):
    shutil.rmtree(folder / "_forgotten.lance")
    code, out, _ = run("doctor", "--store", folder, "--repair")
    told = " ".join(out.split())  # lines break where the folder's name lets them
    assert code == 1 and "the list of forgotten items" in told and "--accept-loss _forgotten" in told
    code, _, err = run("snapshot", "create", "now", "--store", folder)
    assert code == 1 and "_forgotten" in err and "mmfeat doctor" in err
    code, out, _ = run("doctor", "--store", folder, "--accept-loss", "_forgotten")
    assert code == 0 and "accepted" in out
    assert run("snapshot", "create", "now", "--store", folder)[0] == 0
    code, _, err = run("doctor", "--accept-loss", "_forgotten")
    assert code == 2 and "--store" in err
    code, _, err = run("doctor", "--store", folder, "--accept-loss", "_nothing")
    assert code == 2 and "_nothing" in err


def test_lists_on_an_object_store_are_watched_too(monkeypatch):
    server = FlakyS3()
    for variable, value in server.environment.items():
        monkeypatch.setenv(variable, value)
    uri = server.store
    store = Store.open(uri, create=True)
    with store.lease("test"):
        store.add_version(text_spec())
        store.forgetting.begin(["a"], "asked to")
        store.forgetting.finish(resumed=False)
    assert examine(uri) == []
    system, path = fs.FileSystem.from_uri(f"{uri}/_forgotten.lance/_versions")
    newest = sorted(f.path for f in system.get_file_info(fs.FileSelector(path)) if "manifest" in f.path)[0]
    system.delete_file(newest)
    assert [damage.table for damage in examine(uri)] == ["_forgotten"]
    with pytest.raises(StoreError, match="_forgotten"), Store.open(uri).lease("test"):
        pass
    with Store.open(uri).lease("test", despite_losses=True):
        accept_losses(uri, ["_forgotten"])
    assert examine(uri) == []
    server.stop()
