"""A node that does not see the local media: said before any model loads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import ray
from helpers.processes import wait_until
from test_cluster_runs import finish, start

from mmfeat.store import Store


@pytest.mark.slow
def test_a_node_that_does_not_see_the_media_is_named_before_anything_is_computed(
    three_nodes, world, tmp_path
):
    media = world / "media"
    hidden = f"mount -t tmpfs tmpfs {media / 'covers'}"
    if subprocess.run(["unshare", "-m", "sh", "-c", hidden], capture_output=True, check=False).returncode:
        pytest.skip("a folder cannot be hidden from one process here: this needs root and the right to mount")
    raylet = (
        f"{sys.executable} -m ray.scripts.scripts start --address={three_nodes.address} --num-cpus=1 --block"
    )
    node = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", f"{hidden} && exec {raylet}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        wait_for_nodes(three_nodes.address, 1 + len(three_nodes.cluster.worker_nodes) + 1)
        store = tmp_path / "store"
        said = finish(start(media, store, "--ray-address", three_nodes.address), code=1)
        assert f"does not see {media / 'covers' / 'item-000.png'}" in said
        assert "object store" in said
        opened = Store.open(str(store))
        assert [opened.counts(version) for version in opened.versions()] == [{}, {}]
    finally:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()


def wait_for_nodes(address: str, count: int) -> None:
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    wait_until(lambda: sum(node["Alive"] for node in ray.nodes()) >= count, "the node did not join")
    ray.shutdown()
