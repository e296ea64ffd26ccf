"""Mistakes in using mmfeat, each with the error that mypy must give.

Nothing here runs. mypy reports an ignored error that does not occur, so a mistake that mmfeat's types let
through fails the check, and so does another error in its place.
"""

from __future__ import annotations

from pathlib import Path

import mmfeat
from mmfeat.client import Client


def mistakes(store: mmfeat.FeatureStore, client: Client) -> None:
    """One mistake a line."""
    mmfeat.open(7)  # type: ignore[arg-type]
    mmfeat.extract("sample", store=Path("features"))  # type: ignore[arg-type]
    print(mmfeat.extract("sample").rows)  # type: ignore[attr-defined]
    store.lookup([11])  # type: ignore[list-item]
    store.lookup(["11"], unknown="skip")  # type: ignore[arg-type]
    column = store.lookup(["11"])["title_text"]
    column.values.mean()  # type: ignore[union-attr]
    column.texts[0].upper()  # type: ignore[union-attr]
    column.mask = column.mask  # type: ignore[misc]
    store.search("title_text", "11")  # type: ignore[call-arg, arg-type]
    store.search("title_text", item=11)  # type: ignore[arg-type]
    print(store.evaluate(["title_text"]).verdict)  # type: ignore[attr-defined]
    client.lookup()  # type: ignore[call-arg]
    print(client.search("title_text", text="red").hits[0].id)  # type: ignore[attr-defined]
