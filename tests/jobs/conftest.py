from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mmfeat.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store, held for writing."""
    opened = Store.open(str(tmp_path / "store"), create=True)
    with opened.lease("test"):
        yield opened
