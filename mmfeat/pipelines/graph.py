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
import pyarrow.compute as pc

from mmfeat.pipelines.resources import Layout, lay_out, machine_cpus
from mmfeat.pipelines.stage import Decode, Encode, renderings
from mmfeat.schemas.errors import MissingExtra, MmfeatError
from mmfeat.schemas.job import Resources
from mmfeat.schemas.media import MediaLimits
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
            ray.init(address=resources.ray_address, **quiet)
        else:
            ray.init(
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
    units: pa.Table, specs: Sequence[FeatureSpec], limits: MediaLimits, resources: Resources
) -> Generator[pa.Table]:
    """Run ``units`` (UNITS_SCHEMA) through the graph; yields RESULTS_SCHEMA tables as they finish.

    Units whose worker died twice are not in the results: the caller retries them alone.

    Raises:
        MmfeatError: a model could not be loaded in its worker.
    """
    import ray
    from ray.exceptions import RayError

    _quiet_ray_data()
    available = ray.cluster_resources()  # type: ignore[no-untyped-call]
    numbers = sorted({n for row in units["features"].to_pylist() for n in row})
    layout = lay_out(
        numbers,
        len(units),
        cpus=available.get("CPU", 1),
        gpus=available.get("GPU", 0),
        wanted=resources,
    )
    dataset = _dataset(split(units, specs, layout), specs, limits, resources, layout)
    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")
    except RayError as error:
        raise _cause(error) from error


def split(units: pa.Table, specs: Sequence[FeatureSpec], layout: Layout) -> list[pa.Table]:
    """``units`` in their order as blocks of one source each, bounded in number and in pixels, and no
    fewer of them than there are processes to work on them."""
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
    pixels = sum(r.view.height * r.view.width * (r.sampling.count if r.sampling else 1) for r in wanted)
    return max(1, min(_MEDIA_UNITS, _BLOCK_BYTES // (3 * pixels)))


def _dataset(
    blocks: list[pa.Table],
    specs: Sequence[FeatureSpec],
    limits: MediaLimits,
    resources: Resources,
    layout: Layout,
) -> Any:
    import ray.data

    with warnings.catch_warnings():
        # Retry limits have no named parameter yet; their general form warns.
        warnings.simplefilter("ignore")
        dataset = ray.data.from_arrow(blocks).map_batches(
            Decode(specs, limits),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=layout.decode_cpus,
            max_retries=_RETRIES,
        )
        for pool in layout.pools:
            dataset = dataset.map_batches(
                Encode,
                fn_constructor_args=(specs, pool.numbers),
                fn_constructor_kwargs={
                    "last": pool is layout.pools[-1],
                    "device": pool.device,
                    "threads": pool.threads,
                    "batch_size": resources.batch_size,
                },
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=pool.num_cpus,
                num_gpus=pool.num_gpus,
                compute=ray.data.ActorPoolStrategy(size=pool.workers),
                max_restarts=_RETRIES,
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
