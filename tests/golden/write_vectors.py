"""Writes ``vectors.npz``, upstream's vectors of every family, and ``mmfeat/extract/tested.json``, what
``mmfeat encoders list`` says of them.

    PYTHONPATH=tests python tests/golden/write_vectors.py

Weights are seeded by their names, so the file holds no weights: a digest of them, and of the inputs. Run this
to add a family, and look at the difference: a family that was there must keep its vectors.
"""

from __future__ import annotations

import json
import math
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from golden_vectors import FAMILIES, Family, inputs_digest, ours
from helpers.encoder_checks import cosines
from helpers.tiny_weights import digest

from mmfeat.extract import tested as tested_families

HERE = Path(__file__).parent
TESTED = Path(tested_families.__file__).parent / "tested.json"
LIBRARIES = ("torch", "torchvision", "transformers", "sentence-transformers", "open_clip_torch", "timm")


def main() -> None:
    vectors, facts, tested = {}, {}, []
    for name, family in FAMILIES.items():
        with tempfile.TemporaryDirectory() as place:
            folder = family.folder(Path(place))
            theirs, method = family.theirs(folder, family.items), family.method(folder)
            vectors[name] = theirs.astype(np.float32)
            facts[name] = {"weights": digest(folder), "inputs": inputs_digest(family.items)}
            least = min(float(cosines(found, theirs).min()) for found in ours(family, method))
            tested.append(_tested(name, family, method.notes, least))
    # Numbers of CPUs differ in the last digits.
    np.savez_compressed(HERE / "vectors.npz", **vectors)
    made = {"made_with": {library: version(library) for library in LIBRARIES}, "families": facts}
    (HERE / "vectors.json").write_text(json.dumps(made, indent=1) + "\n")
    TESTED.write_text(json.dumps(tested, indent=1) + "\n")


def _tested(name: str, family: Family, notes: tuple[str, ...], least: float) -> dict[str, object]:
    """What is told of a family; the cosine is rounded down."""
    how = "alone and in a mixed batch" + (", by the model's own processor" if notes else "")
    return {
        "family": name,
        "method": family.table["encoder"],
        "reads": family.reads,
        "how": f"tiny seeded model, {how}",
        "against": family.against,
        "least_cosine": min(1.0, math.floor(least * 1e6) / 1e6),
    }


if __name__ == "__main__":
    main()
