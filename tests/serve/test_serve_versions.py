"""A service follows its store: new versions without a restart, and never two states in one answer."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers.serving import is_problem, running
from helpers.storing import make_rows, vector_spec

from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.store import Store

IDS = [f"item-{k}" for k in range(40)]
SPECS = {n: vector_spec("marked", method_version=n) for n in (1, 2)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two versions of one feature: every value of version n is n. The first is current."""
    store = Store.open(str(tmp_path / "store"), create=True)
    with store.lease("test"):
        catalog = pa.Table.from_pylist([{"item_id": i} for i in IDS], schema=CATALOG_SCHEMA)
        store.put_catalog(catalog, {"name": "test"})
        for n, spec in SPECS.items():
            version = store.add_version(spec)
            store.commit(version, make_rows(spec, IDS, [np.full(4, n, np.float16)] * len(IDS)), replace=False)
            store.finish(version)
        promote(store, 1)
    return store


def promote(store: Store, n: int) -> None:
    store.set_current("marked", SPECS[n].fingerprint)


def eventually(what) -> None:
    for _ in range(200):
        if what():
            return
        time.sleep(0.05)
    pytest.fail("it did not come about")


def test_a_promoted_version_is_served_without_a_restart(store):
    with running(store.uri) as service:

        def version() -> str:
            return service.http.get("/v1/lookup", params={"id": "item-0"}).json()["features"]["marked"][
                "version"
            ]

        assert version() == SPECS[1].version
        with store.lease("promote"):
            promote(store, 2)
        eventually(lambda: version() == SPECS[2].version)
        text = service.http.get("/metrics").text
        assert f'version="{SPECS[2].version}"' in text and SPECS[1].version not in text


def test_no_answer_mixes_two_versions_while_they_take_turns(store):
    of_version = {spec.version: n for n, spec in SPECS.items()}
    seen: set[str] = set()
    with running(store.uri, refresh_seconds=0.01) as service:
        stop = threading.Event()

        def take_turns() -> None:
            turn = 1
            while not stop.is_set():
                turn = 3 - turn
                with store.lease("promote"):
                    promote(store, turn)

        turns = threading.Thread(target=take_turns)
        turns.start()
        try:
            until = time.monotonic() + 2
            while time.monotonic() < until or len(seen) < 2:
                told = service.http.post("/v1/lookup", json={"ids": IDS}).json()["features"]["marked"]
                assert {x for row in told["values"] for x in row} == {float(of_version[told["version"]])}
                seen.add(told["version"])
                assert time.monotonic() < until + 20, "the service never saw the other version"
        finally:
            stop.set()
            turns.join()


def test_a_store_that_is_written_to_is_served_all_the_while(store):
    with running(store.uri) as service, store.lease("run"):
        version = store.resolve("marked")
        for round_ in range(5):
            new = [f"new-{round_}-{k}" for k in range(3)]
            rows = make_rows(SPECS[1], new, [np.ones(4, np.float16)] * 3)
            store.commit(version, rows, replace=False)
            assert service.http.post("/v1/lookup", json={"ids": IDS}).is_success
            eventually(lambda new=new: service.http.post("/v1/lookup", json={"ids": new}).is_success)


def test_a_snapshot_that_was_deleted_and_made_again_is_the_new_one(store):
    def version(service) -> str:
        answer = service.http.get("/v1/lookup", params={"id": "item-0", "snapshot": "s"})
        return answer.json()["features"]["marked"]["version"]

    with store.lease("test"):
        store.create_snapshot("s")
    with running(store.uri) as service:
        assert version(service) == SPECS[1].version
        with store.lease("test"):
            promote(store, 2)
            store.delete_snapshot("s")
            store.create_snapshot("s")
        eventually(lambda: version(service) == SPECS[2].version)


def test_when_the_store_is_gone_the_service_says_so_and_finds_it_again(store, tmp_path):
    with running(store.uri) as service:
        Path(store.uri).rename(tmp_path / "away")
        eventually(lambda: service.http.get("/readyz").status_code == 503)
        is_problem(service.http.get("/readyz"), 503, "NotReady")
        answer = service.http.post("/v1/lookup", json={"ids": IDS, "features": [SPECS[2].version]})
        if not answer.is_success:
            is_problem(answer, 503, "StoreError")
        (tmp_path / "away").rename(store.uri)
        eventually(lambda: service.http.get("/readyz").is_success)
        assert service.http.post("/v1/lookup", json={"ids": IDS}).is_success
