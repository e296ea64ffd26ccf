"""Interactions for an export: filtered, mapped to positions, split by rule."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.export.content import Interactions
from mmfeat.export.ids import refuse_ids
from mmfeat.schemas.errors import UsageError

TRAIN, VALID, TEST = 0, 1, 2
# A user needs one interaction in each part; with fewer, all of them are for training.
MIN_TO_SPLIT = 3


@dataclass(frozen=True)
class SplitRule:
    """How interactions are labelled train, valid and test.

    Attributes:
        rule: ``leave-one-out``: each user's last interaction in time is for testing, the one before
            for validation. ``ratio``: each user's interactions are drawn at random by share.
            ``time``: two points in time cut all interactions, the same for every user.
        shares: of a ``ratio``, three numbers that sum to 1. A user with three interactions or more
            has at least one in every part that has a share.
        points: of ``time``, milliseconds since 1970: valid from the first on, test from the second.
    """

    rule: str
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    points: tuple[int, int] = (0, 0)

    @classmethod
    def parse(cls, text: str) -> SplitRule:
        """``leave-one-out``, ``ratio:0.8,0.1,0.1`` or ``time:2023-01-01,2023-02-01`` (UTC)."""
        name, _, rest = text.partition(":")
        parts = [part for part in rest.split(",") if part]
        try:
            if name == "leave-one-out" and not parts:
                return cls(name)
            if name == "ratio" and len(parts) in (0, 3):
                return cls._ratio(tuple(float(part) for part in parts) or cls.shares)
            if name == "time" and len(parts) == 2:
                return cls._time(*(_milliseconds(part) for part in parts))
        except ValueError:
            pass
        raise UsageError(
            f"There is no split {text!r}.",
            hint="Write leave-one-out, ratio:0.8,0.1,0.1 (shares that sum to 1) or"
            " time:2023-01-01,2023-02-01 (validation and test start; UTC).",
        )

    @classmethod
    def _ratio(cls, shares: tuple[float, ...]) -> SplitRule:
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
            raise ValueError
        return cls("ratio", shares=(shares[0], shares[1], shares[2]))

    @classmethod
    def _time(cls, valid: int, test: int) -> SplitRule:
        if valid > test:
            raise ValueError
        return cls("time", points=(valid, test))

    def record(self) -> dict[str, Any]:
        """The rule as plain JSON types."""
        values: dict[str, dict[str, Any]] = {
            "leave-one-out": {},
            "ratio": {"shares": list(self.shares)},
            "time": {"points": list(self.points)},
        }
        return {"rule": self.rule, **values[self.rule]}


def with_items(table: pa.Table, ids: list[str]) -> pa.Table:
    """The interactions whose item is among ``ids``, in their order."""
    return table.filter(pc.is_in(table["item_id"], value_set=pa.array(ids, pa.string())))


def k_core(table: pa.Table, k: int) -> pa.Table:
    """The k-core: users and items with fewer than ``k`` interactions are taken out until none is left.

    Repeated interactions of one user with one item count each, as MMRec's and RecBole's filters do.
    """
    while len(table):
        keep = np.ones(len(table), bool)
        for name in ("user_id", "item_id"):
            codes = _codes(table[name])[0]
            keep &= np.bincount(codes)[codes] >= k
        if keep.all():
            break
        table = table.filter(pa.array(keep))
    return table


def build(table: pa.Table, ids: list[str], user_ids: list[str] | None = None) -> Interactions:
    """Interactions by position. Every item of ``table`` is in ``ids``.

    Args:
        user_ids: all users of ``table``, in the order that they are to have; that of their first
            appearance when None.
    """
    if user_ids is None:
        users, user_ids = _codes(table["user_id"])
    else:
        found = pc.index_in(table["user_id"], value_set=pa.array(user_ids, pa.string()))
        users = found.to_numpy().astype(np.int64)
    items = pc.index_in(table["item_id"], value_set=pa.array(ids, pa.string()))
    times, ratings = _known(table, "timestamp"), _known(table, "rating")
    # lexsort is stable: equal (or unknown) times keep the dataset's order.
    order = np.lexsort((users,) if times is None else (times, users))
    return Interactions(
        user_ids=user_ids,
        users=users[order],
        items=items.to_numpy().astype(np.int64)[order],
        timestamps=None if times is None else times[order],
        ratings=None if ratings is None else ratings[order],
    )


def split(interactions: Interactions, rule: SplitRule, seed: int) -> Interactions:
    """The same interactions, labelled.

    Raises:
        UsageError: a split in time where a time is not known, or an empty training part.
    """
    labels = {"leave-one-out": _last, "ratio": _ratio, "time": _by_time}[rule.rule](interactions, rule, seed)
    if len(interactions) and not (labels == TRAIN).any():
        raise UsageError("The split leaves no interaction for training.", hint="Choose another split.")
    return replace(interactions, labels=labels.astype(np.int8))


def refuse_short(interactions: Interactions, least: int, target: str) -> None:
    """UsageError that names users with fewer than ``least`` interactions: ``target`` takes two of each."""
    refuse_fewer(interactions, least, f"{target} takes the last two of each for validation and testing")


def refuse_fewer(interactions: Interactions, least: int, why: str) -> None:
    """UsageError that names users with fewer than ``least`` interactions, and says ``why`` that won't do."""
    short = np.flatnonzero(np.bincount(interactions.users, minlength=len(interactions.user_ids)) < least)
    refuse_ids(
        [interactions.user_ids[k] for k in short],
        lambda user: True,
        f"are of users with fewer than {least} interactions, and {why}",
        f"Leave them out: --k-core {least}, or more.",
    )


