"""Which families of models were compared with their own library, how, and with what result.

``tested.json`` is written by ``tests/golden/write_vectors.py`` from the vectors that the tests compare.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class Tested:
    """One family of models.

    Attributes:
        family: its usual name.
        method: the encoder that loads it.
        reads: what was compared, in words.
        how: on which model, and how it was asked.
        against: the library and the class of it whose vectors are the reference.
        least_cosine: between our vectors and those, in float32; rounded down.
    """

    family: str
    method: str
    reads: str
    how: str
    against: str
    least_cosine: float


def families_tested() -> tuple[Tested, ...]:
    """All families, in the order of the tests."""
    text = files("mmfeat.extract").joinpath("tested.json").read_text(encoding="utf-8")
    return tuple(Tested(**one) for one in json.loads(text))
