"""The Ray Data graph: work items -> decode tasks -> actor pools -> results at the driver."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator
from typing import Any

import pyarrow as pa

from mmfeat.extract.registry import class_of, shared_models
from mmfeat.pipelines.execution.base import Task
from mmfeat.pipelines.execution.blocks import split
from mmfeat.pipelines.execution.calls import Calls
from mmfeat.pipelines.execution.ray import cluster
from mmfeat.pipelines.execution.ray.vllm import in_engine, processor, with_answers
from mmfeat.pipelines.execution.resources import covers_of, lay_out
from mmfeat.pipelines.execution.stages import Decode, DecodeEncode, Encode
from mmfeat.pipelines.planning.work import count_wanted
from mmfeat.schemas.errors import MmfeatError

# A worker that dies is tried again this often before its work is retried alone.
_RETRIES = 1


class Graph:
    """Work items through decoding and every model, laid out on what Ray has, inside a ``ray_session``.

    Attributes:
        workers: processes of each pool that computes.

    Raises:
        MmfeatError: a node of a cluster lacks files.
    """

    def __init__(self, task: Task) -> None:
        import ray

        _quiet_ray_data()
        work, specs, resources = task.work, task.specs, task.resources
        if resources.ray_address:
            cluster.check_nodes(work, specs)
        self.specs, self.limits = specs, task.limits
        wanted = count_wanted(work)
        numbers = sorted(wanted)
        # First, while nothing has started: what it lacks is said at once.
        self.engines = {n: processor(specs[n], n, specs, task.vllm) for n in numbers if in_engine(specs[n])}
        nodes = [cpus for _, cpus in cluster.working_nodes().values()] or [1]
        here = [n for n in numbers if n not in self.engines]
        self.layout = lay_out(
            here,
            covers_of(work, specs),
            served={n for n in numbers if class_of(specs[n]).runs == "server"},
            in_engines=bool(self.engines),
            shared=shared_models(specs, here),
            nodes=nodes,
            gpus=ray.cluster_resources().get("GPU", 0),  # type: ignore[no-untyped-call]
            wanted=resources,
        )
        # The first may only ask servers; those that compute are alike.
        computing = self.layout.pools[-1]
        self.workers = computing.workers
        calls = Calls(computing.device, computing.threads, resources.batch_size)
        self.blocks = split(work, specs, self.workers, calls)
        self.loading = {
            "expected": {number: count // len(nodes) for number, count in wanted.items()},
            "batch_size": resources.batch_size,
            "sending": task.sending,
            "canaries": task.canaries,
        }

    def results(self) -> Generator[pa.Table]:
        """RESULTS_SCHEMA tables, one for a block, as they finish.

        Work items whose worker died twice are not among them: the caller retries them alone.

        Raises:
            MmfeatError: a model could not be loaded in its worker.
        """
        import ray
        from ray.exceptions import RayError

        try:
            # ``iter_batches`` would hold a block back until the next one is there, and leave a thread behind
            # when it is closed early: one that calls Ray after its end, at which Ray ends the process.
            for bundle in self._dataset().iter_internal_ref_bundles():
                for block in bundle.blocks:
                    yield ray.get(block.ref)
        except RayError as error:
            raise _cause(error) from error

    def _dataset(self) -> Any:
        import ray.data

        decodes_first = self.layout.decode_cpus is None
        with warnings.catch_warnings():
            # Retry limits have no named parameter yet; their general form warns.
            warnings.simplefilter("ignore")
            # Unlike ``from_arrow``, it starts no task for each block only to learn its schema.
            dataset = ray.data.from_blocks(self.blocks)
            if not decodes_first:
                decode = Decode(self.specs, self.limits, fenced=True)
                dataset = dataset.map_batches(
                    decode, num_cpus=self.layout.decode_cpus, max_retries=_RETRIES, **_WHOLE_BLOCKS
                )
            for number, engine in self.engines.items():
                dataset = with_answers(dataset, engine, self.specs, number)
            for pool in self.layout.pools:
                decodes = decodes_first and pool is self.layout.pools[0]
                dataset = dataset.map_batches(
                    DecodeEncode if decodes else Encode,
                    fn_constructor_args=(self.specs, pool.numbers, *((self.limits,) if decodes else ())),
                    fn_constructor_kwargs={
                        "last": pool is self.layout.pools[-1],
                        "device": pool.device,
                        "threads": pool.threads,
                        **self.loading,
                    },
                    compute=ray.data.ActorPoolStrategy(size=pool.workers),
                    num_cpus=pool.num_cpus,
                    num_gpus=pool.num_gpus,
                    # Enough that the last block finds a worker even if every block kills some.
                    max_restarts=(_RETRIES + 1) * len(self.blocks),
                    max_task_retries=_RETRIES,
                    **_WHOLE_BLOCKS,
                )
        return dataset


_WHOLE_BLOCKS = {"batch_size": None, "batch_format": "pyarrow"}


def _quiet_ray_data() -> None:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A block whose worker died is left out instead of ending the run; its work are retried alone.
    context.max_errored_blocks = -1
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    logging.getLogger("ray").setLevel(logging.CRITICAL)


def _cause(error: BaseException) -> BaseException:
    """The error that a worker raised for a person, out of Ray's wrapping."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MmfeatError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return MmfeatError(f"The pipeline stopped: {str(error).strip().splitlines()[-1]}")
