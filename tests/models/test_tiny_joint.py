"""``tiny-joint`` in its world: goods of which the picture shows one half of what a query names, and the title
tells the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import synthetic, synthetic_goods

from mmfeat.extract.base import Placement
from mmfeat.extract.encoders.mllm.encoder import Mllm
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.schemas.media import Frames
from mmfeat.schemas.spec import FeatureConfig

JOINT = {
    "encoder": "mllm",
    "model": str(Path(__file__).parent / "tiny-joint"),
    "inputs": ["title", "cover?"],
    "pooling": "mean",
}


@pytest.fixture(scope="module")
def model() -> Mllm:
    method = load_method(resolve_all({"item": FeatureConfig(**JOINT)})[0], Placement(threads=1))
    assert isinstance(method, Mllm)
    return method


def test_an_items_joint_vector_finds_it_by_a_query_that_needs_both(model):
    goods = synthetic_goods.held_out()
    pictures = [Frames(synthetic.render(one.scene)[None], (0.0,)) for one in goods]
    rows: list[Any] = [(one.title, picture) for one, picture in zip(goods, pictures, strict=True)]
    joint, titles = np.stack(model.run(rows)), np.stack(model.run([(one.title, None) for one in goods]))
    query = model.query("text")
    assert query is not None
    asked = query.encode([one.query for one in goods])

    def found(items: np.ndarray) -> float:
        """The share of queries whose nearest item is the one that they name."""
        return float(((asked @ items.T).argmax(axis=1) == np.arange(len(goods))).mean())

    # Of 48 goods 8 have the same material, and 6 the same colour.
    assert found(joint) >= 0.6
    assert found(titles) <= 0.2
    swapped = np.stack(model.run([(one.title, pictures[k - 6]) for k, one in enumerate(goods)]))
    assert found(swapped) <= 0.2
