"""Fields that a person hands on to a model's chat template or to its server, as part of a spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

from mmfeat.schemas.redact import redact_values


def _plain(fields: dict[str, Any] | None) -> dict[str, Any] | None:
    """The fields; None if there are none, so that an empty table is no other spec than no table."""
    if not fields:
        return None
    _refuse_strange(fields)
    if redact_values(fields) != fields:
        raise ValueError("it may hold no key or password: it is part of the spec, which every store keeps")
    return fields


def _refuse_strange(value: Any) -> None:
    if isinstance(value, Mapping):
        for one in value.values():
            _refuse_strange(one)
    elif isinstance(value, list):
        for one in value:
            _refuse_strange(one)
    elif not isinstance(value, str | bool | int | float) or value != value or value in _INFINITE:
        raise ValueError(f"it may hold texts, numbers, true, false, lists and tables, not {value!r}")


_INFINITE = (float("inf"), float("-inf"))

#: A table of such fields: plain JSON types and no secret.
Fields = Annotated[dict[str, Any] | None, AfterValidator(_plain)]


def refuse_set_elsewhere(fields: Mapping[str, Any] | None, elsewhere: Mapping[str, str]) -> None:
    """ValueError for a field that something else decides.

    Args:
        elsewhere: such a field to what decides it.
    """
    if taken := sorted((fields or {}).keys() & elsewhere.keys()):
        raise ValueError(f"{taken[0]!r} does not go here: {elsewhere[taken[0]]}")
