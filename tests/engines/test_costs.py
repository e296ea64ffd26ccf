"""What captions cost, by hand; and how a run is laid out so that it is known early."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pyarrow as pa
import pytest
from asking import spec
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfeat.extract.served.answers import retry_after
from mmfeat.pipelines.execution.batch import RESULTS_SCHEMA
from mmfeat.pipelines.execution.blocks import split
from mmfeat.pipelines.execution.calls import Calls
from mmfeat.pipelines.execution.cost import TRIAL, Cost, Costs, captioned, trial
from mmfeat.pipelines.execution.resources import lay_out
from mmfeat.pipelines.planning.work import PAYLOAD, WORK_SCHEMA
from mmfeat.schemas.inputs import Input, TextPrepare
from mmfeat.schemas.job import Resources
from mmfeat.schemas.outputs import VectorOut
from mmfeat.schemas.server import SpendingConfig
from mmfeat.schemas.spec import FeatureSpec, Weights

CAPTION = spec()
TITLE = FeatureSpec(
    name="title", inputs=[Input(source="title", modality="text", prepare=TextPrepare(max_tokens=8))],
    output=VectorOut(dims=2), method="sentence_transformers", model="m",
    weights=Weights(origin="random", ref="seed=0"),
)  # fmt: skip


def work_of(kinds: str) -> pa.Table:
    """A work item per letter: ``c`` a cover to caption, ``t`` a title to encode."""
    groups = {"c": ("cover", [1]), "t": ("title", [0])}
    rows = [
        {"work": n, "item_id": str(n), "group": groups[k][0], "features": groups[k][1]}
        for n, k in enumerate(kinds)
    ]
    table = pa.Table.from_pylist(rows, schema=WORK_SCHEMA)
    for name, _ in groups.values():
        places = ["" if row["group"] == name else None for row in rows]
        table = table.append_column(PAYLOAD + name, pa.array(places, pa.string()))
    return table


def results(n: int, **counts: int) -> pa.Table:
    facts = json.dumps({"prompt_tokens": 100, "new_tokens": 20, "retries": 1, "seconds": 9.0})
    row = {"feature": 1, "status": "ok", "facts": facts, "seconds": 0.5, "value": b"x"}
    rows = [{"work": k, **row, **(counts if k == 0 else {})} for k in range(n)]
    return pa.Table.from_pylist(rows, schema=RESULTS_SCHEMA)


def test_the_estimate_is_the_mean_of_the_first_times_all():
    prices = SpendingConfig(prompt_price=10, new_price=100, max_requests=40)
    costs = Costs(work_of("t" * 5 + "c" * 40), [TITLE, CAPTION], prices)
    assert costs.add(results(TRIAL - 1)) == []
    assert costs.estimate(1) is None
    (line,) = costs.add(results(3))
    assert costs.estimate(1) == Cost(40, 80, 4000, 800, 20.0, pytest.approx(0.12))
    assert costs.estimate(0) is None
    assert "40 captions, 80 requests" in line
    assert "allows for about 50% of it" in line
    assert costs.add(results(3)) == []


def test_an_estimate_of_sound_says_at_whose_price_it_is():
    prices, work = SpendingConfig(prompt_price=10, new_price=100), work_of("c" * 10)
    heard = spec(source="video.sound")
    (line,) = Costs(work, [TITLE, heard], prices).add(results(TRIAL))
    assert "sound at the price of prompt tokens" in line
    for specs, spending in (([TITLE, CAPTION], prices), ([TITLE, heard], SpendingConfig())):
        (line,) = Costs(work, specs, spending).add(results(TRIAL))
        assert "sound" not in line


def test_what_was_taken_is_what_was_sent_whatever_became_of_it():
    costs = Costs(work_of("cc"), [TITLE, CAPTION], SpendingConfig())
    costs.add(results(2, requests=5, prompt_tokens=700, new_tokens=30))
    assert costs.actual(1) == Cost(2, 5, 700, 30, 1.0, None)
    assert costs.actual(0) is None


@settings(deadline=None)
@given(st.text("ct", max_size=200), st.integers(1, 4))
def test_the_trial_comes_first_and_no_work_is_lost_or_doubled(kinds, workers):
    table, specs = work_of(kinds), [TITLE, CAPTION]
    blocks = split(table, specs, workers, Calls())
    order = [n for block in blocks for n in block["work"].to_pylist()]
    first = [n for n, kind in enumerate(kinds) if kind == "c"][:TRIAL]
    assert order[: len(first)] == first == trial(table, captioned(specs))
    assert sorted(order) == list(range(len(kinds)))
    assert order[len(first) :] == [n for n in range(len(kinds)) if n not in first]
    assert all(len(set(block["group"].to_pylist())) == 1 for block in blocks)


@pytest.mark.parametrize("gpus", [0, 2])
def test_features_of_servers_share_one_process_that_comes_first_and_takes_no_gpu(gpus):
    layout = lay_out([0, 1, 2, 3], 1000, served={1, 3}, nodes=[8], gpus=gpus, wanted=Resources())
    asking, *others = layout.pools
    assert (asking.numbers, asking.workers, asking.num_gpus, asking.threads) == ((1, 3), 1, 0, None)
    assert sorted(n for pool in others for n in pool.numbers) == [0, 2]
    alone = lay_out([1], 1000, served={1}, nodes=[8], gpus=gpus, wanted=Resources())
    assert [pool.numbers for pool in alone.pools] == [(1,)]


def test_retry_after_is_read_as_seconds_and_as_a_date():
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after": "-7"}) == 0
    assert retry_after({}) is None
    assert retry_after({"retry-after": "soon"}) is None
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 57 < retry_after({"retry-after": later}) <= 60
