"""Whether the outcomes of a method are what its spec says, and whether two outcomes of a row agree.

Functions of values, wherever these come from: of two passes, of a row alone and in a batch, of two engines.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmfeat.extract.base import Method, Row, Text
from mmfeat.schemas.errors import ItemError, MmfeatError
from mmfeat.schemas.spec import FeatureSpec

#: Between two vectors of one row that are held to be the same, whatever batch each was computed in.
LEAST_COSINE = 0.99999


def value_problem(spec: FeatureSpec, value: Any) -> str | None:
    """Why a value is not one of a spec's; None if it is."""
    if isinstance(value, Exception):
        return f"it fails: {said(value)}"
    return _text_problem(value) if spec.form == "text" else _vector_problem(spec, value)


def differences(
    spec: FeatureSpec, values: Sequence[Any], others: Sequence[Any], least_cosine: float = LEAST_COSINE
) -> list[str]:
    """What differs between two lists of outcomes of the same rows, row by row; nothing if they agree.

    Args:
        values, others: a value or the exception that stands for it, per row.
    """
    return [
        f"row {number}: {what}"
        for number, (one, other) in enumerate(zip(values, others, strict=True))
        if (what := difference(spec, one, other, least_cosine))
    ]


def difference(spec: FeatureSpec, one: Any, other: Any, least_cosine: float = LEAST_COSINE) -> str | None:
    """How two outcomes of one row differ; None if they agree.

    Vectors agree from a cosine on, and if their lengths differ by no more than such a turn would move
    them; texts that are the same, and their parts; failures of the same reason.
    """
    failed = isinstance(one, Exception), isinstance(other, Exception)
    if any(failed):
        return None if all(failed) and said(one) == said(other) else f"{shown(one)} and {shown(other)}"
    if spec.form == "text":
        alike = (one.text, one.parts) == (other.text, other.parts)
        return None if alike else f"{shown(one)} and {shown(other)}"
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape:
        return f"shapes {one.shape} and {other.shape}"
    least = float(np.min(cosines(one, other), initial=1.0))
    if not least >= least_cosine:
        return f"cosine {least:.6f}"
    lengths, wanted = np.linalg.norm(one, axis=-1), np.linalg.norm(other, axis=-1)
    # Vectors of length 1 with this cosine are so far from each other.
    away = np.abs(lengths - wanted) > np.sqrt(2 * (1 - least_cosine)) * wanted
    return f"lengths {lengths[away][0]:.6g} and {wanted[away][0]:.6g}" if away.any() else None


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of two arrays ``[..., dims]``, vector by vector: ``[...]``. Equal vectors have 1, also zeros."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    found = (one * other).sum(axis=-1) / np.where(lengths == 0, 1.0, lengths)
    return np.where((one == other).all(axis=-1), 1.0, found)


def outcomes(method: Method, rows: Sequence[Row]) -> list[Any]:
    """A value, or the exception that stands for it, per row; a batch that raises is bisected, as in a run."""
    try:
        values = list(method.run(rows))
        if len(values) != len(rows):
            raise MmfeatError(f"{len(rows)} rows in, {len(values)} values out")
    except Exception as error:
        if len(rows) == 1:
            return [error]
        half = len(rows) // 2
        return outcomes(method, rows[:half]) + outcomes(method, rows[half:])
    return values


def _vector_problem(spec: FeatureSpec, value: Any) -> str | None:
    if not isinstance(value, np.ndarray):
        return f"a {type(value).__name__} instead of an array"
    several = spec.form == "tokens"
    wanted = f"[any number, {spec.dims}]" if several else str(list(spec.shape))
    if value.shape[several:] != spec.shape or value.ndim != len(spec.shape) + several:
        return f"shape {list(value.shape)} instead of {wanted}"
    if value.dtype != np.float32:
        return f"{value.dtype.name} instead of float32"
    return None if np.isfinite(value).all() else "NaN or infinity"


def _text_problem(value: Any) -> str | None:
    if not isinstance(value, Text):
        return f"a {type(value).__name__} instead of a Text"
    if not value.text.strip() and not value.can_be_empty:
        return "an empty text"
    try:
        value.text.encode()
        json.dumps(value.facts(), allow_nan=False)
    except (ValueError, TypeError) as error:
        return f"what cannot be stored: {error}"
    return None


def shown(outcome: Any) -> str:
    """An outcome in a few words."""
    if isinstance(outcome, Exception):
        return f"a failure ({said(outcome)})"
    return repr(outcome.text) if isinstance(outcome, Text) else f"an array of shape {np.shape(outcome)}"


def said(error: Exception) -> str:
    """An error in a few words; of an item's own trouble without the name of its class."""
    if isinstance(error, ItemError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
