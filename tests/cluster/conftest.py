"""A Ray cluster of three raylets on this machine: a head that computes nothing, and two nodes of one CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

# What results in flight of a few small pictures take.
_OBJECT_STORE_BYTES = 100 << 20


class ThreeNodes:
    """``address``, ``nodes`` that compute, and more of them with :meth:`add`."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address = self.cluster.address
        self.nodes = [self.add() for _ in range(2)]

    def add(self) -> Any:
        return self.cluster.add_node(num_cpus=1, object_store_memory=_OBJECT_STORE_BYTES)

    def kill(self, node: Any) -> None:
        """The raylet and its workers, with -9."""
        self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture(scope="package")
def three_nodes() -> Iterator[ThreeNodes]:
    nodes = ThreeNodes()
    try:
        yield nodes
    finally:
        with contextlib.suppress(Exception):
            nodes.cluster.shutdown()
