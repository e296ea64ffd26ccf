"""A store that is open here is read in other processes: in those it is sent to, and in forks."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from helpers.storing import make_rows, text_spec, vector_spec, vectors
from torch.utils.data import DataLoader, Dataset

import mmfeat
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.errors import StoreError, UnknownItems, UsageError
from mmfeat.store import Store

N_ITEMS, DIMS = 2000, 16
IDS = [f"item-{n}" for n in range(N_ITEMS)]
SECONDS = 120


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> mmfeat.FeatureStore:
    """A store that was read and searched here, so that Lance's threads run; with a snapshot ``first``."""
    store = Store.open(str(tmp_path_factory.mktemp("shared") / "features"), create=True)
    items = [{"item_id": i, "title": i} for i in IDS]
    with store.lease("test"):
        store.put_catalog(pa.Table.from_pylist(items, schema=CATALOG_SCHEMA), {"name": "test"})
        made = (
            (vector_spec(dims=DIMS), vectors(N_ITEMS, DIMS)),
            (text_spec(), [f"text of {i}" for i in IDS]),
        )
        for spec, values in made:
            version = store.add_version(spec)
            store.commit(version, make_rows(spec, IDS, list(values)), replace=False)
            store.finish(version)
        store.create_snapshot("first")
    opened = mmfeat.open(store.uri)
    opened.lookup()
    opened.search("clip_image", item=IDS[0])
    return opened


class Vectors(Dataset):
    """One item's vector a time, read where it is asked for."""

    def __init__(self, features: mmfeat.FeatureStore) -> None:
        self.features, self.ids = features, features.ids[:40]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, at: int) -> torch.Tensor:
        return torch.from_numpy(self.features.lookup([self.ids[at]], ["clip_image"])["clip_image"].matrix[0])


def ask(features: mmfeat.FeatureStore) -> dict[str, Any]:
    """Some of everything that a store is asked."""
    found = features.lookup(IDS[::50])
    return {
        "pid": os.getpid(),
        "ids": features.ids[:3],
        "vectors": found["clip_image"].matrix.tolist(),
        "texts": found["caption"].texts,
        "hits": [hit.item_id for hit in features.search("clip_image", item=IDS[0])],
        "status": [(f.version, f.ok) for f in features.status()],
        "items": features.items.num_rows,
        "spec": features.spec("caption").version,
        "snapshots": [snapshot.name for snapshot in features.snapshots()],
    }


def pool(context: str) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(2, multiprocessing.get_context(context))


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_a_data_loader_with_workers_gives_the_vectors_of_the_store(features, context):
    data = Vectors(features)
    loader = DataLoader(data, batch_size=4, num_workers=2, multiprocessing_context=context, timeout=SECONDS)
    for _ in range(2):  # each pass starts workers of its own
        np.testing.assert_array_equal(
            torch.cat(list(loader)).numpy(), features.lookup(data.ids)["clip_image"].matrix
        )


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_whatever_a_store_is_asked_has_the_same_answer_in_another_process(features, context):
    here = ask(features)
    with pool(context) as others:
        there = others.submit(ask, features).result(SECONDS)
    assert there.pop("pid") != here.pop("pid")
    assert there == here


def test_forked_processes_answer_while_threads_here_read(features):
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            features.lookup(IDS[::20])
            features.search("clip_image", item=IDS[1])

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        answers = [forked(lambda: ask(features)["hits"]) for _ in range(6)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert answers == [ask(features)["hits"]] * 6


def test_a_store_is_opened_in_a_forked_process_and_in_what_that_forks(features):
    uri = features.uri
    assert forked(lambda: mmfeat.open(uri).ids) == IDS
    assert forked(lambda: forked(lambda: mmfeat.open(uri).lookup(IDS[:2]).ids)) == IDS[:2]
    assert forked(lambda: [mmfeat.open(uri).ids[:1], forked(lambda: features.ids[:1])]) == [IDS[:1]] * 2
    with pytest.raises(StoreError, match="There is no store"):
        forked(lambda: mmfeat.open(f"{uri}-elsewhere"))


def test_an_error_is_the_same_in_a_forked_process(features):
    with pytest.raises(UnknownItems) as unknown:
        forked(lambda: features.lookup(["nothing", IDS[0]]))
    assert unknown.value.ids == ["nothing"]
    with pytest.raises(UsageError, match="one item id") as refused:
        forked(lambda: features.lookup("44"))
    assert refused.value.hint


def test_what_cannot_be_done_in_a_forked_process_says_so(features):
    with pytest.raises(UsageError, match="report_captions cannot be used like this") as refused:
        forked(lambda: features.report_captions(progress=lambda what, done, total: None))
    assert "spawn" in refused.value.hint
    with pytest.raises(StoreError, match="was forked from one that had used Lance"):
        forked(lambda: features._opened.lookup(IDS[:1]))


def test_a_snapshot_stays_one_in_another_process(features):
    snapshot = mmfeat.open(features.uri, snapshot="first")
    assert pickle.loads(pickle.dumps(snapshot))._store.snapshot == "first"
    assert forked(lambda: snapshot.lookup(IDS[:1]).ids) == IDS[:1]
    with pytest.raises(StoreError):
        forked(lambda: snapshot.create_snapshot("second"))


def test_what_answers_for_a_forked_process_ends_with_it(features):
    def started() -> int:
        features.snapshots()
        return features._proxy()._process.pid

    pid = forked(started)
    for _ in range(600):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.1)
    raise AssertionError("it is still there")


def forked(call: Any) -> Any:
    """What ``call`` gives, or raises, in a fork of this process."""
    ours, theirs = multiprocessing.Pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                theirs.send((False, call()))
            except Exception as error:
                theirs.send((True, error))
        finally:
            os._exit(0)
    theirs.close()
    try:
        assert ours.poll(SECONDS), "the forked process does not answer"
        failed, answer = ours.recv()
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    if failed:
        raise answer
    return answer


def test_a_store_is_shown_in_a_forked_process_as_it_is_here(features):
    uri, first = features.uri, mmfeat.open(features.uri, snapshot="first")
    assert forked(lambda: [repr(features), repr(first)]) == [repr(features), repr(first)]
    assert forked(first._repr_html_) == first._repr_html_()
    assert forked(lambda: repr(mmfeat.open(uri))) == repr(features)
    assert forked(lambda: mmfeat.open(uri)._repr_html_()) == features._repr_html_()
    assert forked(lambda: repr(mmfeat.open(uri, snapshot="first"))) == repr(first)
    near = features["clip_image"].nearest(IDS[1], k=3)
    assert forked(lambda: features["clip_image"].nearest(IDS[1], k=3)._repr_html_()) == near._repr_html_()
    assert forked(lambda: [*features]) == [*features]


def test_what_a_store_gave_out_says_in_a_forked_process_where_to_ask_instead(features):
    uri = features.uri
    with pytest.raises(StoreError, match="was forked") as refused:
        forked(lambda: mmfeat.open(uri)._store)
    assert "its own methods answer here" in refused.value.hint
