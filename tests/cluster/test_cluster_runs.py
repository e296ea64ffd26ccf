"""Runs on a real Ray cluster of separate raylets. The nodes share this machine's disk, unless a test takes
their sight of it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from helpers import synthetic, worlds

import mmfeat
from mmfeat.schemas.errors import StoreError
from mmfeat.store import Store

IDS = [f"item-{n:03d}" for n in range(worlds.N_ITEMS)]
FEATURES = {"clip": worlds.CLIP, "caption": worlds.CAPTION}

# Groups of a few rows, so that there is always work under way and rows to come.
PROGRAM = """
from mmfeat.pipelines.execution import commit
commit.GROUP_ROWS = 8
from mmfeat.cli import main
main()
"""


def start(media: Path, store: Path, *words: str) -> subprocess.Popen[str]:
    config = store.parent / "features.toml"
    config.write_text("\n".join(map(table, FEATURES)))
    command = ["extract", "--dataset", "folder", "--root", str(media), "--store", str(store)]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *command, "--config", str(config), "--threads", "1", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=store.parent,
    )  # fmt: skip


def table(feature: str) -> str:
    settings = "\n".join(f'{key} = "{value}"' for key, value in FEATURES[feature].items())
    return f"[features.{feature}]\n{settings}\n"


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    out, err = process.communicate(timeout=400)
    assert process.returncode == code, out + err
    assert "Traceback" not in err
    return err


def rows(store: Path) -> int:
    try:
        opened = Store.open(str(store))
    except StoreError:
        return 0  # not made yet
    return sum(sum(opened.counts(version).values()) for version in opened.versions())


def test_a_run_whose_node_is_killed_and_replaced_ends_with_the_rows_of_one_machine(
    three_nodes, world, tmp_path
):
    store = tmp_path / "store"
    options = ("--ray-address", three_nodes.address, "--workers", "2", "--batch-size", "2")
    process = start(world / "media", store, *options)
    until = time.monotonic() + 300
    while not rows(store):
        assert process.poll() is None and time.monotonic() < until, finish(process)
        time.sleep(0.05)
    three_nodes.kill(three_nodes.nodes[0])
    killed_at = rows(store)
    three_nodes.add()
    finish(process)
    assert killed_at < 2 * worlds.N_ITEMS, "the run was over before its node was killed"

    found, wanted = (mmfeat.open(place).lookup(IDS, list(FEATURES)) for place in (store, world / "store"))
    for name in FEATURES:
        assert found[name].spec.fingerprint == wanted[name].spec.fingerprint
        assert found[name].status.tolist() == wanted[name].status.tolist() == ["ok"] * worlds.N_ITEMS
    assert found["caption"].texts == wanted["caption"].texts
    np.testing.assert_allclose(found["clip"].matrix, wanted["clip"].matrix, rtol=0, atol=1e-6)
    (run,) = mmfeat.open(store).runs()
    assert [feature["ok"] for feature in run["report"]["features"]] == [worlds.N_ITEMS] * 2


def test_a_cluster_that_is_not_there_is_one_error(tmp_path):
    media = worlds.cover_folder(tmp_path / "media", synthetic.held_out(1))
    said = finish(start(media, tmp_path / "store", "--ray-address", "127.0.0.1:1"), code=1)
    assert "There is no Ray cluster at 127.0.0.1:1" in said
