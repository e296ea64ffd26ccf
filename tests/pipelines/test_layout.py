"""Blocks and processes follow what there is to do and what the machine has."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfeat.extract.registry import class_of
from mmfeat.pipelines.execution.blocks import split
from mmfeat.pipelines.execution.calls import Calls
from mmfeat.pipelines.execution.resources import covers_of, lay_out
from mmfeat.pipelines.planning.work import WORK_SCHEMA
from mmfeat.schemas.inputs import FrameSampling, ImagePrepare, Input, PixelView, VideoPrepare
from mmfeat.schemas.job import Resources
from mmfeat.schemas.outputs import TextOut, VectorOut
from mmfeat.schemas.spec import Decoding, FeatureSpec, Weights


def spec(source: str, side: int = 224, frames: int = 8) -> FeatureSpec:
    view = PixelView(mode="squash", height=side, width=side)
    read = {
        "video": Input(
            source="video", modality="video",
            prepare=VideoPrepare(view=view, sampling=FrameSampling(count=frames)),
        ),
        "cover": Input(source="cover", modality="image", prepare=ImagePrepare(view=view)),
        "title": Input(source="title", modality="text"),
    }[source]  # fmt: skip
    return FeatureSpec(
        name=f"f_{source}", inputs=(read,), output=VectorOut(dims=2), method="open_clip", model="m",
        weights=Weights(origin="random", ref="seed=0"),
    )  # fmt: skip


def work(*features: int, **counts: int) -> pa.Table:
    """So many work items of each column, which want its feature of ``SPECS`` or those that are given."""
    columns = [column for column, count in counts.items() for _ in range(count)]
    numbers = {"video": 0, "cover": 1, "title": 2}
    rows = [
        {"work": n, "item_id": str(n), "group": column, "features": list(features) or [numbers[column]]}
        for n, column in enumerate(columns)
    ]
    return pa.Table.from_pylist(rows, WORK_SCHEMA)


SPECS = [spec("video"), spec("cover"), spec("title")]
GPU = Calls("cuda")


@settings(deadline=None)
@given(
    st.integers(0, 300), st.integers(0, 300), st.integers(0, 1500), st.integers(1, 8)
)  # fmt: skip
def test_every_work_item_is_in_exactly_one_block_in_order_and_no_block_mixes_groups(
    video, cover, title, workers
):
    table = work(video=video, cover=cover, title=title)
    if not len(table):
        return
    blocks = split(table, SPECS, workers, Calls())
    assert [number for b in blocks for number in b["work"].to_pylist()] == list(range(len(table)))
    assert all(len(set(b["group"].to_pylist())) == 1 for b in blocks)
    assert len(blocks) >= min(workers, len(table))


def test_large_pixels_make_small_blocks():
    table = work(video=200)
    small = split(table, [spec("video", side=224)], workers=1, calls=GPU)
    large = split(table, [spec("video", side=2048)], workers=1, calls=GPU)
    assert max(map(len, small)) == 32
    assert max(map(len, large)) == 1


@pytest.mark.parametrize(
    ("rule", "source", "call"),
    [
        (Calls(), "cover", 8),
        (Calls(threads=2), "cover", 16),
        (Calls(threads=64), "cover", 32),
        (Calls(wanted=5), "cover", 5),
        (Calls(wanted=10), "cover", 10),
        (GPU, "cover", 32),
        (Calls(), "video", 1),
        (GPU, "video", 4),
        (Calls("cuda", wanted=64), "video", 8),
        (Calls(), "title", 128),
    ],
)
@pytest.mark.parametrize("number", [3, 64, 1000])
def test_blocks_are_whole_model_calls_small_ones_at_both_ends(rule, source, call, number):
    sizes = [len(b) for b in split(work(**{source: number * call + 1}), SPECS, workers=2, calls=rule)]
    assert sum(-(-size // call) for size in sizes) == number + 1
    assert sizes[:2] == [call, call]
    assert sizes[-2:] == [call, 1]
    assert max(sizes) == call if number == 3 else max(sizes) > call


def captioned(source: str, method: str) -> FeatureSpec:
    made = spec(source).with_options(decoding=Decoding(max_new_tokens=8).model_dump())
    return made.model_copy(update={"output": TextOut(role="caption"), "method": method})


@pytest.mark.parametrize(
    ("method", "call", "first"), [("transformers", 8, [2, 2, 4]), ("openai", 64, [4, 4])]
)
@pytest.mark.parametrize("source", ["cover", "video"])
def test_a_language_model_is_given_whole_clips_and_a_server_has_many_questions_at_a_time(
    method, call, first, source
):
    caption = captioned(source, method)
    assert Calls().rows(caption, class_of(caption)) == call
    sizes = [len(b) for b in split(work(0, 1, **{source: 1000}), [spec(source), caption], 2, Calls())]
    # The trial of captions comes first: its eight contents, shared out to two workers.
    assert sizes[: len(first) + 2] == [*first, call, call]


def test_a_language_model_on_a_cpu_gives_its_first_two_texts_before_a_whole_call():
    captions, table = [captioned("cover", "transformers")], work(0, cover=1000)
    assert [len(b) for b in split(table, captions, 1, Calls())][:2] == [2, 6]
    assert [len(b) for b in split(table, captions, 1, Calls("cuda"))][:2] == [8, 8]


def test_a_single_worker_of_a_language_model_has_large_blocks_to_the_end():
    captions, table = [captioned("cover", "transformers")], work(0, cover=8 + 2 * 64 + 10)
    assert [len(b) for b in split(table, captions, 1, Calls())] == [2, 6, 64, 64, 10]
    assert [len(b) for b in split(table, captions, 2, Calls())][-2:] == [8, 2]


@pytest.mark.parametrize(("rule", "call"), [(Calls(), 1), (GPU, 4)])
def test_tags_of_clips_are_made_in_calls_of_their_frames(rule, call):
    made = {"output": TextOut(role="tags"), "method": "imagenet_tags"}
    tags = spec("video").model_copy(update=made)
    assert rule.rows(tags, class_of(tags)) == call


@pytest.mark.parametrize("gpus", [0, 2])
def test_pools_that_compute_are_alike_and_follow_the_one_that_asks_servers(gpus):
    layout = lay_out([0, 1, 2], 1000, served={0}, nodes=[8], gpus=gpus, wanted=Resources())
    asking, *computing = layout.pools
    assert (asking.numbers, asking.threads) == ((0,), None)
    assert {(pool.device, pool.workers) for pool in computing} == {("cuda", 1) if gpus else ("cpu", 8)}


@pytest.mark.parametrize("cpus", [1, 2, 4, 16, 64])
def test_reservations_on_a_cpu_leave_room_for_decoding(cpus):
    layout = lay_out([0, 1, 2], 10_000, nodes=[cpus], gpus=0, wanted=Resources())
    (pool,) = layout.pools
    assert pool.workers * pool.num_cpus + (layout.decode_cpus or 0) <= cpus
    assert pool.workers * pool.threads <= cpus


@pytest.mark.parametrize(("gpus", "models"), [(1, 1), (1, 4), (2, 3), (8, 3)])
def test_gpus_are_shared_out_and_never_oversubscribed(gpus, models):
    layout = lay_out(range(models), 10_000, nodes=[16], gpus=gpus, wanted=Resources())
    assert [pool.numbers for pool in layout.pools] == [(n,) for n in range(models)]
    assert sum(pool.workers * pool.num_gpus for pool in layout.pools) <= gpus
    assert sum(p.workers * p.num_cpus for p in layout.pools) + layout.decode_cpus <= 16
    assert {pool.device for pool in layout.pools} == {"cuda"}


@pytest.mark.parametrize(("covers", "workers"), [(1, 1), (64, 1), (65, 2), (10_000, 8)])
def test_little_work_gets_few_processes_with_more_threads_each(covers, workers):
    (pool,) = lay_out([0], covers, nodes=[8], gpus=0, wanted=Resources()).pools
    assert (pool.workers, pool.threads) == (workers, 8 // workers)


@pytest.mark.parametrize("nodes", [[1, 1, 1], [2, 2], [4, 16], [64] * 8])
def test_on_a_cluster_every_node_has_room_for_a_decode_task_beside_its_share_of_the_models(nodes):
    layout = lay_out([0, 1], 100_000, nodes=nodes, gpus=0, wanted=Resources())
    (pool,) = layout.pools
    share = -(-pool.workers // len(nodes))
    assert share * pool.num_cpus + (layout.decode_cpus or 0) <= min(nodes)
    assert share * pool.threads <= min(nodes)
    assert pool.workers == len(nodes) * min(8, *nodes)


@pytest.mark.parametrize(("cpus", "apart"), [(1, False), (2, False), (8, False), (16, True), (64, True)])
def test_where_every_core_has_a_models_process_that_process_decodes_as_well(cpus, apart):
    layout = lay_out([0], 10_000, nodes=[cpus], gpus=0, wanted=Resources())
    assert (layout.decode_cpus is not None) is apart


def test_a_process_of_many_threads_never_waits_for_its_own_decoding_of_much_work():
    assert lay_out([0], 10_000, nodes=[8], gpus=0, wanted=Resources(workers=1)).decode_cpus is not None
    assert lay_out([0], 10, nodes=[8], gpus=0, wanted=Resources(workers=1)).decode_cpus is None


def test_servers_and_engines_follow_on_decoding_in_tasks_of_its_own():
    assert lay_out([0], 10_000, served={0}, nodes=[2], gpus=0, wanted=Resources()).decode_cpus is not None
    assert (
        lay_out([0], 10_000, in_engines=True, nodes=[2], gpus=0, wanted=Resources()).decode_cpus is not None
    )


def test_clips_are_worth_processes_of_their_own_sooner_than_covers():
    assert covers_of(work(video=10, cover=5), SPECS) == 165
    covers = covers_of(work(video=10), SPECS)
    assert lay_out([0], covers, nodes=[2], gpus=0, wanted=Resources()).pools[0].workers == 2


def test_sixteen_texts_are_worth_a_cover_and_a_work_item_counts_as_its_costliest_input():
    assert covers_of(work(title=32), SPECS) == 2
    assert covers_of(work(title=33), SPECS) == 3
    assert covers_of(work(1, 2, cover=10), SPECS) == 10
    # Work items of a group may want different things: here one cover and nine titles.
    mixed = pa.concat_tables([work(2, cover=9), work(1, cover=1)])
    assert covers_of(mixed, SPECS) == 2
    assert covers_of(mixed.slice(9), SPECS) == 1
    assert covers_of(mixed.slice(0, 0), SPECS) == 0
