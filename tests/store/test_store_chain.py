"""What the lists of a store were at last: nobody goes on from less; no other fault is taken for a loss."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.flaky_s3 import Fault
from helpers.storing import exported, make_rows, vector_spec, vectors
from pyarrow import fs

import mmfeat
from mmfeat.datasets.base import build_items
from mmfeat.export import Request, export_from
from mmfeat.schemas.errors import StoreError
from mmfeat.serve.live import LiveStore
from mmfeat.store import Store, accept_losses, examine, repair

IDS = [f"item-{n}" for n in range(10)]
SPECS = [vector_spec("clip", method_version=n) for n in (1, 2)]
COPIES = ("_chain/first.json", "_chain/second.json")
PROCESSES = multiprocessing.get_context("spawn")


def filled(uri: str) -> Store:
    """A store whose feature has two versions, the second current."""
    store = Store.open(uri, create=True)
    for spec in SPECS:
        with store.lease("test"):
            store.put_catalog(build_items(IDS, {"title": dict.fromkeys(IDS, "a title")}), {"name": "test"})
            version = store.add_version(spec)
            store.commit(version, make_rows(spec, IDS, vectors(len(IDS)).tolist()), replace=False)
            store.finish(version)
            store.set_current("clip", version.fingerprint)
    return store


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "store"
    filled(str(folder))
    return folder


def manifests(table: Path) -> list[Path]:
    """The newest first."""
    return sorted((table / "_versions").glob("*.manifest"))


def lose_newest_state(table: Path) -> None:
    manifests(table)[0].unlink()


def problems(folder: Path) -> list[str]:
    return sorted({damage.table for damage in examine(str(folder), deep=True)})


# Whoever writes without the lease


@pytest.mark.parametrize("lose", [lose_newest_state, shutil.rmtree], ids=["state", "folder"])
def test_exports_do_not_hide_that_the_list_of_exports_lost_some(folder, tmp_path, lose):
    for number in range(3):
        Store.open(str(folder)).exports.add(exported(number))
    lose(folder / "_exports.lance")
    for number in (4, 5):
        report = export_from(Store.open(str(folder)), Request.of("npy", tmp_path / str(number), {}))
        assert "_exports" in report.unrecorded and "lost a part" in report.unrecorded
        assert (tmp_path / str(number)).is_dir()
        assert problems(folder) == ["_exports"]
    mmfeat.open(folder).accept_losses(["_exports"])
    assert export_from(Store.open(str(folder)), Request.of("npy", tmp_path / "6", {})).unrecorded is None
    assert problems(folder) == []


def test_a_store_that_was_opened_before_others_exported_records_its_export(folder):
    early = Store.open(str(folder))
    assert early.exports.list() == []
    for number in range(3):
        Store.open(str(folder)).exports.add(exported(number))
    early.exports.add(exported(3))
    assert len(Store.open(str(folder)).exports.list()) == 4 and problems(folder) == []


# Readers


@pytest.mark.parametrize("lose", [lose_newest_state, shutil.rmtree], ids=["state", "folder"])
@pytest.mark.parametrize("name", ["_current", "_versions"])
def test_no_reader_takes_a_name_for_another_version_after_a_loss(run, folder, tmp_path, name, lose):
    live = LiveStore(str(folder))
    before = live.view().current
    lose(folder / f"{name}.lance")
    opened = mmfeat.open(folder)
    out = tmp_path / "out"
    for use in (
        opened.status,
        lambda: opened.lookup(IDS, ["clip"]),
        lambda: opened.export("npy", out),
        lambda: opened.search("clip", item=IDS[0]),
        lambda: LiveStore(str(folder)),
        live.refresh,
    ):
        with pytest.raises(StoreError, match=f"lost a part of itself. {name}") as raised:
            use()
        assert "mmfeat doctor" in raised.value.hint
    assert live.view().current == before and not out.exists()
    code, _, err = run("export", "npy", "--out", out, "--store", folder)
    assert code == 1 and name in err and "mmfeat doctor" in err
    mmfeat.open(folder).accept_losses([name])
    mmfeat.open(folder).status()


def test_readers_that_are_behind_a_writer_read_on(folder):
    early, moved = Store.open(str(folder)), LiveStore(str(folder))
    early.current()
    for spec in SPECS * 2:
        with (store := Store.open(str(folder))).lease("test"):
            store.set_current("clip", spec.fingerprint)
    assert early.resolve("clip").spec == SPECS[1]
    moved.refresh()
    assert moved.view().current == {"clip": SPECS[1].version}


def test_a_snapshot_is_read_as_it_was_whatever_the_store_has_lost(folder):
    with (store := Store.open(str(folder))).lease("test"):
        store.create_snapshot("v1")
        store.set_current("clip", SPECS[0].fingerprint)
    lose_newest_state(folder / "_current.lance")
    assert Store.open(str(folder)).at("v1").resolve("clip").spec == SPECS[1]


# What cannot be read just now


def look_as_nobody(uri: str, answers) -> None:
    """What each command that may drop something says of a store that belongs to this user; or the trouble."""
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    try:
        answers.put(looked(uri))
    except BaseException:
        answers.put(traceback.format_exc())
        raise


def looked(uri: str) -> list[object]:
    opened, said = mmfeat.open(uri), []
    found = opened.examine()
    said.append([(damage.problem, damage.mend, damage.repairable) for damage in found])
    for drop in (opened.repair, lambda _: opened.accept_losses(["_current"])):
        try:
            said.append(f"{drop(found)}")
        except StoreError as error:
            said.append(error.message)
    return said


def forbid(path: Path) -> Path:
    """Let the store be another user's, who may not read this of it."""
    store = next(parent for parent in path.parents if parent.name == "store")
    if os.getuid() == 0:
        for each in (store, *store.rglob("*")):
            os.chown(each, 65534, 65534)
    path.chmod(0)
    return path


