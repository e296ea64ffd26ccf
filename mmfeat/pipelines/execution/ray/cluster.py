"""A running Ray cluster: our code goes with the run; packages, weights and local files must be there."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmfeat.extract.media.read import stamp_of
from mmfeat.pipelines.planning.work import STAMP, payload_of
from mmfeat.schemas.catalog import container_of
from mmfeat.schemas.errors import MmfeatError
from mmfeat.schemas.spec import FeatureSpec

# A folder that a node lacks shows at any of its files; a dataset of more folders is not looked at whole.
_MAX_FOLDERS = 100
_CONNECT_SECONDS = 10.0
_PACKAGE = Path(__file__).parents[1]


def connect(address: str, environment: dict[str, str], **options: Any) -> None:
    """Join the cluster. Its workers run this process's mmfeat, whatever version their nodes have.

    Args:
        address: as Ray takes it: ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``.
        environment: variables for the workers. Credentials are none of them: what is sent this way can
            be read by all who use the cluster.

    Raises:
        MmfeatError: there is no such cluster, or it runs another version of Ray or Python.
    """
    import ray

    if not _answers(address):
        raise MmfeatError(
            f"There is no Ray cluster at {address}: nothing answers there.",
            hint="Check --ray-address, and that this machine may reach that port.",
        )
    shipped = {"py_modules": [str(_PACKAGE)], "env_vars": environment}
    try:
        ray.init(address=address, runtime_env=shipped, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise MmfeatError(
            f"Cannot use the Ray cluster {address}: {str(error).strip().partition(chr(10))[0]}",
            hint="Check --ray-address; Ray and Python must have the same version here and on its nodes.",
        ) from error


def _answers(address: str) -> bool:
    """Whether something listens at the address; Ray itself would ask for more than a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return True  # a name such as "auto", which Ray looks up on this machine
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS):
            return True
    except OSError:
        return False


def working_nodes() -> dict[str, tuple[str, float]]:
    """Id to address and CPUs of every node that is alive and has a CPU to compute with."""
    import ray

    return {
        node["NodeID"]: (node["NodeManagerAddress"], node["Resources"]["CPU"])
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"] and node["Resources"].get("CPU")
    }


def check_nodes(work: pa.Table, specs: Sequence[FeatureSpec]) -> None:
    """Every node sees the local files that the run reads: one file of each folder, and the weights.

    Raises:
        MmfeatError: a node does not, or mmfeat cannot be used on it.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    paths = [*_samples(work), *_weights(specs)]
    look = ray.remote(num_cpus=0, max_retries=0)(_unseen)
    nodes = working_nodes()
    asked = [
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(paths)
        for node in nodes
    ]
    for (address, _), answer in zip(nodes.values(), asked, strict=True):
        try:
            unseen = ray.get(answer)
        except RayError as error:
            raise MmfeatError(
                f"mmfeat cannot be used on the node {address}: {str(error).strip().splitlines()[-1]}",
                hint="Its Python must have mmfeat's packages: pip install 'mmfeat[extract]' there.",
            ) from error
        if unseen:
            raise MmfeatError(
                f"The node {address} of the cluster does not see {unseen[0]}"
                + (f" and {len(unseen) - 1} more." if len(unseen) > 1 else "."),
                hint="Local paths must be the same shared folder on every node. Or put media on an object "
                "store (s3://, gs://, az://), and name models by their hub id.",
            )


def _samples(work: pa.Table) -> Iterator[str]:
    """One local file of each folder, archive or table."""
    seen: set[str] = set()
    stamps = [name for name in work.column_names if name.startswith(STAMP)]
    places = [payload_of(work, name.removeprefix(STAMP)).drop_null().to_pylist() for name in stamps]
    for location in chain.from_iterable(places):
        place = container_of(location) or location.rpartition("/")[0]
        # A file that is not here either is its item's failure, and no node's.
        if place not in seen and stamp_of(location) is not None:
            seen.add(place)
            yield location
        if len(seen) == _MAX_FOLDERS:
            return


def _weights(specs: Iterable[FeatureSpec]) -> Iterator[str]:
    for spec in specs:
        if spec.weights.origin == "folder" and spec.weights.location:
            yield spec.weights.location


def _unseen(locations: Sequence[str]) -> list[str]:
    return [place for place in locations if stamp_of(place) is None and not Path(place).is_dir()]
