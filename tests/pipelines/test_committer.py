"""The committer writes what was planned, in bounded groups, whatever it replaces on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import pytest

from mmfeat.pipelines.execution import commit
from mmfeat.pipelines.execution.batch import RESULTS_SCHEMA
from mmfeat.pipelines.execution.commit import Committer
from mmfeat.pipelines.planning.contents import Contents
from mmfeat.pipelines.planning.plan import Plan
from mmfeat.pipelines.planning.planner import Planner
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.inputs import ImagePrepare, Input, PixelView
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.outputs import TextOut, VectorOut
from mmfeat.schemas.spec import FeatureSpec, Weights, text_hash
from mmfeat.store import FeatureVersion, Store

SPEC = FeatureSpec(
    name="x", inputs=(Input(source="title", modality="text"),), output=VectorOut(dims=1), method="m",
    model="m", weights=Weights(origin="random", ref="seed=0"),
)  # fmt: skip


@pytest.fixture
def store(tmp_path) -> Iterator[Store]:
    opened = Store.open(str(tmp_path / "store"), create=True)
    with opened.lease("test"):
        yield opened


def planned(store: Store, version: FeatureVersion, titles: dict[str, str | None]) -> Plan:
    rows = [{"item_id": i, "title": title} for i, title in titles.items()]
    items = pa.Table.from_pylist(rows, CATALOG_SCHEMA)
    ledger = partial(store.ledger_batches, version)
    return Planner(Contents(items), [SPEC], [ledger], store.stamps(), limits=MediaLimits()).plan()


def results(work: pa.Table) -> pa.Table:
    """A title's number as its vector."""
    rows = [
        {
            "work": row["work"], "feature": 0, "status": "ok", "stamp": "", "seconds": 0.0,
            "content_hash": text_hash(row["payload.title"]),
            "value": np.float32(row["payload.title"]).tobytes(),
        }
        for row in work.to_pylist()
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=RESULTS_SCHEMA)


def brought_up_to_date(store: Store, titles: dict[str, str | None]) -> tuple[Plan, list[int]]:
    """The plan, and the sizes of the groups that were committed."""
    version, groups = store.add_version(SPEC), []
    plan = planned(store, version, titles)
    committer = Committer(store, [version], plan, committed=lambda feature, rows: groups.append(rows))
    committer.add_known(plan.known)
    committer.add_copies(plan.copies)
    if len(plan.work):
        committer.add_results(results(plan.work))
    committer.flush()
    assert committer.pending_work() == []
    assert planned(store, version, titles).planned(0) == 0
    return plan, groups


def vectors(store: Store, ids: list[str]) -> list[float | None]:
    found = store.full_rows(store.add_version(SPEC), ids)["vector"].to_pylist()
    return [None if vector is None else vector[0] for vector in found]


def test_items_that_swap_contents_get_the_values_that_others_had_before_this_run(store, monkeypatch):
    monkeypatch.setattr(commit, "GROUP_ROWS", 2)
    ids = [f"i{k}" for k in range(7)]
    before = {item_id: str(k) for k, item_id in enumerate(ids)}
    brought_up_to_date(store, before)
    # Each gets the next one's content, but for two that lose theirs.
    after: dict[str, str | None] = {item_id: str((k + 1) % 7) for k, item_id in enumerate(ids)}
    after |= {"i1": None, "i2": None}
    plan, groups = brought_up_to_date(store, after)
    assert (len(plan.known), len(plan.copies), len(plan.work)) == (2, 5, 0)
    assert max(groups) == 2
    assert vectors(store, ids) == [1.0, None, None, 4.0, 5.0, 6.0, 0.0]


