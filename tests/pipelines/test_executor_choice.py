"""Which executor a run takes."""

from __future__ import annotations

import pytest
from works import SPECS, work, written

from mmfeat.pipelines.execution.choice import choose
from mmfeat.pipelines.execution.resources import COVERS_PER_WORKER
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.job import Resources

FEW, MANY = work(cover=COVERS_PER_WORKER), work(cover=COVERS_PER_WORKER + 1)


def chosen(table=FEW, specs=SPECS, after_kill: bool = False, **resources: object) -> str:
    """The executor's name, on a machine without a GPU unless ``resources`` say otherwise."""
    return choose(Resources(**{"gpus": 0, **resources}), table, specs, after_kill=after_kill).name


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (FEW, "local"),
        (MANY, "ray"),
        (work(title=16 * COVERS_PER_WORKER), "local"),
        (work(title=16 * COVERS_PER_WORKER + 1), "ray"),
        (work(video=4), "local"),
        (work(video=5), "ray"),
        (work(cover=COVERS_PER_WORKER, title=1), "ray"),
    ],
)
def test_one_workers_share_of_work_is_done_here_and_more_by_ray(table, name):
    assert chosen(table) == name


@pytest.mark.parametrize(
    ("resources", "name"),
    [
        ({"workers": 1}, "local"),
        ({"workers": 2}, "ray"),
        ({"gpus": 1}, "ray"),
        ({"ray_address": "auto"}, "ray"),
        ({"threads": 1, "cpus": 1, "batch_size": 2}, "local"),
    ],
)
def test_many_workers_gpus_and_clusters_are_rays(resources, name):
    assert chosen(**resources) == name


def test_an_engine_is_rays():
    engine = [written("cover", "vllm")]
    assert chosen(work(video=1), engine) == "ray"
    # What no work item wants decides nothing.
    assert chosen(work(video=1), [*SPECS, *engine]) == "local"


@pytest.mark.parametrize("name", ["local", "ray"])
@pytest.mark.parametrize("after_kill", [False, True])
@pytest.mark.parametrize("table", [FEW, MANY])
def test_the_one_that_is_named_is_taken(name, after_kill, table):
    assert chosen(table, after_kill=after_kill, executor=name) == name


def test_after_a_run_that_was_killed_ray_does_the_work():
    assert chosen(after_kill=True) == "ray"


@pytest.mark.parametrize(
    ("resources", "says"),
    [
        ({"workers": 2}, "it wants 2 workers"),
        ({"gpus": 1}, "there is a GPU"),
        ({"ray_address": "auto"}, "it names a cluster"),
    ],
)
def test_what_only_ray_can_run_is_refused_where_the_local_one_is_named(resources, says):
    with pytest.raises(ConfigError, match=f"'local' cannot run this job: {says}") as refused:
        chosen(executor="local", **resources)
    # A GPU may also be left alone.
    assert ("gpus = 0" in refused.value.hint) == ("gpus" in resources)


def test_an_engine_is_refused_where_the_local_one_is_named():
    engine = written("cover", "vllm")
    with pytest.raises(ConfigError, match=f"{engine.version} is computed by an engine"):
        chosen(work(video=1), [engine], executor="local")
