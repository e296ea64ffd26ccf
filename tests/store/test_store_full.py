"""Commands on a disk that is full before they start, and exports to places if nothing can be written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers import unrayed
from helpers.plugins import on_path
from helpers.storing import make_rows, vector_spec
from test_store_faults import in_a_process

import mmfeat
from mmfeat.datasets.base import build_items
from mmfeat.schemas.errors import OutputError
from mmfeat.store import Retention, Store, examine

IDS = [f"item-{n}" for n in range(500)]
SPECS = [vector_spec("clip", dims=256, dtype="float32", method_version=n) for n in (1, 2)]
VECTORS = np.random.default_rng(0).standard_normal((len(IDS), 256)).astype("float32")


@pytest.fixture
def full(small_disk) -> Path:
    """A store with two versions of a feature, the first current, on a disk without a free byte."""
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    folder = small_disk / "store"
    store = Store.open(str(folder), create=True)
    for spec in SPECS:
        with store.lease("test"):
            version = store.add_version(spec)
            store.commit(version, make_rows(spec, IDS, VECTORS.tolist()), replace=False)
            store.finish(version)
            store.set_current("clip", SPECS[0].fingerprint)
    fill(small_disk / "filler")
    return folder


def fill(path: Path) -> None:
    size = 1 << 20
    with path.open("wb", buffering=0) as file:
        while size:
            try:
                file.write(b"x" * size)
            except OSError:
                size //= 2


def one_error(code: int, out: str, err: str) -> str:
    """The message of the one error that a command with --json ended in."""
    assert (code, "Traceback" in err) == (1, False), err
    (line,) = out.splitlines()
    return json.loads(line)["error"]["message"]


def new_version() -> str:
    return SPECS[1].version


def test_commands_on_a_full_disk_end_in_one_clear_error_and_leave_the_store_whole(run, full, tmp_path):
    job = tmp_path / "job.toml"
    table = unrayed.write_dataset(tmp_path / "items.csv", 0)
    job.write_text(
        f'[store]\nuri = "{full}"\n[dataset]\nname = "table"\nroot = "{table}"\n'
        '[features.titled]\nsource = "title"\nencoder = "digest"\n[resources]\nexecutor = "local"\n'
    )
    with on_path(unrayed.PLUGIN):
        said = [one_error(*run("run", job, "--json"))]
    for words in (
        ("promote", new_version()),
        ("forget", "item-3", "--reason", "r"),
        ("snapshot", "create", "now"),
    ):
        said.append(one_error(*run(*words, "--store", full, "--json")))
    assert all("the disk is full" in message for message in said), said
    assert examine(str(full), deep=True) == []
    assert mmfeat.open(full).lookup(IDS, ["clip"])["clip"].mask.all()


def test_a_prune_on_a_full_disk_ends_in_one_clear_error_and_is_done_when_there_is_space(
    run, full, small_disk
):
    subprocess.run(["mount", "-o", "remount,size=10m", str(small_disk)], check=True)
    store = Store.open(str(full))
    with store.lease("test"):
        for ids in (IDS, IDS[:-5]):
            store.put_catalog(build_items(ids, {}), {"name": "test"}, whole=True)
    fill(small_disk / "more")
    assert "the disk is full" in one_error(*run("prune", "--yes", "--store", full, "--json"))
    assert examine(str(full), deep=True) == []
    assert mmfeat.open(full).gone == IDS[-5:]
    (small_disk / "more").unlink()
    code, out, _ = run("prune", "--yes", "--store", full, "--json")
    assert (code, json.loads(out)["items"]) == (0, IDS[-5:])
    assert examine(str(full), deep=True) == []


def test_gc_frees_space_on_a_full_disk_and_is_recorded(run, full):
    with_json = ("gc", "--keep", "1", "--yes", "--store", full, "--json")
    # The newest is kept as a candidate until the other one is current.
    (full.parent / "filler").unlink()
    assert run("promote", new_version(), "--store", full)[0] == 0
    fill(full.parent / "filler")
    code, out, err = run(*with_json)
    assert code == 0, err
    told = json.loads(out)
    assert [one["name"] for one in told["garbage"]] == [SPECS[0].version] and told["freed_bytes"] > 500_000
    assert [version.version for version in Store.open(str(full)).versions()] == [new_version()]
    assert examine(str(full), deep=True) == []
    _, out, _ = run("runs", "list", "--store", full, "--json")
    assert [(r["kind"], r["end"]) for r in json.loads(out)] == [("promote", "completed"), ("gc", "completed")]


def test_forget_makes_room_of_old_states_on_a_full_disk(run, full):
    (full.parent / "filler").unlink()
    store = Store.open(str(full))
    with store.lease("test"):
        for version in store.versions() * 2:
            store.commit(version, make_rows(version.spec, IDS, (-VECTORS).tolist()), replace=True)
    fill(full.parent / "filler")
    code, out, err = run("forget", "item-3", "--reason", "r", "--store", full, "--json")
    assert code == 0, err
    assert json.loads(out)["forgotten"] == ["item-3"]
    assert mmfeat.open(full).verify_forgotten().ok and examine(str(full), deep=True) == []


@pytest.fixture
def stuck(tmp_path) -> Path:
    """A store with two versions and a forgotten item; its lists cannot be written, and there is room."""
    folder = tmp_path / "stuck"
    store = Store.open(str(folder), create=True)
    with store.lease("test"):
        items = build_items(IDS[:3], {"title": dict.fromkeys(IDS[:3], "a title")})
        store.put_catalog(items, {"name": "test"})
        for spec in SPECS:
            version = store.add_version(spec)
            store.commit(version, make_rows(spec, IDS[:3], VECTORS[:3].tolist()), replace=False)
            store.set_current("clip", version.fingerprint)
    mmfeat.open(folder).forget([IDS[2]], "asked to", cache=tmp_path / "cache")
    with store.lease("test"):
        store.commit(version, make_rows(version.spec, IDS[:2], (-VECTORS[:2]).tolist()), replace=True)
    for name in ("_versions", "_forgotten"):
        transactions = folder / f"{name}.lance" / "_transactions"
        shutil.rmtree(transactions)
        transactions.write_text("")
    return folder


def files_of_features(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("clip-*/**/*") if path.is_file())


def test_gc_that_fails_for_another_reason_removes_no_file_before_its_record(run, stuck):
    before = files_of_features(stuck)
    message = one_error(*run("gc", "--keep", "1", "--yes", "--store", stuck, "--json"))
    assert "_versions" in message and files_of_features(stuck) == before
    assert mmfeat.open(stuck).lookup(IDS[:2], [SPECS[0].version])["clip"].mask.all()


def test_forget_that_fails_for_another_reason_throws_no_old_state_away(run, stuck):
    before = files_of_features(stuck)
    message = one_error(*run("forget", IDS[0], "--reason", "r", "--store", stuck, "--json"))
    assert "_forgotten" in message and files_of_features(stuck) == before


def test_a_lease_is_taken_without_room_for_who_holds_it(full):
    store = Store.open(str(full))
    with store.lease("test"):
        assert store.retaining.survey(Retention(versions=2)).garbage == []
    assert (full / "_writer.lock").stat().st_size == 0


# Exports


@pytest.fixture
def small(tmp_path) -> Path:
    store = Store.open(str(tmp_path / "small"), create=True)
    with store.lease("test"):
        store.put_catalog(
            build_items(IDS[:3], {"title": dict.fromkeys(IDS[:3], "a title")}), {"name": "test"}
        )
        version = store.add_version(SPECS[0])
        store.commit(version, make_rows(SPECS[0], IDS[:3], VECTORS[:3].tolist()), replace=False)
    return tmp_path / "small"


@pytest.mark.parametrize("inside", ["out", "new/out"])
def test_an_export_to_a_disk_that_may_only_be_read_says_so(run, small, small_disk, inside):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    out = small_disk / inside
    message = one_error(*run("export", "npy", "--out", out, "--store", small, "--json"))
    assert message == f"Cannot write {out}: Read-only file system."


@pytest.mark.parametrize("inside", ["a-file/out", "a-file/new/out", "n" * 300, "n" * 300 + "/out"])
def test_an_export_to_a_path_that_cannot_be_says_so(run, small, tmp_path, inside):
    (tmp_path / "a-file").write_text("")
    message = one_error(*run("export", "npy", "--out", inside, "--store", small, "--json"))
    assert message.startswith(f"Cannot write {inside}: ")
    assert ("is a file" if "a-file" in inside else "too long") in message


def test_an_export_in_the_place_of_a_file_is_wrong_use(run, small, tmp_path):
    (tmp_path / "a-file").write_text("")
    code, out, _ = run("export", "npy", "--out", "a-file", "--store", small, "--json")
    assert (code, json.loads(out)["error"]["message"]) == (2, "a-file is not a folder.")


def test_an_export_to_a_full_disk_says_so_and_leaves_nothing(run, small, small_disk):
    fill(small_disk / "filler")
    message = one_error(*run("export", "npy", "--out", small_disk / "out", "--store", small, "--json"))
    assert message == f"Cannot write {small_disk / 'out'}: No space left on device."
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def export_as_nobody(uri: str, out: Path, answers) -> None:
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    try:
        mmfeat.open(uri).export("npy", out)
        answers.put("written")
    except OutputError as error:
        answers.put(error.message)


def test_an_export_where_one_may_not_write_says_so(small, readable):
    closed = readable / "closed"
    closed.mkdir(mode=0o755)
    if os.getuid() != 0:
        closed.chmod(0o555)
    said = in_a_process(export_as_nobody, str(small), closed / "out")
    assert said == f"Cannot write {closed / 'out'}: Permission denied."