def newest_manifest_of_current(folder: Path) -> Path:
    return manifests(folder / "_current.lance")[0]


def folder_of_current(folder: Path) -> Path:
    return folder / "_current.lance" / "_versions"


def data_of_a_feature(folder: Path) -> Path:
    table = Store.open(str(folder)).resolve("clip").table
    return next((folder / f"{table}.lance" / "data").iterdir())


@pytest.mark.parametrize("what", [newest_manifest_of_current, folder_of_current, data_of_a_feature])
def test_what_may_not_be_read_is_no_damage_and_nothing_of_it_is_dropped(folder, readable, what: Callable):
    closed = forbid(what(folder))
    answers = PROCESSES.Queue()
    process = PROCESSES.Process(target=look_as_nobody, args=(str(folder), answers))
    process.start()
    said = answers.get(timeout=120)
    process.join()
    assert not isinstance(said, str), said
    found, repaired, accepted = said
    ((problem, mend, repairable),) = found
    assert "permission denied" in problem and "look again" in mend and not repairable
    for said in (repaired, accepted) if "_current" in str(closed) else ():
        assert "permission denied" in said and "lost" not in said
    closed.chmod(0o755)
    assert problems(folder) == []
    assert mmfeat.open(folder).lookup(IDS, ["clip"])["clip"].mask.all()
    assert Store.open(str(folder)).resolve("clip").spec == SPECS[1]


# What is written down of the lists, and the header that says that it is

JUNK = [
    '[[["a",[Infinity,"y"]]]]',
    '[[["a",[1e400,"y"]]]]',
    "[" * 100_000,
    "null",
    "[[null]]",
    '[[[null,[1,"y"]]]]',
]