def refuse_timeless(interactions: Interactions, target: str) -> None:
    """UsageError where the time of an interaction is not known, which ``target`` reads."""
    if interactions.timestamps is None:
        raise UsageError(
            f"{target} needs the time of every interaction, and some have none.",
            hint="Leave out those without a time, or give times: --interactions FILE --replace-interactions.",
        )


def refuse_untrained(interactions: Interactions, target: str, why: str) -> None:
    """UsageError where users have no interaction for training, which ``target`` cannot take."""
    assert interactions.labels is not None, "no split was made"
    trained = np.bincount(
        interactions.users[interactions.labels == TRAIN], minlength=len(interactions.user_ids)
    )
    without = np.flatnonzero(trained == 0)
    if len(without):
        shown = ", ".join(repr(interactions.user_ids[u]) for u in without[:5])
        raise UsageError(
            f"{len(without):,} users have no interaction for training, among them {shown}; {target} {why}.",
            hint="Split by leave-one-out or ratio, which leave every user one for training.",
        )


def _known(table: pa.Table, name: str) -> np.ndarray | None:
    """The numbers of a column that has one in every row; None of any other."""
    if not len(table) or table[name].null_count:
        return None
    numbers: np.ndarray = table[name].to_numpy()
    return numbers


def _last(interactions: Interactions, rule: SplitRule, seed: int) -> np.ndarray:
    counts = np.bincount(interactions.users, minlength=len(interactions.user_ids))[interactions.users]
    ends = np.searchsorted(interactions.users, interactions.users, side="right")
    from_end = ends - np.arange(len(interactions))
    splittable = counts >= MIN_TO_SPLIT
    return np.select([splittable & (from_end == 1), splittable & (from_end == 2)], [TEST, VALID], TRAIN)


def _ratio(interactions: Interactions, rule: SplitRule, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed).random(len(interactions))
    order = np.lexsort((draw, interactions.users))
    starts = np.searchsorted(interactions.users, interactions.users)
    rank = np.empty(len(interactions), np.int64)
    rank[order] = np.arange(len(interactions)) - starts
    counts = np.bincount(interactions.users, minlength=len(interactions.user_ids))[interactions.users]

    def share(part: int) -> np.ndarray:
        # The small slack keeps 0.1 * 30 from rounding down to 2.
        least = 1 if rule.shares[part] > 0 else 0
        numbers = np.maximum(least, np.floor(counts * rule.shares[part] + 1e-9))
        return np.where(counts >= MIN_TO_SPLIT, numbers, 0)

    tests, valids = share(TEST), share(VALID)
    return np.select([rank < tests, rank < tests + valids], [TEST, VALID], TRAIN)


def _by_time(interactions: Interactions, rule: SplitRule, seed: int) -> np.ndarray:
    times = interactions.timestamps
    if times is None:
        raise UsageError(
            "A split in time needs the time of every interaction, and some have none.",
            hint="Use leave-one-out, which takes the dataset's order, or ratio.",
        )
    return np.select([times >= rule.points[1], times >= rule.points[0]], [TEST, VALID], TRAIN)


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """``(codes, values)``: values in order of first appearance."""
    encoded = pc.dictionary_encode(column.combine_chunks())
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def _milliseconds(text: str) -> int:
    if re.fullmatch(r"\d{9,}", text):
        return int(text)
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
