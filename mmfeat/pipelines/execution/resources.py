"""What a stage may use, from what the machine has. Never part of a fingerprint."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract import modalities
from mmfeat.pipelines.execution.batch import media_inputs
from mmfeat.schemas.ids import whole
from mmfeat.schemas.job import Resources
from mmfeat.schemas.spec import FeatureSpec

# More one-model processes than this use memory faster than they add speed.
_MAX_CPU_WORKERS = 8
#: A process with fewer covers than this spends longer loading its models than it saves.
COVERS_PER_WORKER = 64
# A text takes about this share of a cover.
_TEXT_COVERS = 1 / 16
# A process that waits for a server's answers needs next to nothing of a core.
_ASKING_CPUS = 0.05


@dataclass(frozen=True)
class Pool:
    """One actor pool: which features it computes and what each of its processes gets.

    ``threads`` is None if nothing is computed: the models are on a server.
    """

    numbers: tuple[int, ...]
    workers: int
    threads: int | None
    num_cpus: float
    num_gpus: float
    device: str


@dataclass(frozen=True)
class Layout:
    """Where everything runs.

    Attributes:
        decode_cpus: of each decode task; None if the first pool decodes as well.
        pools: in order.
    """

    decode_cpus: float | None
    pools: tuple[Pool, ...]


def machine_cpus() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def covers_of(work: pa.Table, specs: Sequence[FeatureSpec]) -> int:
    """How much there is to do, in covers' worth: of each work item what its costliest input takes."""
    if not len(work):
        return 0
    of_feature = np.array([_covers(spec) for spec in specs])
    features = whole(work["features"])
    # [features of all work items], one work item after the other; every one wants some.
    each = of_feature[features.flatten().to_numpy()]
    sizes = pc.list_value_length(features).to_numpy()
    return math.ceil(float(np.maximum.reduceat(each, np.cumsum(sizes) - sizes).sum()))


def _covers(spec: FeatureSpec) -> float:
    """Of a feature's costliest input."""
    reads = media_inputs(spec)
    costs = [modalities.modality(one.modality).cost(one.prepare).covers for one in reads]
    return max(costs, default=_TEXT_COVERS)


def lay_out(
    numbers: Sequence[int],
    work: int,
    *,
    served: Collection[int] = (),
    in_engines: bool = False,
    shared: Mapping[int, int] = MappingProxyType({}),
    nodes: Sequence[float],
    gpus: float,
    wanted: Resources,
) -> Layout:
    """Give the models of ``numbers`` (features with work) their processes.

    Without a GPU, one pool holds every model and its processes share the cores, a thread for each:
    two one-thread processes beat one two-thread process, and pools that wait for each other would
    only oversubscribe the cores. Each process then decodes what it encodes. With more cores than
    processes decoding has tasks of its own, so that no core waits for it. With GPUs, every model has a
    pool of its own and a share of a GPU, with all features that it computes.

    Features whose model is on a server share one process, which comes first: so many requests at a time
    and so much spending are bounds over all of them, and no such feature reads another one.

    Args:
        work: see :func:`covers_of`; little of it is not worth many processes.
        served: those of ``numbers`` whose model is on a server.
        shared: features that the model of another one computes, to the number of that one.
        in_engines: other features are computed by engines of their own, which follow on decoding.
        nodes: CPUs of each machine; on a cluster they are taken to be alike, and the smallest counts.
        gpus: of all machines together.
    """
    here = tuple(number for number in numbers if number not in served)
    asking = tuple(number for number in numbers if number in served)
    if gpus < 1 or not here:
        layout = _on_cpus(here, work, nodes, wanted)
    else:
        layout = _on_gpus(_models(here, shared), work, sum(nodes), gpus, wanted)
    if asking:
        pools = (Pool(asking, 1, None, _ASKING_CPUS, 0, "cpu"), *(pool for pool in layout.pools if here))
        layout = replace(layout, pools=pools)
    if layout.decode_cpus is None and (asking or in_engines):
        layout = replace(layout, decode_cpus=_decode_cpus(nodes))
    return layout


def _on_cpus(numbers: tuple[int, ...], work: int, nodes: Sequence[float], wanted: Resources) -> Layout:
    cores = max(1, int(min(nodes)))
    most = len(nodes) * min(cores, _MAX_CPU_WORKERS)
    workers = wanted.workers or min(most, math.ceil(work / COVERS_PER_WORKER))
    beside = math.ceil(workers / len(nodes))
    threads = wanted.threads or max(1, cores // beside)
    # Reservations stay under each machine's total, so that decode tasks always find room beside the
    # models: a task that fits on no machine would wait for ever.
    num_cpus = math.floor(100 * (cores - min(1.0, cores / 2)) / beside) / 100
    together = beside >= cores or work <= COVERS_PER_WORKER
    return Layout(
        None if together else _decode_cpus(nodes), (Pool(numbers, workers, threads, num_cpus, 0, "cpu"),)
    )


def _models(numbers: Sequence[int], shared: Mapping[int, int]) -> list[tuple[int, ...]]:
    """The features of each model: one, and those that are computed with it."""
    alone = [number for number in numbers if shared.get(number) not in numbers]
    return [(first, *(n for n in numbers if shared.get(n) == first)) for first in alone]


def _on_gpus(
    models: Sequence[tuple[int, ...]], work: int, cpus: float, gpus: float, wanted: Resources
) -> Layout:
    whole = int(gpus) // len(models)
    num_gpus = 1.0 if whole else math.floor(100 * gpus / len(models)) / 100
    workers = wanted.workers or min(max(1, whole), max(1, work))
    num_cpus = max(0.1, min(1.0, math.floor(100 * cpus / 4 / (len(models) * workers)) / 100))
    pools = [Pool(of, workers, wanted.threads or 1, num_cpus, num_gpus, "cuda") for of in models]
    return Layout(1 if cpus >= 4 else 0.5, tuple(pools))


def _decode_cpus(nodes: Sequence[float]) -> float:
    return 0.5 if min(nodes) > 1 else 0.25