def make_folder(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


@pytest.mark.parametrize("content", JUNK, ids=range(len(JUNK)))
def test_a_copy_that_holds_anything_else_is_a_lost_copy(folder, content):
    (folder / COPIES[0]).write_text(content)
    assert problems(folder) == ["_chain"]
    mmfeat.open(folder).repair(mmfeat.open(folder).examine())
    assert problems(folder) == []
    for copy in COPIES:
        (folder / copy).write_text(content)
    assert problems(folder) == ["_chain"]
    mmfeat.open(folder).accept_losses(["_chain"])
    assert problems(folder) == []


@pytest.mark.parametrize("name", COPIES)
def test_a_folder_in_the_place_of_a_copy_is_a_lost_copy(folder, name):
    make_folder(folder / name)
    assert problems(folder) == ["_chain"]
    mmfeat.open(folder).repair(mmfeat.open(folder).examine())
    assert problems(folder) == []


def test_a_file_in_the_place_of_both_copies_is_their_loss(folder):
    shutil.rmtree(folder / "_chain")
    (folder / "_chain").write_text("")
    assert problems(folder) == ["_chain"]
    with pytest.raises(StoreError, match="_chain"), Store.open(str(folder)).lease("test"):
        pass
    mmfeat.open(folder).accept_losses(["_chain"])
    assert problems(folder) == []


def test_a_header_that_went_back_with_both_copies_gone_is_no_store_from_before(folder):
    shutil.rmtree(folder / "_chain")
    lose_newest_state(folder / "_store.lance")
    assert "_chain" in problems(folder)
    with pytest.raises(StoreError, match="_chain"), Store.open(str(folder)).lease("test"):
        pass
    mmfeat.open(folder).accept_losses(["_store", "_chain"])
    assert problems(folder) == []
    shutil.rmtree(folder / "_chain")
    assert problems(folder) == ["_chain"]


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("left", ["_chain", "_versions.lance"])
def test_a_store_without_its_header_is_called_that(folder, create, left):
    shutil.rmtree(folder / "_store.lance")
    shutil.rmtree(folder / ({"_chain", "_versions.lance"} - {left}).pop())
    with pytest.raises(StoreError, match="a store that has lost its header") as raised:
        Store.open(str(folder), create=create)
    assert left in raised.value.message and "backup" in raised.value.hint
    assert not (folder / "_store.lance").exists()


# Who else writes lists


def test_pruning_and_another_dataset_are_written_down(folder):
    store = Store.open(str(folder))
    with store.lease("add"):
        # Twice: a list that has one state alone cannot go back.
        for ids in (["b-1"], ["b-1", "b-2"]):
            items = build_items(ids, {"title": dict.fromkeys(ids, "b")})
            place = store.place_of(items, {"name": "other", "root": "b"}, add=True)
            store.put_catalog(items, {"name": "other", "root": "b"}, place, whole=True)
    lose_newest_state(folder / "_items.lance")
    assert problems(folder) == ["_items"]
    mmfeat.open(folder).repair(mmfeat.open(folder).examine())
    with store.lease("replace"):
        items = build_items(["c-1"], {"title": {"c-1": "c"}})
        place = store.place_of(items, {"name": "third", "root": "c"}, replace=True)
        store.put_catalog(items, {"name": "third", "root": "c"}, place, whole=True)
    assert mmfeat.open(folder).prune().items
    lose_newest_state(folder / "_items.lance")
    assert problems(folder) == ["_items"]


# Object stores


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, None])
def test_a_lost_copy_on_an_object_store_is_mended_from_the_other_one(s3, content):
    store = Store.open(s3.store, create=True)
    with store.lease("test"):
        store.set_current("clip", store.add_version(SPECS[0]).fingerprint)
    system, path = fs.FileSystem.from_uri(f"{s3.store}/{COPIES[0]}")
    if content is None:
        system.delete_file(path)
    else:
        with system.open_output_stream(path) as file:
            file.write(content)
    (damage,) = examine(s3.store)
    assert (damage.table, damage.repairable) == ("_chain", True)
    with store.lease("repair", despite_losses=True):
        repair(s3.store, [damage])
    assert examine(s3.store) == []


def test_an_object_store_that_is_too_busy_to_read_a_list_costs_it_nothing(s3):
    store = Store.open(s3.store, create=True)
    with store.lease("test"):
        store.set_current("clip", store.add_version(SPECS[0]).fingerprint)
    before = store.current()
    busy = Fault(lambda method, path: "_current.lance" in path, "503", 10_000)
    s3.faults = [busy]
    (damage,) = examine(s3.store)
    assert (damage.table, damage.repairable) == ("_current", False)
    assert "too busy" in damage.problem and "look again" in damage.mend
    with pytest.raises(StoreError, match="too busy"), Store.open(s3.store).lease("test"):
        pass
    with pytest.raises(StoreError, match="too busy"):
        accept_losses(s3.store, ["_current"])
    s3.faults = []
    assert Store.open(s3.store).current() == before and examine(s3.store) == []
