"""How much a run does, counted: nothing is read, decoded, encoded or written twice."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import synthetic
import worlds

import mmfeat

HOOK = Path(__file__).parent / "hook"
N_ITEMS = 100
BATCH = 8  # pictures of a call in a process of one thread
COVERS = {"clip": worlds.CLIP, "dino": worlds.DINO}
FEATURES = COVERS | {"words": {"source": "title", "encoder": "open_clip", "model": worlds.CLIP["model"]}}

PROGRAM = """
import json, sys
import mmfeat
report = mmfeat.extract(**json.loads(sys.argv[1]))
print(json.dumps({"computed": report.computed, "imported": sorted({"torch", "ray"} & set(sys.modules))}))
"""


class Counts(Counter):
    """How often each thing was done to each."""

    def of(self, what: str) -> Counter[str]:
        return Counter({of: count for (did, of), count in self.items() if did == what})


def run(folder: Path) -> tuple[dict, Counts]:
    """One run in a process of its own, and what all its processes did."""
    log = folder / "counts"
    log.write_text("")
    job = {
        "dataset": "folder",
        "root": str(folder / "media"),
        "store": str(folder / "store"),
        "features": FEATURES,
        "resources": {"threads": 1},
    }
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HOOK), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "MMFEAT_COUNTS": str(log),
        "MMFEAT_MEDIA": str(folder / "media" / "covers"),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(job)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    counted = Counts(tuple(line.split(" ", 1)) for line in log.read_text().splitlines())
    return json.loads(done.stdout.splitlines()[-1]), counted


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    worlds.cover_folder(folder / "media", synthetic.held_out(N_ITEMS))
    titles = "\n".join(f"item-{n:03d},title number {n}" for n in range(N_ITEMS))
    (folder / "media" / "titles.csv").write_text(f"item,title\n{titles}\n")
    return folder


def test_a_run_reads_and_decodes_each_cover_once_and_calls_each_model_once_a_batch(folder):
    report, counts = run(folder)
    covers = {str(path) for path in (folder / "media" / "covers").iterdir()}
    assert report["computed"] == 2 * N_ITEMS
    assert counts.of("open") == dict.fromkeys(covers, 1)
    assert counts.of("render") == dict.fromkeys(covers, 1)
    for feature in COVERS:
        assert counts.of("_call")[feature] == math.ceil(N_ITEMS / BATCH)
    assert sum(int(rows) * n for rows, n in counts.of("commit").items()) == len(FEATURES) * N_ITEMS


def test_a_run_with_nothing_new_opens_no_file_loads_no_model_and_starts_nothing(folder):
    report, counts = run(folder)
    assert report == {"computed": 0, "imported": []}
    assert not counts


def test_one_changed_cover_costs_one_of_everything(folder):
    changed = worlds.write_cover(folder / "media", "item-007", synthetic.scene(7_777))
    _, counts = run(folder)
    # Once to see that its content differs, and once to decode it.
    assert counts.of("open") == {str(changed): 2}
    assert counts.of("render") == {str(changed): 1}
    assert counts.of("_call") == dict.fromkeys(COVERS, 1)
    assert counts.of("load_model") == dict.fromkeys(COVERS, 1)
    assert counts.of("commit") == {"1": len(COVERS)}
    assert mmfeat.open(folder / "store").lookup(["item-007"])["clip"].status.tolist() == ["ok"]
