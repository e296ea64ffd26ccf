"""The FeatureSet as plain JSON types: what ``mmfeat lookup --json`` prints and the service answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic_core import to_json as text_of

from mmfeat.schemas.featureset import FeatureColumn, FeatureSet
from mmfeat.schemas.spans import plain

_ROWS = 256


def to_json(features: FeatureSet) -> dict[str, Any]:
    """``{"ids": [...], "features": {name: {version, kind, status, reason, values}}}``.

    ``values`` are lists of numbers (of token vectors lists of such lists), or texts, and None if the
    item has none. ``spans``, of token vectors of which it is known, say what each was made from.
    """
    rows = slice(None)
    columns = {name: {**_facts(c), "values": _values(c, rows)} for name, c in features.items()}
    return {"ids": features.ids, "features": columns}


def pieces(features: FeatureSet) -> Iterator[bytes]:
    """The same as JSON text, piece by piece: numbers as Python objects take ten times their room."""
    yield b'{"ids":' + text_of(features.ids) + b',"features":{'
    for at, (name, column) in enumerate(features.items()):
        head = text_of({name: _facts(column)}).removeprefix(b"{").removesuffix(b"}}")
        yield (b"," if at else b"") + head + b',"values":['
        for start in range(0, len(features.ids), _ROWS):
            rows = text_of(_values(column, slice(start, start + _ROWS)))
            yield (b"," if start else b"") + rows.removeprefix(b"[").removesuffix(b"]")
        yield b"]}"
    yield b"}}"


def _facts(column: FeatureColumn) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "version": column.spec.version,
        "kind": column.spec.kind,
        "status": column.status.tolist(),
        "reason": column.reason.tolist(),
    }
    if column.spans is not None and any(column.spans):
        facts["spans"] = plain(column.spans)
    return facts


def _values(column: FeatureColumn, rows: slice) -> list[Any]:
    if column.spec.form == "text":
        return list(column.texts[rows])
    if column.spec.form == "tokens":
        return [None if vectors is None else vectors.tolist() for vectors in column.tokens[rows]]
    pairs = zip(column.matrix[rows], column.mask[rows], strict=True)
    return [row.tolist() if ok else None for row, ok in pairs]
