"""Work items that vanished with their worker, one by one in a process of their own.

A model that crashes on one item takes its worker, and with it every work item of that batch. Here each
runs alone in an actor that may die: what works is kept, and what kills or hangs the actor is recorded
as failed. The actor keeps its models from one work item to the next and is replaced only when it died.
Decoders crash no worker: they have a process of their own (``extract/fence/process.py``).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from mmfeat.extract.canary import Canary
from mmfeat.extract.media.remote import is_remote
from mmfeat.pipelines.execution.batch import RESULTS_SCHEMA, STAMP_READ, Batch
from mmfeat.pipelines.execution.stages import Decode, Encode
from mmfeat.pipelines.planning.contents import BETWEEN_STAMPS
from mmfeat.pipelines.planning.groups import media_columns_of
from mmfeat.pipelines.planning.work import PAYLOAD, STAMP
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.featureset import FAILED
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.server import Sending
from mmfeat.schemas.spec import FeatureSpec

# Beside the limits of fetching and decoding, which the stage keeps itself: starting the process.
START_SECONDS = 120.0
# Covers loading the weights, which the first work item waits for.
ENCODE_SECONDS = 900.0


def retry_alone(
    work: pa.Table,
    specs: Sequence[FeatureSpec],
    limits: MediaLimits,
    sending: Sending,
    canaries: Mapping[int, Canary],
) -> Generator[pa.Table]:
    """RESULTS_SCHEMA rows for every work item, computed alone; Ray must be running.

    Raises:
        MmfeatError: a model could not be loaded.
    """
    numbers = sorted({n for row in work["features"].to_pylist() for n in row})
    lone = None
    for start in range(len(work)):
        one = work.slice(start, 1)
        lone = lone or _Lone(specs, numbers, limits, sending, canaries)
        results, alive = lone.run(one)
        if not alive:
            lone.kill()
            lone = None
        yield results
    if lone is not None:
        lone.kill()


class _Lone:
    """One actor that runs one work item at a time through every stage."""

    def __init__(
        self,
        specs: Sequence[FeatureSpec],
        numbers: Sequence[int],
        limits: MediaLimits,
        sending: Sending,
        canaries: Mapping[int, Canary],
    ) -> None:
        import ray

        gpus = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0  # type: ignore[no-untyped-call]
        actor = ray.remote(num_cpus=0.5, num_gpus=gpus, max_restarts=0, max_task_retries=0)(_Stages)
        self.specs, self.limits = specs, limits
        self.actor: Any = actor.remote(
            list(specs), numbers, limits, sending, canaries, "cuda" if gpus else "cpu"
        )

    def run(self, one: pa.Table) -> tuple[pa.Table, bool]:
        """The work item's results, and whether the process is alive: it may have crashed or hung."""
        fetch_seconds = self.limits.fetch.seconds if any(map(is_remote, _locations(one))) else 0.0
        seconds = START_SECONDS + fetch_seconds + self.limits.item_seconds
        try:
            one = self._wait(self.actor.decode.remote(one), "decode", "decoder", seconds)
            return self._wait(self.actor.encode.remote(one), "encode", "model", ENCODE_SECONDS), True
        except ItemError as error:
            return failed_results(one, self.specs, error), False

    def kill(self) -> None:
        import ray

        ray.kill(self.actor)

    def _wait(self, answer: Any, stage: str, what: str, seconds: float) -> pa.Table:
        import ray
        from ray.exceptions import ActorDiedError, GetTimeoutError, RayTaskError

        try:
            return ray.get(answer, timeout=seconds)
        except GetTimeoutError:
            raise ItemError(stage, f"{what} timed out after {seconds:.0f} s") from None
        except ActorDiedError:
            raise ItemError(stage, f"{what} crashed its process") from None
        except RayTaskError as error:
            # Not this item's fault (weights that cannot be loaded): it ends the run.
            raise error.cause from None


class _Stages:
    def __init__(
        self,
        specs: list[FeatureSpec],
        numbers: list[int],
        limits: MediaLimits,
        sending: Sending,
        canaries: Mapping[int, Canary],
        device: str,
    ) -> None:
        self.decoder = Decode(specs, limits, fenced=True)
        self.encoder: Encode | None = None
        self.build = (specs, numbers, sending, canaries, device)

    def decode(self, one: pa.Table) -> pa.Table:
        return self.decoder(one)

    def encode(self, decoded: pa.Table) -> pa.Table:
        if self.encoder is None:
            specs, numbers, sending, canaries, device = self.build
            self.encoder = Encode(
                specs, numbers, last=True, device=device, sending=sending, canaries=canaries
            )
        return self.encoder(decoded)


def _locations(one: pa.Table) -> list[str]:
    """Where the files of a work item are."""
    columns = [name for name in one.column_names if name.startswith(STAMP)]
    places = [one[PAYLOAD + name.removeprefix(STAMP)][0].as_py() for name in columns]
    return [place for place in places if place is not None]


def failed_results(one: pa.Table, specs: Sequence[FeatureSpec], error: ItemError) -> pa.Table:
    """RESULTS_SCHEMA rows of a work item that took its process with it, with the content where it is known:
    that of its texts, and once it is decoded that of its files."""
    batch = Batch(one, specs)
    rows = [
        {
            "work": one["work"][0].as_py(),
            "feature": number,
            "status": FAILED,
            "stage": error.stage,
            "reason": error.reason,
            "content_hash": _content_hash(batch, specs[number]),
            "stamp": _stamp(batch, specs[number]),
        }
        for number in one["features"][0].as_py()
    ]
    return pa.Table.from_pylist(rows, schema=RESULTS_SCHEMA)


def _content_hash(batch: Batch, spec: FeatureSpec) -> str | None:
    """None of what reads a feature of the same work item, which has no value."""
    above = [batch.by_name[name] for name in spec.upstreams]
    return None if any(batch.wants(0, number) for number in above) else batch.content_hash(0, spec)


def _stamp(batch: Batch, spec: FeatureSpec) -> str:
    if any(STAMP_READ + column in batch.table.column_names for column in media_columns_of(spec)):
        return batch.stamp(0, spec)
    planned = [batch.table[STAMP + column][0].as_py() or "" for column in media_columns_of(spec)]
    return BETWEEN_STAMPS.join(planned)
