from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import lance
import numpy as np
import pytest
from helpers.storing import make_rows, vector_spec, vectors

from mmfeat.store import FeatureVersion, Store, database


def table_of(store: Store, version: FeatureVersion) -> lance.LanceDataset:
    return lance.dataset(str(Path(store.uri, f"{version.table}.lance")))


def test_finishing_compacts_and_indexes_every_row(store: Store) -> None:
    spec = vector_spec()
    version = store.add_version(spec)
    values = vectors(3000)
    ids = [f"{k}" for k in range(3000)]
    for half in (slice(0, 1500), slice(1500, 3000)):
        for start in range(half.start, half.stop, 300):
            part = slice(start, start + 300)
            store.commit(version, make_rows(spec, ids[part], list(values[part])), replace=False)
        store.finish(version)
        table = table_of(store, version)
        # Lance merges no indexed fragment with a new one: those of a run stay apart until the next.
        assert len(table.get_fragments()) <= 2
        statistics = table.stats.index_stats("item_id_idx")
        assert (statistics["num_indexed_rows"], statistics["num_unindexed_rows"]) == (half.stop, 0)
    found = store.lookup(ids[::7], ["clip_image"])["clip_image"]
    np.testing.assert_array_equal(found.matrix, values[::7])


def test_cleaning_up_keeps_tagged_versions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "KEEP_OLD_VERSIONS", timedelta(0))
    spec = vector_spec()
    version = store.add_version(spec)
    store.commit(version, make_rows(spec, ["a"], [[1, 1, 1, 1]]), replace=False)
    tagged = table_of(store, version)
    tagged.tags.create("kept", tagged.version)
    store.commit(version, make_rows(spec, ["a"], [[2, 2, 2, 2]]), replace=True)
    middle = table_of(store, version).version
    store.commit(version, make_rows(spec, ["a"], [[3, 3, 3, 3]]), replace=True)
    store.finish(version)
    location = str(Path(store.uri, f"{version.table}.lance"))
    assert lance.dataset(location, version="kept").to_table()["vector"][0].as_py() == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="not found"):
        lance.dataset(location, version=middle)
    assert store.lookup(["a"])["clip_image"].matrix.tolist() == [[3, 3, 3, 3]]
