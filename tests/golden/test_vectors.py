"""Vectors that must stay: upstream's, of a tiny seeded model of every family (``write_vectors.py``).

A library that is updated and gives other values, and a change of ours that does, fail here.
"""

from __future__ import annotations

import json
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_vectors import FAMILIES, inputs_digest, ours
from helpers.encoder_checks import cosines
from helpers.tiny_weights import digest

from mmfeat.extract.tested import families_tested

HERE = Path(__file__).parent
KNOWN = json.loads((HERE / "vectors.json").read_text())
VECTORS = np.load(HERE / "vectors.npz")
LEAST = 0.99999

torch.set_num_threads(1)


def _since() -> str:
    """The libraries that are other ones than those that the vectors were written with."""
    other = {name: (was, version(name)) for name, was in KNOWN["made_with"].items() if version(name) != was}
    return f"libraries then and now: {other}" if other else "with the same libraries"


@pytest.mark.parametrize("name", FAMILIES)
def test_vectors_are_those_that_upstream_gave_alone_and_in_mixed_batches(name, tmp_path):
    family, known = FAMILIES[name], KNOWN["families"][name]
    folder = family.folder(tmp_path)
    assert digest(folder) == known["weights"], f"the tiny model has other weights, {_since()}"
    assert inputs_digest(family.items) == known["inputs"], f"the inputs are other ones, {_since()}"
    together, alone = ours(family, family.method(folder))
    assert cosines(together, VECTORS[name]).min() >= LEAST, _since()
    assert cosines(alone, VECTORS[name]).min() >= LEAST, _since()
    # The cosine of unlike items is no measure where all are alike.
    assert cosines(VECTORS[name][:1], VECTORS[name][1:2]).max() < 0.9999


def test_at_least_40_families_are_frozen_and_each_is_told_of():
    assert (
        set(KNOWN["families"]) == set(VECTORS) == set(FAMILIES) == {one.family for one in families_tested()}
    )
    assert all(one.least_cosine >= LEAST for one in families_tested())
    kinds = Counter(_kind(family.reads) for family in FAMILIES.values())
    assert sum(kinds.values()) >= 40
    assert all(kinds[kind] >= least for kind, least in {"clips": 6, "sound": 6, "texts": 6}.items())
    assert kinds["pictures and texts"] >= 15


def _kind(reads: str) -> str:
    return "pictures and texts" if "items" in reads or "and texts" in reads else reads


def test_the_frozen_file_is_small():
    assert sum((HERE / name).stat().st_size for name in ("vectors.npz", "vectors.json")) < 300_000
