"""Which executor a run takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from mmfeat.extract.registry import class_of
from mmfeat.pipelines.execution.base import Executor
from mmfeat.pipelines.execution.local import LocalExecutor
from mmfeat.pipelines.execution.resources import COVERS_PER_WORKER, covers_of
from mmfeat.pipelines.planning.work import count_wanted
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.job import Resources
from mmfeat.schemas.spec import FeatureSpec

_GPU = "there is a GPU"


def choose(
    resources: Resources, work: pa.Table, specs: Sequence[FeatureSpec], *, after_kill: bool = False
) -> Executor:
    """The executor that the job names, or with ``auto`` the one that is done sooner.

    ``local`` is, where one process would do all of it in any case, so that Ray's start buys nothing:
    if there is no more work than one worker's share (64 covers' worth; docs/scale.md). Clusters, GPUs
    and engines are Ray's.

    Args:
        after_kill: whether the run before was killed. A model that crashes takes a local run with it, and
            with Ray costs one item: so ``auto`` then takes Ray.

    Raises:
        ConfigError: ``local`` is named for what only Ray can run.
    """
    wanted = [specs[number] for number in count_wanted(work)]
    for_ray = _only_ray(resources, wanted)
    if resources.executor == "local" and for_ray:
        leave_it = " With gpus = 0 it is left alone." if for_ray == _GPU else ""
        raise ConfigError(
            f"The executor 'local' cannot run this job: {for_ray}.",
            hint=f'Take executor = "ray" or "auto".{leave_it}',
        )
    small = covers_of(work, specs) <= COVERS_PER_WORKER
    sooner = small and not for_ray and not after_kill
    if resources.executor == "local" or (resources.executor == "auto" and sooner):
        return LocalExecutor()
    from mmfeat.pipelines.execution.ray.executor import RayExecutor

    return RayExecutor()


def _only_ray(resources: Resources, specs: Sequence[FeatureSpec]) -> str:
    """Why only Ray can run a job; empty if any executor can."""
    engines = [spec.version for spec in specs if class_of(spec).runs == "engine"]
    if engines:
        return f"{engines[0]} is computed by an engine in Ray"
    if resources.ray_address:
        return "it names a cluster"
    if (resources.workers or 1) > 1:
        return f"it wants {resources.workers} workers"
    gpu = resources.gpus if resources.gpus is not None else _has_gpu()
    return _GPU if gpu else ""


def _has_gpu() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))
