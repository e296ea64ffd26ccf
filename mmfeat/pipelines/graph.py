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

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract.registry import asks_server
from mmfeat.pipelines import cluster
from mmfeat.pipelines.batch import renderings
from mmfeat.pipelines.cost import trial
from mmfeat.pipelines.resources import Layout, lay_out, machine_cpus
from mmfeat.pipelines.stage import Decode, Encode
from mmfeat.pipelines.vllm import in_engine, processor, with_captions
from mmfeat.schemas.errors import MissingExtra, MmfeatError
from mmfeat.schemas.job import Resources
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.server import Sending, VllmConfig
from mmfeat.schemas.spec import FeatureSpec

# A block is one decode task's work and one actor call: large enough for full batches, small enough
# to bound what is in flight. Its pixels are estimated from what the renderings may hold at most.
_MEDIA_UNITS = 64
_TEXT_UNITS = 512
_BLOCK_BYTES = 96 << 20

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
    numbers = sorted({n for row in units["features"].to_pylist() for n in row})
    # First, while nothing has started: what it lacks is said at once.
    engines = {n: processor(specs[n], n, specs, vllm) for n in numbers if in_engine(specs[n])}
    layout = lay_out(
        [n for n in numbers if n not in engines],
        len(units),
        served={n for n in numbers if asks_server(specs[n])},
        nodes=[cpus for _, cpus in cluster.working_nodes().values()] or [1],
        gpus=ray.cluster_resources().get("GPU", 0),  # type: ignore[no-untyped-call]
        wanted=resources,
    )
    dataset = _dataset(split(units, specs, layout), specs, limits, resources, sending, layout, engines)
    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")
    except RayError as error:
        raise _cause(error) from error


def split(units: pa.Table, specs: Sequence[FeatureSpec], layout: Layout) -> list[pa.Table]:
    """``units`` as blocks of one source each, bounded in number and in pixels, and no fewer of them than
    there are processes to work on them; in their order, but for the trial of captions, which is first."""
    if first := trial(units, specs):
        rest = np.setdiff1d(np.arange(len(units)), first)
        parts = [units.take(pa.array(rows, pa.int64())) for rows in (first, rest)]
        return [block for part in parts for block in _blocks(part, specs, layout)]
    return _blocks(units, specs, layout)


def _blocks(units: pa.Table, specs: Sequence[FeatureSpec], layout: Layout) -> list[pa.Table]:
    workers = max(pool.workers for pool in layout.pools)
    sizes = {source: _largest_block(source, specs) for source in pc.unique(units["source"]).to_pylist()}
    share = max(1, len(units) // workers)
    blocks, start = [], 0
    sources = units["source"].to_pylist()
    for end in range(1, len(units) + 1):
        size = min(sizes[sources[start]], share)
        if end == len(units) or end - start == size or sources[end] != sources[start]:
            blocks.append(units.slice(start, end - start))
            start = end
    return blocks


def _largest_block(source: str, specs: Sequence[FeatureSpec]) -> int:
    wanted = [r for r in renderings(specs) if r.source == source]
    if not wanted:
        return _TEXT_UNITS
    pixels = sum(r.view.height * r.view.width * (r.sampling.most if r.sampling else 1) for r in wanted)
    return max(1, min(_MEDIA_UNITS, _BLOCK_BYTES // (3 * pixels)))


def _dataset(
    blocks: list[pa.Table],
    specs: Sequence[FeatureSpec],
    limits: MediaLimits,
    resources: Resources,
    sending: Sending,
    layout: Layout,
    engines: dict[int, Any],
) -> Any:
    import ray.data

    with warnings.catch_warnings():
        # Retry limits have no named parameter yet; their general form warns.
        warnings.simplefilter("ignore")
        dataset = ray.data.from_arrow(blocks).map_batches(
            Decode(specs, limits, fenced=True),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=layout.decode_cpus,
            max_retries=_RETRIES,
        )
        for number, engine in engines.items():
            dataset = with_captions(dataset, engine, specs, number)
        for pool in layout.pools:
            dataset = dataset.map_batches(
                Encode,
                fn_constructor_args=(specs, pool.numbers),
                fn_constructor_kwargs={
                    "last": pool is layout.pools[-1],
                    "device": pool.device,
                    "threads": pool.threads,
                    "batch_size": resources.batch_size,
                    "sending": sending,
                },
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=pool.num_cpus,
                num_gpus=pool.num_gpus,
                compute=ray.data.ActorPoolStrategy(size=pool.workers),
                # Enough that the last block finds a worker even if every block kills some.
                max_restarts=(_RETRIES + 1) * len(blocks),
                max_task_retries=_RETRIES,
            )
    return dataset


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