def test_a_content_that_many_items_share_is_committed_in_groups(store, monkeypatch):
    monkeypatch.setattr(commit, "GROUP_ROWS", 10)
    titles = {f"i{k}": "5" for k in range(35)}
    plan, groups = brought_up_to_date(store, {**titles, "other": "6"})
    assert (len(plan.work), len(plan.duplicates)) == (2, 34)
    assert (sum(groups), max(groups)) == (36, 10)
    assert vectors(store, [*titles, "other"]) == [5.0] * 35 + [6.0]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_commit_that_was_interrupted_and_is_made_again_stores_every_row_once(
    store, monkeypatch, when, error
):
    """Ctrl-C comes as an exception at any moment, also when the rows are in the store and nobody knows."""
    version, titles = store.add_version(SPEC), {f"i{k}": str(k) for k in range(6)}
    plan = planned(store, version, titles)
    committer = Committer(store, [version], plan)
    committer.add_results(results(plan.work.slice(0, 2)))
    committer.flush()
    committer.add_results(results(plan.work.slice(2, 2)))
    with monkeypatch.context() as patch:
        patch.setattr(Store, "commit", interrupted(Store.commit, when, error))
        with pytest.raises(error):
            committer.flush()
    # What a run does at its end, however it ends; and what goes on after it.
    committer.flush()
    committer.add_results(results(plan.work.slice(4)))
    committer.flush()
    assert sorted(store.ledger(version)["item_id"].to_pylist()) == sorted(titles)
    assert vectors(store, list(titles)) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def interrupted(commit, when, error):
    def call(store, *args, **options):
        if when == "after":
            # By another object: Ctrl-C comes before this one knows.
            other = Store.open(store.uri)
            other._check_lease = lambda: None
            commit(other, *args, **options)
        raise error

    return call


def test_no_row_is_committed_before_that_of_the_feature_which_it_reads(store, tmp_path, monkeypatch):
    """The reader has a known row that its upstream lacks, so that its groups are full at other moments."""
    monkeypatch.setattr(commit, "GROUP_ROWS", 2)
    for k in range(6):
        (tmp_path / str(k)).write_bytes(b"%d" % k)
    rows = [
        {"item_id": str(k), "title": "x" if k < 5 else None, "cover": str(tmp_path / str(k))}
        for k in range(6)
    ]
    view = ImagePrepare(view=PixelView(mode="squash", height=8, width=8))
    cover = Input(source="cover", modality="image", prepare=view)
    told = SPEC.model_copy(update={"name": "told", "inputs": (cover,), "output": TextOut(role="caption")})
    reads = (
        Input(source="told", modality="text", upstream=told.fingerprint),
        Input(source="title", modality="text", named=True),
    )
    specs = [told, SPEC.model_copy(update={"name": "reader", "inputs": reads})]
    versions = [store.add_version(spec) for spec in specs]
    ledgers = [partial(store.ledger_batches, version) for version in versions]
    items = pa.Table.from_pylist(rows, CATALOG_SCHEMA)
    plan = Planner(Contents(items), specs, ledgers, store.stamps(), limits=MediaLimits()).plan()
    readers: list[set[str]] = []

    def check(feature: int, rows: int) -> None:
        above, here = (_ok_items(ledger(["item_id", "status"])) for ledger in ledgers)
        assert here <= above
        readers.append(here)

    committer = Committer(store, versions, plan, committed=check)
    committer.add_known(plan.known)
    for work, features in zip(*(plan.work[name].to_pylist() for name in ("work", "features")), strict=True):
        values = {0: b"seen", 1: np.float32(1).tobytes()}
        made = [{**_OK, "work": work, "feature": feature, "value": values[feature]} for feature in features]
        committer.add_results(pa.Table.from_pylist(made, schema=RESULTS_SCHEMA))
    committer.flush()
    assert [len(here) for here in readers if here][-1] == 5


_OK = {"status": "ok", "stamp": "", "seconds": 0.0}


def _ok_items(batches: Iterable[pa.RecordBatch]) -> set[str]:
    return {row["item_id"] for batch in batches for row in batch.to_pylist() if row["status"] == "ok"}


def test_work_items_without_a_result_are_pending(store):
    version = store.add_version(SPEC)
    plan = planned(store, version, {"a": "1", "b": "22", "c": "333"})
    committer = Committer(store, [version], plan)
    committer.add_results(results(plan.work.slice(1, 1)))
    assert committer.pending_work() == [0, 2]
