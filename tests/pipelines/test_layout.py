"""Blocks and processes follow what there is to do and what the machine has."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfeat.pipelines.graph import split
from mmfeat.pipelines.plan import UNITS_SCHEMA
from mmfeat.pipelines.resources import lay_out
from mmfeat.schemas.job import Resources
from mmfeat.schemas.spec import FeatureSpec, FrameSampling, ImagePreprocess, PixelView, Weights


def spec(source: str, side: int = 224, frames: int | None = None) -> FeatureSpec:
    image = ImagePreprocess(view=PixelView(mode="squash", height=side, width=side))
    return FeatureSpec(
        name=f"f_{source}", source=source, output="vector", method="m", model="m", dims=2,
        store_dtype="float32",
        weights=Weights(origin="random", ref="seed=0"), image=None if source == "title" else image,
        frames=FrameSampling(count=frames) if frames else None,
    )  # fmt: skip


def units(**counts: int) -> pa.Table:
    sources = [source for source, count in counts.items() for _ in range(count)]
    rows = [
        {"unit": n, "item_id": str(n), "source": s, "payload": "", "stamp": "", "features": [0]}
        for n, s in enumerate(sources)
    ]
    return pa.Table.from_pylist(rows, UNITS_SCHEMA)


SPECS = [spec("video", frames=8), spec("cover"), spec("title")]


@given(
    st.integers(0, 300), st.integers(0, 300), st.integers(0, 1500), st.integers(1, 8)
)  # fmt: skip
def test_every_unit_is_in_exactly_one_block_in_order_and_no_block_mixes_sources(video, cover, title, workers):
    table = units(video=video, cover=cover, title=title)
    if not len(table):
        return
    layout = lay_out([0, 1, 2], len(table), cpus=workers, gpus=0, wanted=Resources(workers=workers))
    blocks = split(table, SPECS, layout)
    assert [u for b in blocks for u in b["unit"].to_pylist()] == list(range(len(table)))
    assert all(len(set(b["source"].to_pylist())) == 1 for b in blocks)
    assert len(blocks) >= min(workers, len(table))


def test_large_pixels_make_small_blocks():
    table = units(video=64)
    layout = lay_out([0], 64, cpus=1, gpus=0, wanted=Resources())
    small = split(table, [spec("video", side=224, frames=8)], layout)
    large = split(table, [spec("video", side=1024, frames=8)], layout)
    assert max(map(len, small)) > max(map(len, large)) == 4


@pytest.mark.parametrize("cpus", [1, 2, 4, 16, 64])
def test_reservations_on_a_cpu_leave_room_for_decoding(cpus):
    layout = lay_out([0, 1, 2], 10_000, cpus=cpus, gpus=0, wanted=Resources())
    (pool,) = layout.pools
    assert pool.workers * pool.num_cpus + layout.decode_cpus <= cpus
    assert pool.workers * pool.threads <= cpus


@pytest.mark.parametrize(("gpus", "models"), [(1, 1), (1, 4), (2, 3), (8, 3)])
def test_gpus_are_shared_out_and_never_oversubscribed(gpus, models):
    layout = lay_out(range(models), 10_000, cpus=16, gpus=gpus, wanted=Resources())
    assert [pool.numbers for pool in layout.pools] == [(n,) for n in range(models)]
    assert sum(pool.workers * pool.num_gpus for pool in layout.pools) <= gpus
    assert sum(p.workers * p.num_cpus for p in layout.pools) + layout.decode_cpus <= 16
    assert {pool.device for pool in layout.pools} == {"cuda"}


@pytest.mark.parametrize(("units", "workers"), [(1, 1), (64, 1), (65, 2), (10_000, 8)])
def test_few_units_get_few_processes_with_more_threads_each(units, workers):
    (pool,) = lay_out([0], units, cpus=8, gpus=0, wanted=Resources()).pools
    assert (pool.workers, pool.threads) == (workers, 8 // workers)
