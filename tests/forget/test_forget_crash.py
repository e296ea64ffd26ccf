"""A removal that is killed at any of its steps is finished by the next run, or by forgetting again."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import lance
import numpy as np
import pytest
from forgettable import CAPTION, ID, KEPT, OTHERS, VECTORS, captions, ids_in_every_version, make_store, traces
from helpers.processes import PROCESSES
from lance.dataset import DatasetOptimizer, Tags

import mmfeat
from mmfeat.pipelines.forget import finish
from mmfeat.store import Store

# Every write of a removal goes through one of these.
STEPS = {
    lance.LanceDataset: (
        "delete", "create_branch", "drop_index", "create_scalar_index", "create_index",
        "cleanup_old_versions", "merge_insert",
    ),
    DatasetOptimizer: ("compact_files",),
    Tags: ("update",),
}  # fmt: skip


class Counter:
    """Counts the moments before and after each step, and kills its process at one of them."""

    def __init__(self, fatal: int | None) -> None:
        self.moments = 0
        self.fatal = fatal
        for owner, names in STEPS.items():
            for name in names:
                setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, step):
        def call(*args, **kwargs):
            self._pass()
            result = step(*args, **kwargs)
            self._pass()
            return result

        return call

    def _pass(self) -> None:
        self.moments += 1
        if self.moments == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


def forget_until(folder: str, fatal: int | None, moments: str) -> None:
    counter = Counter(fatal)
    mmfeat.open(f"{folder}/store").forget([ID], "test", cache=Path(folder) / "cache")
    Path(moments).write_text(str(counter.moments))


def forget_in_a_process(folder: Path, fatal: int | None, moments: Path) -> int | None:
    process = PROCESSES.Process(target=forget_until, args=(str(folder), fatal, str(moments)))
    process.start()
    process.join()
    return process.exitcode


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> tuple[Path, int]:
    """A store with the item in it, and at how many moments its removal can be killed."""
    folder = tmp_path_factory.mktemp("killed")
    make_store(folder / "full" / "store")
    shutil.copytree(folder / "full", folder / "once")
    assert forget_in_a_process(folder / "once", None, folder / "moments") == 0
    return folder / "full", int((folder / "moments").read_text())


def check_killed_at(prepared: Path, folder: Path, moment: int) -> None:
    """Kill a removal at ``moment``, look at what is left, finish it, look again."""
    shutil.copytree(prepared, folder)
    assert forget_in_a_process(folder, moment, folder / "moments") == -signal.SIGKILL
    uri = str(folder / "store")
    others = mmfeat.open(uri).lookup(OTHERS, ["clip", "caption"])
    np.testing.assert_array_equal(others["clip"].matrix, VECTORS[KEPT])
    assert [len(mmfeat.open(uri, snapshot=name).lookup(OTHERS).ids) for name in ("first", "second")]
    store = Store.open(uri)
    with store.lease("test"):
        finished = finish(store, folder / "cache")
    if finished is None and not store.forgetting.tombstones():
        # Killed before the tombstone: nothing may have happened.
        assert mmfeat.open(uri).lookup([ID], ["caption"])["caption"].values == [CAPTION]
        mmfeat.open(uri).forget([ID], "test", cache=folder / "cache")
    assert traces(folder / "store") == {}
    assert ids_in_every_version(folder / "store") == set(OTHERS)
    assert mmfeat.open(uri).verify_forgotten().ok
    after = mmfeat.open(uri).lookup(OTHERS, ["clip", "caption"])
    np.testing.assert_array_equal(after["clip"].matrix, VECTORS[KEPT])
    assert after["caption"].values == [captions(CAPTION)[n] for n in KEPT]
    for name in ("first", "second"):
        assert mmfeat.open(uri, snapshot=name).ids == OTHERS
    hits = mmfeat.open(uri).search("clip", vector=VECTORS[0], k=99)
    assert sorted(hit.item_id for hit in hits) == sorted(OTHERS)
    table = lance.dataset(str(folder / "store" / f"{store.resolve('clip').table}.lance"))
    assert {index.name for index in table.describe_indices()} == {"item_id_idx", "vector_idx"}


def test_killed_at_moments_spread_over_all_its_steps(prepared, tmp_path):
    full, moments = prepared
    assert moments > 60
    for moment in np.linspace(1, moments, 16).round().astype(int).tolist():
        check_killed_at(full, tmp_path / str(moment), moment)


@pytest.mark.slow
def test_killed_at_every_moment(prepared, tmp_path):
    full, moments = prepared
    for moment in range(1, moments + 1):
        check_killed_at(full, tmp_path / str(moment), moment)
        shutil.rmtree(tmp_path / str(moment))
