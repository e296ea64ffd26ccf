"""The Ray Data graph: units -> decode tasks -> actor pools -> results at the driver."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import pyarrow as pa

from mmfeat.extract.registry import asks_server
from mmfeat.pipelines import cluster
from mmfeat.pipelines.blocks import split
from mmfeat.pipelines.resources import Layout, lay_out, machine_cpus, work_of
from mmfeat.pipelines.stage import Decode, DecodeEncode, Encode
from mmfeat.pipelines.units import count_wanted
from mmfeat.pipelines.vllm import in_engine, processor, with_captions
from mmfeat.schemas.errors import MissingExtra, MmfeatError
from mmfeat.schemas.job import Resources
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.server import Sending, VllmConfig
from mmfeat.schemas.spec import FeatureSpec

# A worker that dies is tried again this often before its units are retried alone.
_RETRIES = 1

# Beyond what results in flight need, memory is better left to the models.
_OBJECT_STORE_BYTES = 1 << 30


_RAY_ENVIRONMENT = {
    # Without a GPU reserved, a worker sees what the machine has: the device is ours to choose.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Warnings of Ray's own processes are for Ray's developers; errors come to us as exceptions.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # A thread of Ray Data that outlives a stopped run must not start another Ray.
    "RAY_ENABLE_AUTO_CONNECT": "0",
}


@contextlib.contextmanager
def ray_session(resources: Resources) -> Iterator[None]:
    """Ray for the length of a run: a cluster that is named, or one of our own on this machine."""
    try:
        for name, value in _RAY_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import ray
        import ray.data
    except ImportError:
        raise MissingExtra("Extraction", "extract", "ray") from None
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    # Ray starts programs of its own and forks no copy of this process: Lance is safe from that.
    warnings.filterwarnings("ignore", message="lance is not fork-safe")
    with _held_back_stderr():
        if resources.ray_address:
            cluster.connect(resources.ray_address, _RAY_ENVIRONMENT, **quiet)
        else:
            ray.init(
                # By default Ray would join whatever cluster it finds on this machine.
                address="local",
                num_cpus=resources.cpus or machine_cpus(),
                num_gpus=resources.gpus,
                object_store_memory=_OBJECT_STORE_BYTES,
                include_dashboard=False,
                **quiet,
            )
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _held_back_stderr() -> Iterator[None]:
    """Ray's native code greets on standard error whatever level is set; shown only if starting fails."""
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(shown, held.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)


def results(
    units: pa.Table,
    specs: Sequence[FeatureSpec],
    limits: MediaLimits,
    resources: Resources,
    sending: Sending,
    vllm: VllmConfig,
) -> Generator[pa.Table]:
    """Run ``units`` (UNITS_SCHEMA) through the graph; yields RESULTS_SCHEMA tables as they finish.

    Units whose worker died twice are not in the results: the caller retries them alone.

    Raises:
        MmfeatError: a model could not be loaded in its worker, or a node of a cluster lacks files.
    """
    import ray
    from ray.exceptions import RayError

    _quiet_ray_data()
    if resources.ray_address:
        cluster.check_nodes(units, specs)
    wanted = count_wanted(units)
    numbers = sorted(wanted)
    # First, while nothing has started: what it lacks is said at once.
    engines = {n: processor(specs[n], n, specs, vllm) for n in numbers if in_engine(specs[n])}
    nodes = [cpus for _, cpus in cluster.working_nodes().values()] or [1]
    layout = lay_out(
        [n for n in numbers if n not in engines],
        work_of(units),
        served={n for n in numbers if asks_server(specs[n])},
        in_engines=bool(engines),
        nodes=nodes,
        gpus=ray.cluster_resources().get("GPU", 0),  # type: ignore[no-untyped-call]
        wanted=resources,
    )
    blocks = split(units, specs, max(pool.workers for pool in layout.pools))
    expected = {number: count // len(nodes) for number, count in wanted.items()}
    dataset = _dataset(blocks, specs, limits, resources, sending, layout, engines, expected)
    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")
    except RayError as error:
        raise _cause(error) from error


def _dataset(
    blocks: list[pa.Table],
    specs: Sequence[FeatureSpec],
    limits: MediaLimits,
    resources: Resources,
    sending: Sending,
    layout: Layout,
    engines: dict[int, Any],
    expected: dict[int, int],
) -> Any:
    import ray.data

    decodes_first = layout.decode_cpus is None
    with warnings.catch_warnings():
        # Retry limits have no named parameter yet; their general form warns.
        warnings.simplefilter("ignore")
        # Unlike ``from_arrow``, it starts no task for each block only to learn its schema.
        dataset = ray.data.from_blocks(blocks)
        if not decodes_first:
            decode = Decode(specs, limits, fenced=True)
            dataset = dataset.map_batches(
                decode, num_cpus=layout.decode_cpus, max_retries=_RETRIES, **_WHOLE_BLOCKS
            )
        for number, engine in engines.items():
            dataset = with_captions(dataset, engine, specs, number)
        for pool in layout.pools:
            decodes = decodes_first and pool is layout.pools[0]
            dataset = dataset.map_batches(
                DecodeEncode if decodes else Encode,
                fn_constructor_args=(specs, pool.numbers, limits) if decodes else (specs, pool.numbers),
                fn_constructor_kwargs={
                    "last": pool is layout.pools[-1],
                    "device": pool.device,
                    "threads": pool.threads,
                    "expected": expected,
                    "batch_size": resources.batch_size,
                    "sending": sending,
                },
                compute=ray.data.ActorPoolStrategy(size=pool.workers),
                num_cpus=pool.num_cpus,
                num_gpus=pool.num_gpus,
                # Enough that the last block finds a worker even if every block kills some.
                max_restarts=(_RETRIES + 1) * len(blocks),
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
    # A block whose worker died is left out instead of ending the run; its units are retried alone.
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
