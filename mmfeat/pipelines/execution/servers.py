"""Runs whose captions come from a server: how it is asked, when that ends, and what is kept meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract.registry import class_of
from mmfeat.extract.served.client import server_address
from mmfeat.extract.served.journal import Journal
from mmfeat.pipelines.execution.batch import NOT_ASKED
from mmfeat.schemas.errors import (
    MmfeatError,
    ServerRefused,
    ServerUnavailable,
    SpendingCap,
    StoreError,
    ValuesChanged,
)
from mmfeat.schemas.job import JobConfig
from mmfeat.schemas.server import ANSWERS_FOLDER, Sending
from mmfeat.schemas.spec import FeatureSpec

_ENDINGS = {
    kind.__name__: kind for kind in (ServerRefused, ServerUnavailable, SpendingCap, StoreError, ValuesChanged)
}


def sending_of(job: JobConfig, specs: Sequence[FeatureSpec], store_uri: str, run_id: str) -> Sending:
    """What the run's processes need to ask the job's server.

    Raises:
        ConfigError: a feature asks a server, and none is named.
    """
    server = job.server
    if any(map(_on_server, specs)):
        # Found here, once: on a cluster, other machines have other environments.
        server = server.model_copy(update={"base_url": server_address(server)})
    return Sending(
        run_id=run_id, server=server, spending=job.spending, journal=f"{store_uri}/{ANSWERS_FOLDER}"
    )


def reached(results: pa.Table) -> tuple[pa.Table, MmfeatError | None]:
    """Those of RESULTS_SCHEMA rows that are results, and why the others are none."""
    missed = pc.equal(results["status"], NOT_ASKED)
    if not pc.any(missed).as_py():
        return results, None
    first = results.filter(missed).slice(0, 1).to_pylist()[0]
    why = _ENDINGS.get(first["stage"], MmfeatError)(first["reason"], first["facts"])
    return results.filter(pc.invert(missed)), why


def forget_answers(specs: Sequence[FeatureSpec], sending: Sending) -> None:
    """Remove what was kept of the run's answers, now that every row is committed."""
    if sending.journal is not None:
        journal = Journal(sending.journal)
        for spec in specs:
            if _on_server(spec):
                journal.remove(spec.fingerprint)


def _on_server(spec: FeatureSpec) -> bool:
    return class_of(spec).runs == "server"
