"""The sample's items and interactions, with vectors that say whose they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from helpers.echo import make_input

from mmfeat.datasets import sample
from mmfeat.export import ExportInput


@pytest.fixture(scope="session")
def ids() -> list[str]:
    return sample.load(None).items["item_id"].to_pylist()


@pytest.fixture(scope="session")
def sample_for(ids) -> Callable[[str], ExportInput]:
    """What a format exports of the sample, by the format's name."""
    return lambda format: make_input(format, ids, interactions=sample.load(None).interactions)
