"""A project that uses mmfeat: mypy accepts it under its strictest rules, so mmfeat's types reach its users.

Nothing here runs. ``misuses_mmfeat.py`` beside it holds what mypy must refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type

import numpy as np

import mmfeat
from mmfeat.client import Client


def updated(store: str) -> int:
    """How many contents a run computed."""
    features = {"title_text": {"source": "title", "encoder": "sentence_transformers"}}
    report = mmfeat.extract("sample", store=store, features=features)
    return report.computed


def item_table(store: str, ids: Sequence[str]) -> np.ndarray:
    """Vectors of ids that the store holds, float ``[n, dims]``."""
    found = mmfeat.open(store).lookup(ids, ["title_text"], unknown="mask")
    assert_type(found, mmfeat.FeatureSet)
    column = found["title_text"]
    assert_type(column, mmfeat.FeatureColumn)
    present: np.ndarray = column.matrix[column.mask]
    return present


def captions(store: mmfeat.FeatureStore) -> dict[str, str]:
    """Captions by item, of the items that have one."""
    found = store.lookup(features=["caption"])
    texts = zip(found.ids, found["caption"].texts, strict=True)
    return {item_id: text for item_id, text in texts if text is not None}


def neighbours(store: mmfeat.FeatureStore, item: str) -> list[tuple[str, float]]:
    """The nearest items by title with their cosine."""
    return [(hit.item_id, hit.score) for hit in store.search("title_text", item=item, k=5)]


def verdicts(store: mmfeat.FeatureStore) -> dict[str, str]:
    """What the interactions say of each version."""
    return {one.version: one.verdict for one in store.evaluate(["title_text"], seed=1).features}


def served(url: str) -> tuple[mmfeat.FeatureSet, str]:
    """The same by a service: a lookup, and the version that a search used."""
    with Client(url, key="secret") as client:
        return client.lookup(["11"]), client.search("title_text", text="a red bicycle").version


def unfinished(store: mmfeat.FeatureStore) -> list[str]:
    """Versions that lack items."""
    statuses: list[mmfeat.FeatureStatus] = store.status()
    return [status.version for status in statuses if status.failed + status.absent]


def fingerprint(store: mmfeat.FeatureStore) -> str:
    """What decides a feature's values."""
    spec: mmfeat.FeatureSpec = store.spec("title_text")
    return spec.fingerprint
