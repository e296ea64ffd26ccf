"""What becomes of items that lack a feature: an explicit choice, recorded with every id it concerns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mmfeat.export.base import POLICIES, Exporter, Policy
from mmfeat.export.content import BLOCK_ROWS, Rows
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import FeatureColumn


def choose(exporter: Exporter, asked: str | None) -> Policy:
    """The policy to follow: the one asked for, or the format's default.

    Raises:
        UsageError: there is no such policy, or the target can't take it; says why.
    """
    policy = asked or exporter.missing[0]
    known = next((p for p in POLICIES if p == policy), None)
    if known is None:
        raise UsageError(f"There is no missing policy {policy!r}.", hint=f"There are: {', '.join(POLICIES)}.")
    if known not in exporter.missing:
        why = exporter.refusals.get(known, "its files have no place for it")
        raise UsageError(
            f"{exporter.name} cannot take --missing {known}: {why}.",
            hint=f"It takes: {', '.join(exporter.missing)}.",
        )
    return known


def lacking(column: FeatureColumn, index: np.ndarray) -> np.ndarray:
    """``[n]`` bool: which of the chosen items have no value."""
    return np.asarray(~column.mask[index])


def offered(exporter: Exporter, columns: Iterable[FeatureColumn]) -> list[Policy]:
    """The policies that could be chosen instead of an error: the format takes them for all the features."""
    able: list[Policy] = [policy for policy in exporter.missing if policy != "error"]
    for column in columns:
        if column.spec.form != "vector":
            able = [policy for policy in able if policy not in ("mean", "zero")]
        elif not np.issubdtype(column.matrix.dtype, np.floating):
            able = [policy for policy in able if policy != "mean"]
        elif exporter.zero_rows:
            able = [policy for policy in able if policy != "zero"]
    return able


def fill(
    policy: Policy,
    role: str,
    column: FeatureColumn,
    index: np.ndarray,
    ids: list[str],
    instead: Sequence[Policy] = POLICIES,
) -> tuple[np.ndarray, np.ndarray | None]:
    """``(present, fill)`` of :class:`Rows` for one feature; items to drop are already out of ``index``.

    Args:
        instead: policies that an error offers.

    Raises:
        UsageError: the policy is ``error`` and items lack the feature, or nothing can be filled in.
    """
    gaps = lacking(column, index)
    if not gaps.any():
        return ~gaps, None
    if policy == "error":
        raise UsageError(
            f"{int(gaps.sum()):,} of {len(ids):,} items lack {column.spec.version}:"
            f" {_name(ids, gaps, column, index)}.",
            hint=f"Extract what is missing (`mmfeat failures` says why it is){_or_choose(instead)}.",
        )
    if policy == "mask":
        return ~gaps, None
    if column.spec.form != "vector":
        raise UsageError(
            f"{role} is a {column.spec.form} feature, which cannot be filled in by {policy}.",
            hint=f"Extract what is missing{_or_choose(instead)}.",
        )
    if policy == "zero":
        return np.ones(len(index), bool), np.zeros(column.matrix.shape[1:], column.matrix.dtype)
    return np.ones(len(index), bool), _mean(role, column, index[~gaps], instead)


def _or_choose(policies: Sequence[Policy]) -> str:
    """The end of a hint that offers policies."""
    if not policies:
        return ""
    *others, last = policies
    return f", or choose --missing {', '.join(others)} or {last}" if others else f", or --missing {last}"


def _mean(role: str, column: FeatureColumn, index: np.ndarray, instead: Sequence[Policy]) -> np.ndarray:
    if not np.issubdtype(column.matrix.dtype, np.floating):
        raise UsageError(
            f"{role} holds integers, which have no mean.",
            hint=f"Extract what is missing{_or_choose(instead)}.",
        )
    if not len(index):
        raise UsageError(f"No item has {column.spec.version}, so there is no mean of it.")
    total = np.zeros(column.matrix.shape[1:], np.float64)
    for start in range(0, len(index), BLOCK_ROWS):
        total += column.matrix[index[start : start + BLOCK_ROWS]].sum(axis=0, dtype=np.float64)
    return total / len(index)


def refuse_bad_rows(exporter: Exporter, features: Mapping[str, Rows], ids: list[str]) -> None:
    """UsageError where a value is not finite, or a row is zero and the target can't read such a row."""
    for role, rows in features.items():
        if rows.is_text or not np.issubdtype(rows.dtype, np.floating):
            continue
        start = 0
        for block in rows.item_blocks():
            present = rows.present[start : start + len(block)]
            flat = block.reshape(len(block), -1)
            _refuse(ids, start, present & ~np.isfinite(flat).all(axis=1), role, "hold NaN or infinity")
            if exporter.zero_rows:
                why = f"are all zeros, and {exporter.title} cannot read such a row: {exporter.zero_rows}"
                _refuse(ids, start, present & ~flat.any(axis=1), role, why)
            start += len(block)


def _refuse(ids: list[str], start: int, bad: np.ndarray, role: str, why: str) -> None:
    if bad.any():
        shown = ", ".join(repr(ids[start + k]) for k in np.flatnonzero(bad)[:5])
        raise UsageError(
            f"Rows of {role} {why}. The first such items: {shown}.",
            hint="Re-extract these items, or export without them.",
        )


def _name(ids: list[str], gaps: np.ndarray, column: FeatureColumn, index: np.ndarray) -> str:
    named = [f"{ids[k]!r} ({column.status[index[k]]})" for k in np.flatnonzero(gaps)[:5]]
    return ", ".join(named) + (", ..." if gaps.sum() > 5 else "")
