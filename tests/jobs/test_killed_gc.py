"""``gc`` killed with -9 at each of its steps: what stays can be read, and the next one finishes."""

from __future__ import annotations

import functools
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers.processes import PROCESSES
from helpers.storing import make_rows, vector_spec, vectors

from mmfeat.store import Retention, Store, canaries, codebooks, digests, folders, garbage
from mmfeat.store.database import Database
from mmfeat.store.schema import CANARIES_SCHEMA, CODEBOOKS_SCHEMA, FILES_SCHEMA
from mmfeat.store.snapshots import Snapshots
from mmfeat.store.versions import Versions

# Everything that gc changes a store through; a call within a call is a step of its own.
STEPS: tuple[tuple[Any, str], ...] = (
    (Snapshots, "delete"), (Snapshots, "remove_unknown_tags"), (Versions, "remove"), (Database, "delete"),
    (codebooks, "remove"), (canaries, "remove"), (digests, "forget"), (folders, "remove"),
    (garbage, "clean_up"),
)  # fmt: skip
KEEP = Retention(versions=1, snapshots=0)


@pytest.fixture(scope="module")
def littered(tmp_path_factory) -> Path:
    """A store of which gc keeps one version; two, a snapshot and leftovers go."""
    store = Store.open(str(tmp_path_factory.mktemp("littered") / "store"), create=True)
    with store.lease("test"):
        for number in (1, 2, 3):
            spec = vector_spec(method_version=number)
            version = store.add_version(spec)
            store.commit(version, make_rows(spec, ["a", "b"], list(vectors(2))), replace=False)
            store.finish(version)
            codebooks.put(store.retaining._database, version.fingerprint, b"fitted", {})
            store.put_canary(version, "{}")
            answers = Path(store.uri, "_requests", version.fingerprint)
            answers.mkdir(parents=True)
            (answers / "one.json").write_text("{}")
            store.promotion.promote([version])
        store.create_snapshot("then")
        (answers.parent / ("ab" * 32)).mkdir()
    return Path(store.uri)


def collect(uri: str) -> None:
    store = Store.open(uri)
    with store.lease("gc"):
        store.retaining.collect(store.retaining.survey(KEEP))


def collect_and_die(uri: str, at: int) -> None:
    """``gc`` in a process that dies at the start of its step ``at``, from 1."""
    reached = 0

    def dying(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal reached
            reached += 1
            if reached == at:
                if method.__module__ == folders.__name__:
                    _remove_one_file(Path(uri, args[1]))
                os.kill(os.getpid(), signal.SIGKILL)
            return method(*args, **kwargs)

        return step

    for owner, name in STEPS:
        setattr(owner, name, dying(getattr(owner, name)))
    collect(uri)


def _remove_one_file(folder: Path) -> None:
    """As a removal of the folder does that was cut short."""
    if files := sorted(path for path in folder.rglob("*") if path.is_file()):
        files[0].unlink()


def readable(uri: Path) -> dict[str, pa.Table]:
    """The rows of every version that a reader finds, in the store and in its snapshots."""
    store = Store.open(str(uri))
    views = [store, *(store.at(snapshot.name) for snapshot in store.snapshots())]
    return {v.version: view.full_rows(v, ["a", "b"]) for view in views for v in view.versions()}


def traces(uri: Path) -> dict[str, object]:
    """All that the store and its folder know of versions and snapshots."""
    store = Store.open(str(uri))
    database = store.retaining._database
    return {
        "folders": sorted(path.name for path in uri.iterdir() if path.is_dir()),
        "answers": sorted(path.name for path in (uri / "_requests").iterdir()),
        "versions": [version.version for version in store.versions()],
        "snapshots": store.snapshots(),
        "tags": {p.stem: sorted(database.table(p.stem).tags.list()) for p in uri.glob("*.lance")},
        "codebooks": database.read_small(codebooks.TABLE, CODEBOOKS_SCHEMA)["fingerprint"].to_pylist(),
        "canaries": database.read_small(canaries.TABLE, CANARIES_SCHEMA)["fingerprint"].to_pylist(),
        "files": database.read_small(digests.TABLE, FILES_SCHEMA)["table"].to_pylist(),
    }


def test_gc_killed_at_each_step_leaves_what_stays_readable_and_the_next_one_finishes(littered, tmp_path):
    never_killed = Path(shutil.copytree(littered, tmp_path / "never-killed"))
    collect(str(never_killed))
    expected, kept = traces(never_killed), readable(never_killed)
    assert len(kept) == len(expected["codebooks"]) == len(expected["canaries"]) == 1
    assert len(expected["answers"]) == 1
    step = 0
    while True:
        step += 1
        uri = Path(shutil.copytree(littered, tmp_path / str(step)))
        process = PROCESSES.Process(target=collect_and_die, args=(str(uri), step))
        process.start()
        process.join(120)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        assert kept.items() <= readable(uri).items(), step
        collect(str(uri))
        assert traces(uri) == expected, step
    # Two versions with five changes each, a snapshot, a leftover and the tables' old states.
    assert step > 20
