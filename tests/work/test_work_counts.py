"""How much a run does, counted: nothing is read, decoded, encoded or written twice."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers import synthetic, worlds
from helpers.plugins import write_plugin

import mmfeat
from mmfeat.extract.canary import FILES

HOOK = Path(__file__).parent / "hook"
N_ITEMS = 100
BATCH = 8  # pictures of a call in a process of one thread
COVERS = {"clip": worlds.CLIP, "dino": worlds.DINO}
WORDS = {"words": {"source": "title", "encoder": "open_clip", "model": worlds.CLIP["model"]}}
FEATURES = COVERS | WORDS
N_TOGETHER = 12
PLUGINS, JOINT_ITEM = Path(__file__).parents[1] / "walks" / "plugins", "joint_item:JointItem"
JOINTS = {"joint": {"inputs": ["title", "cover"], "encoder": "joint"}}
TOGETHER = FEATURES | JOINTS

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


def run(folder: Path, features: dict[str, Any] = FEATURES) -> tuple[dict, Counts]:
    """One run in a process of its own, and what all its processes did."""
    log = folder / "counts"
    log.write_text("")
    job = {
        "dataset": "folder",
        "root": str(folder / "media"),
        "store": str(folder / "store"),
        "features": features,
        "resources": {"threads": 1},
    }
    path = [str(HOOK), str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "MMFEAT_COUNTS": str(log),
        "MMFEAT_MEDIA": str(folder / "media" / "covers"),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(job)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    counted = Counts(tuple(line.split(" ", 1)) for line in log.read_text().splitlines())
    # A model's canary goes through the decoder too, and has nothing to do with the items.
    if canaries := counted.pop(("render", str(FILES["image"])), 0):
        counted[("decode", "image")] -= canaries
        counted[("canary", "image")] = canaries
    return json.loads(done.stdout.splitlines()[-1]), counted


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    worlds.cover_folder(folder / "media", synthetic.held_out(N_ITEMS))
    write_titles(folder, N_ITEMS, {})
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> Path:
    """Few items, of which a plug-in's feature reads cover and title together."""
    folder = write_plugin(tmp_path_factory.mktemp("together"), {"mmfeat.encoders": {"joint": JOINT_ITEM}})
    shutil.copy(PLUGINS / "joint_item.py", folder)
    worlds.cover_folder(folder / "media", synthetic.held_out(N_TOGETHER))
    write_titles(folder, N_TOGETHER, {})
    return folder


def write_titles(folder: Path, number: int, changed: dict[int, str]) -> None:
    titles = "\n".join(f"item-{n:03d},{changed.get(n, f'title number {n}')}" for n in range(number))
    (folder / "media" / "titles.csv").write_text(f"item,title\n{titles}\n")


def test_a_run_reads_and_decodes_each_cover_once_and_calls_each_model_once_a_batch(folder):
    report, counts = run(folder)
    covers = {str(path) for path in (folder / "media" / "covers").iterdir()}
    assert report["computed"] == 2 * N_ITEMS
    assert counts.of("open") == dict.fromkeys(covers, 1)
    assert counts.of("render") == dict.fromkeys(covers, 1)
    assert counts.of("decode") == {"image": N_ITEMS}
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
    assert counts.of("load_method") == dict.fromkeys(COVERS, 1)
    assert counts.of("canary") == {"image": len(COVERS)}
    assert counts.of("commit") == {"1": len(COVERS)}
    assert mmfeat.open(folder / "store").lookup(["item-007"])["clip"].status.tolist() == ["ok"]


def test_a_file_is_decoded_once_for_all_features_and_preparations_alone_and_with_a_text(together):
    report, counts = run(together, TOGETHER)
    covers = {str(path) for path in (together / "media" / "covers").iterdir()}
    assert counts.of("open") == dict.fromkeys(covers, 1)
    assert counts.of("render") == dict.fromkeys(covers, 1)
    assert counts.of("decode") == {"image": N_TOGETHER}
    assert counts.of("load_method") == dict.fromkeys(TOGETHER, 1)
    # A title has a work item of its own where a feature reads it alone.
    assert report["computed"] == 2 * N_TOGETHER
    assert sum(int(rows) * n for rows, n in counts.of("commit").items()) == len(TOGETHER) * N_TOGETHER
    assert run(together, TOGETHER)[1] == {}


def test_a_changed_title_costs_what_reads_the_title_and_nothing_else(together):
    write_titles(together, N_TOGETHER, {3: "another title"})
    cover = str(together / "media" / "covers" / "item-003.png")
    _, counts = run(together, TOGETHER)
    assert counts.of("open") == counts.of("render") == {cover: 1}
    assert counts.of("decode") == {"image": 1}
    assert counts.of("_call") == counts.of("load_method") == dict.fromkeys([*WORDS, *JOINTS], 1)
    assert counts.of("commit") == {"1": 2}


def test_a_changed_photo_costs_what_reads_the_photo_and_nothing_else(together):
    changed = str(worlds.write_cover(together / "media", "item-005", synthetic.scene(5_555)))
    _, counts = run(together, TOGETHER)
    # Once to see that its content differs, and once to decode it.
    assert counts.of("open") == {changed: 2}
    assert counts.of("render") == {changed: 1}
    assert counts.of("decode") == {"image": 1}
    assert counts.of("_call") == counts.of("load_method") == dict.fromkeys([*COVERS, *JOINTS], 1)
    assert counts.of("commit") == {"1": 3}


def test_a_photo_that_another_item_has_costs_what_reads_it_with_another_text(
    together,
):
    """What reads the photo alone is copied."""
    covers = together / "media" / "covers"
    shutil.copy(covers / "item-001.png", covers / "item-002.png")
    _, counts = run(together, TOGETHER)
    assert counts.of("_call") == counts.of("load_method") == dict.fromkeys(JOINTS, 1)
    assert counts.of("decode") == {"image": 1}
    assert counts.of("commit") == {"1": 3}
    found = mmfeat.open(together / "store").lookup(["item-001", "item-002"], list(TOGETHER))
    for feature in COVERS:
        assert (found[feature].matrix[0] == found[feature].matrix[1]).all()
    assert (found["joint"].matrix[0] != found["joint"].matrix[1]).any()
