"""What becomes of items that lack a feature: an explicit choice, recorded with every id it concerns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmfeat.export.base import POLICIES, POLICIES_OF, Exporter, Kind, Policy
from mmfeat.export.content import BLOCK_ROWS, Rows
from mmfeat.export.roles import kind_of
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import FeatureColumn

# One policy for all roles, or role to policy.
Asked = str | Mapping[str, str]

# Why a feature of a kind has not what a policy would put in the place of a value.
_NOTHING_LIKE_IT: Mapping[Kind, Mapping[Policy, str]] = {
    "vector": {"empty": "only a text can be empty"},
    "vectors": {"empty": "only a text can be empty"},
    "tokens": {
        "mean": "any number of vectors have no mean",
        "zero": "any number of vectors have no zero",
        "empty": "only a text can be empty",
    },
    "text": {"mean": "texts have no mean", "zero": "a text has no zero; the empty text is called empty"},
    "codes": {
        "mean": "codes are names, and names have no mean",
        "zero": "code 0 is a code like any other",
        "empty": "only a text can be empty",
    },
}


@dataclass(frozen=True)
class Answers:
    """What becomes of items that lack a role's feature, and what could become of them instead.

    Attributes:
        policies: role to policy.
        offered: role to the policies, other than an error, that could be followed for it.
        by_role: whether the policies were asked for by role.
    """

    policies: Mapping[str, Policy]
    offered: Mapping[str, Sequence[Policy]]
    by_role: bool = False

    def remedy(self, role: str) -> str:
        """The end of a hint, after "Extract what is missing": the policies that could be chosen."""
        words = [p if self._alike(p) else f"{role}={p}" for p in self.offered[role]]
        return f", or choose --missing {_either(words)}" if words else ""

    def apart(self, role: str) -> str:
        """The same where one policy for all does not suit ``role``: also one for each role."""
        able = self.offered[role]
        if self.by_role or len(self.policies) == 1 or not able:
            return self.remedy(role)
        alike = [policy for policy in able if self._alike(policy)]
        own = next((policy for policy in able if policy not in alike), able[0])
        suited = {
            other: policy if policy in self.offered[other] else next(iter(self.offered[other]), "error")
            for other, policy in self.policies.items()
        }
        each = ",".join(f"{other}={policy}" for other, policy in {**suited, role: own}.items())
        return f", or choose --missing {_either([*alike, each])}"

    def _alike(self, policy: Policy) -> bool:
        """Whether one word could stand for all roles."""
        return not self.by_role and all(policy in able for able in self.offered.values())


def check(exporter: Exporter, asked: Asked | None) -> None:
    """Refuse what no export of the format could follow, before its features are known.

    Raises:
        UsageError: there is no such policy or role, or the target can't take the policy; says why.
    """
    if asked is None:
        return
    if isinstance(asked, str):
        _taken(exporter, asked)
        return
    kinds = {role.name: role.kind for role in exporter.roles}
    for role, policy in asked.items():
        if kinds and role not in kinds:
            raise UsageError(
                f"--missing is about {role!r}, and {exporter.name} reads no such thing.",
                hint=f"It reads: {', '.join(kinds)}. Write ROLE=POLICY.",
            )
        _taken(exporter, policy, role, kinds.get(role))


def choose(exporter: Exporter, columns: Mapping[str, FeatureColumn], asked: Asked | None) -> Answers:
    """The policy of each role of ``columns``: the one asked for, or the format's default.

    Raises:
        UsageError: as :func:`check`; or a policy is asked for a role that is not exported.
    """
    check(exporter, asked)
    by_role = asked if isinstance(asked, Mapping) else {}
    if idle := [role for role in by_role if role not in columns]:
        raise UsageError(
            f"--missing is about {idle[0]!r}, which is not exported.",
            hint=f"Exported are: {', '.join(columns)}.",
        )
    policies: dict[str, Policy] = {}
    for role, column in columns.items():
        kind = kind_of(column)
        word = asked if isinstance(asked, str) else by_role.get(role)
        if word is None:
            policies[role] = next(iter(answers_of(exporter, kind)), "error")
        else:
            # One word is for all roles: where it does not suit one, that is told if an item lacks it.
            policies[role] = _taken(exporter, word, role, kind) if by_role else _taken(exporter, word)
    offered = {role: _offered(exporter, column) for role, column in columns.items()}
    return Answers(policies, offered, bool(by_role))


def answers_of(exporter: Exporter, kind: Kind) -> list[Policy]:
    """The policies that a format takes for features of a kind, the default one first."""
    return [policy for policy in exporter.missing if policy in POLICIES_OF[kind]]


def lacking(column: FeatureColumn, index: np.ndarray) -> np.ndarray:
    """``[n]`` bool: which of the chosen items have no value."""
    return np.asarray(~column.mask[index])


def fill(
    answers: Answers, role: str, column: FeatureColumn, index: np.ndarray, ids: list[str]
) -> tuple[np.ndarray, np.ndarray | str | None]:
    """``(present, fill)`` of :class:`Rows` for one feature; items to drop are already out of ``index``.

    Raises:
        UsageError: the policy is ``error`` and items lack the feature, or nothing can be filled in.
    """
    gaps = lacking(column, index)
    policy = answers.policies[role]
    if not gaps.any():
        return ~gaps, None
    if policy == "error":
        raise UsageError(
            f"{int(gaps.sum()):,} of {len(ids):,} items lack {_named(role, column)}:"
            f" {_name(ids, gaps, column, index)}.",
            hint=f"Extract what is missing (`mmfeat failures` says why it is){answers.remedy(role)}.",
        )
    if policy == "mask":
        return ~gaps, None
    if policy not in POLICIES_OF[kind_of(column)]:
        raise UsageError(
            f"{role} is a {column.spec.form} feature, which cannot be filled in by {policy}:"
            f" {int(gaps.sum()):,} items lack it, {_name(ids, gaps, column, index)}.",
            hint=f"Extract what is missing{answers.apart(role)}.",
        )
    everywhere = np.ones(len(index), bool)
    if policy == "empty":
        return everywhere, ""
    if policy == "zero":
        return everywhere, np.zeros(column.matrix.shape[1:], column.matrix.dtype)
    return everywhere, _mean(answers, role, column, index[~gaps])


def _taken(exporter: Exporter, policy: str, role: str = "", kind: Kind | None = None) -> Policy:
    """``policy``, which the format takes (for a role of this kind); UsageError otherwise."""
    known = next((p for p in POLICIES if p == policy), None)
    if known is None:
        raise UsageError(f"There is no missing policy {policy!r}.", hint=f"There are: {', '.join(POLICIES)}.")
    taken = list(exporter.missing) if kind is None else answers_of(exporter, kind)
    if known not in taken:
        unlike = _NOTHING_LIKE_IT.get(kind, {}).get(known) if kind else None
        why = unlike or exporter.refusals.get(known, "its files have no place for it")
        asked, whose = (f"{role}={known}", f"For {role} it") if role else (known, "It")
        raise UsageError(
            f"{exporter.name} cannot take --missing {asked}: {why}.",
            hint=f"{whose} takes: {', '.join(taken)}.",
        )
    return known


def _offered(exporter: Exporter, column: FeatureColumn) -> list[Policy]:
    """The policies that could be chosen for a feature instead of an error."""
    able: list[Policy] = [policy for policy in answers_of(exporter, kind_of(column)) if policy != "error"]
    if column.spec.form == "vector" and not np.issubdtype(column.matrix.dtype, np.floating):
        return [policy for policy in able if policy != "mean"]
    if column.spec.form == "vector" and exporter.zero_rows:
        return [policy for policy in able if policy != "zero"]
    return able


def _either(words: Sequence[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _mean(answers: Answers, role: str, column: FeatureColumn, index: np.ndarray) -> np.ndarray:
    if not np.issubdtype(column.matrix.dtype, np.floating):
        raise UsageError(
            f"{role} holds integers, which have no mean.",
            hint=f"Extract what is missing{answers.remedy(role)}.",
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
        if rows.is_tokens:
            finite = [own is None or bool(np.isfinite(own).all()) for own in rows.tokens()]
            _refuse(ids, 0, ~np.array(finite, dtype=bool), role, "hold NaN or infinity")
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


def _named(role: str, column: FeatureColumn) -> str:
    version = column.spec.version
    return version if role == column.spec.name else f"{role} ({version})"


def _name(ids: list[str], gaps: np.ndarray, column: FeatureColumn, index: np.ndarray) -> str:
    named = [f"{ids[k]!r} ({column.status[index[k]]})" for k in np.flatnonzero(gaps)[:5]]
    return ", ".join(named) + (", ..." if gaps.sum() > 5 else "")
