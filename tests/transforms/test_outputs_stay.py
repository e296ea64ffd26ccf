"""Within a version, an item whose own vectors are the same keeps its output to the bit, whatever happens."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from helpers.storing import vector_spec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmfeat.extract.registry import resolve_one
from mmfeat.pipelines.forget import forget
from mmfeat.pipelines.transforms import bring_transform_up_to_date
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.spec import FeatureConfig
from mmfeat.store import Store, rows_schema

STAY = [f"stays {n}" for n in range(4)]
COME_AND_GO = [f"other {n}" for n in range(3)]
ITEMS = [*STAY, *COME_AND_GO]
# Of an item by content; contents 0 and 1, and 2 and 3, have the same vector.
VECTORS = dict(
    zip(ITEMS, np.random.default_rng(3).standard_normal((7, 2, 5)).astype(np.float32), strict=True)
)
X = vector_spec("x", dims=5, dtype="float32")
Y = vector_spec("y", dims=5, dtype="float32", method_version=2)
TABLES = {
    "small": {"source": "x", "transform": "pca", "dims": 3},
    "white": {"source": "x", "transform": "whiten", "dims": 2},
    "whole": {"inputs": ["x", "y"], "transform": "fuse"},
}
RECIPES = [resolve_one(name, FeatureConfig(**table), {"x": X, "y": Y}) for name, table in TABLES.items()]
EVENT = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(ITEMS), st.integers(0, 3)),
    st.tuples(st.just("leave"), st.sampled_from(COME_AND_GO), st.just(0)),
    st.tuples(st.just("forget"), st.sampled_from(COME_AND_GO), st.just(0)),
    st.tuples(st.just("refit"), st.sampled_from(list(TABLES)), st.just(0)),
)


class Walk:
    """A store in which things happen, and every output that was ever seen of an item's vectors."""

    def __init__(self, folder: Path, begun: bool = True) -> None:
        self.store = Store.open(str(folder / "store"), create=True)
        self.contents = dict.fromkeys(ITEMS, 0)
        self.there = set(ITEMS)
        self.forgotten: set[str] = set()
        self.seen: dict[tuple[str, str, bytes], bytes] = {}
        with self.store.lease("test"):
            self.catalog()
            for spec in (X, Y):
                self.put(spec, ITEMS)
        if begun:
            self.bring()

    def catalog(self) -> None:
        items = pa.Table.from_pylist(
            [{"item_id": i} for i in ITEMS if i in self.there], schema=CATALOG_SCHEMA
        )
        self.store.put_catalog(items, {"name": "sample"}, whole=True)

    def put(self, spec, ids) -> None:
        rows = [
            {
                "item_id": i,
                "status": "ok",
                "content_hash": str(self.contents[i]),
                "vector": VECTORS[i][self.contents[i] // 2].tolist(),
                "created": datetime.now(UTC),
            }
            for i in ids
        ]
        version = self.store.add_version(spec)
        self.store.commit(version, pa.Table.from_pylist(rows, schema=rows_schema(spec)), replace=True)

    def happens(self, what: str, name: str, content: int) -> None:
        if name in self.forgotten:
            return
        if what == "forget":
            self.forgotten.add(name)
            self.there.discard(name)
            forget(self.store, [name], "asked")
        with self.store.lease("test"):
            if what == "put":
                self.there.add(name)
                self.contents[name] = content
                self.catalog()
                self.put(X, [name])
            elif what == "leave":
                self.there.discard(name)
                self.catalog()
        self.bring(refit=name if what == "refit" else "")

    def bring(self, refit: str = "") -> None:
        with self.store.lease("test"):
            for recipe in RECIPES:
                bring_transform_up_to_date(self.store, recipe, refit=recipe.name == refit)
        self.look()

    def look(self) -> None:
        for name in TABLES:
            for version in self.store.versions(name):
                table = self.store.full_rows(version, self.store.ledger(version)["item_id"].to_pylist())
                for row in table.to_pylist():
                    content = int(row["content_hash"].partition("+")[0])
                    own = VECTORS[row["item_id"]][content // 2].tobytes()
                    output = np.array(row["vector"], np.float32).tobytes()
                    key = (version.fingerprint, row["item_id"], own)
                    assert self.seen.setdefault(key, output) == output, (version.version, row["item_id"])


def walk(events) -> None:
    with TemporaryDirectory() as folder:
        walked = Walk(Path(folder))
        for event in events:
            walked.happens(*event)
        assert len(walked.seen) >= len(TABLES) * len(STAY)


def test_no_sequence_of_changes_touches_the_output_of_an_item_with_the_same_vectors():
    other = COME_AND_GO[0]
    walk(
        [
            ("put", STAY[0], 1),
            ("put", STAY[0], 3),
            ("leave", other, 0),
            ("put", other, 0),
            ("put", STAY[0], 0),
        ]
    )
    walk([("refit", "small", 0), ("put", other, 2), ("forget", other, 0), ("put", STAY[1], 2)])


@pytest.mark.parametrize("killed_after", ["what was fitted", "the version", "some rows"])
def test_a_transform_that_was_killed_at_any_write_goes_on(tmp_path, killed_after):
    (tmp_path / "whole").mkdir()
    whole = Walk(tmp_path / "whole")
    (version,) = whole.store.versions("small")
    state, facts = whole.store.codebooks(version.fingerprint)
    rows = whole.store.full_rows(version, ITEMS)
    cut_short = Walk(tmp_path, begun=False)
    with cut_short.store.lease("test"):
        cut_short.store.put_codebooks(version.fingerprint, state, facts)
        if killed_after != "what was fitted":
            cut_short.store.add_version(version.spec)
        if killed_after == "some rows":
            cut_short.store.commit(version, rows.slice(2, 3), replace=False)
    cut_short.bring()
    assert [one.version for one in cut_short.store.versions("small")] == [version.version]
    vectors = cut_short.store.full_rows(version, ITEMS)["vector"]
    assert vectors.to_pylist() == rows["vector"].to_pylist()


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(EVENT, min_size=1, max_size=6))
def test_no_sequence_at_all_does_so(events):
    walk(events)
