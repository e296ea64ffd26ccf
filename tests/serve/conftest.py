from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import serving

import mmfeat


@pytest.fixture(scope="session")
def served_store(tmp_path_factory) -> Path:
    """A store that these tests share; none of them writes to it."""
    return serving.make_store(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def service(served_store) -> Iterator[serving.Running]:
    """One service of ``served_store``, with pages and without keys."""
    with serving.running(
        served_store, ui=True, max_ids=50, max_k=20, max_body_bytes=200_000, timeout_seconds=300
    ) as running:
        yield running


@pytest.fixture(scope="session")
def opened(served_store) -> mmfeat.FeatureStore:
    """The same store, opened in this process: what the service has to agree with."""
    return mmfeat.open(served_store)
