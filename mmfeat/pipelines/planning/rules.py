"""Rows that were read by an earlier rule of a modality: which of them a fix touches.

A modality's rule number is raised when its files are decoded or prepared to other values than before. Each
row says by which rules its inputs were read. Where a modality can tell by the file that a fix does not touch
it, the row is right as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract import modalities
from mmfeat.extract.fence.decode import Changed, MediaRequest, Wanted
from mmfeat.extract.fence.process import decode_fenced_all
from mmfeat.schemas.inputs import VECTOR
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.schemas.templates import values_of

_FIRST = "1"


def rules_of(spec: FeatureSpec) -> str | None:
    """What rows of a feature that are made now say: the rule of each input, joined by ``+``; None if all
    are the first ones, as in rows of the first format."""
    rules = [_rule(one.modality) for one in spec.inputs]
    return None if set(rules) == {_FIRST} else "+".join(rules)


def by_other_rules(rules: pa.Array, spec: FeatureSpec) -> np.ndarray:
    """``[n]`` bool: which rows were not read by the rules of now."""
    now = rules_of(spec) or "+".join([_FIRST] * len(spec.inputs))
    first = "+".join([_FIRST] * len(spec.inputs))
    return np.asarray(pc.not_equal(pc.fill_null(rules, first), now).to_numpy(zero_copy_only=False))


def since(rules: str | None, spec: FeatureSpec, part: int) -> int:
    """By which rule a row read one of its inputs."""
    return 1 if rules is None else int(rules.split("+")[part])


def touched(locations: Sequence[str], since: Sequence[int], modality: str, limits: MediaLimits) -> np.ndarray:
    """``[n]`` bool: whether files that were read by earlier rules may have other values now; of several
    joined ones, whether one of them may.

    A file that cannot be read counts as touched: the run will say why.
    """
    files = [values_of(location) for location in locations]
    requests = [
        MediaRequest(file, (Wanted(modality, Changed(rule)),))
        for of_item, rule in zip(files, since, strict=True)
        for file in of_item
    ]
    outcomes = (
        bool(found.values[0]) if found.values else True for found in decode_fenced_all(requests, limits)
    )
    # Each outcome is taken, whatever those before it say.
    return np.array([sum(next(outcomes) for _ in of_item) > 0 for of_item in files], dtype=bool)


def _rule(modality: str) -> str:
    return _FIRST if modality == VECTOR else str(modalities.modality(modality).rule)
