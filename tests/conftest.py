"""A store that every test of reading can share: it is extracted once, and never written again."""

from __future__ import annotations

from pathlib import Path

import pytest
import synthetic
import worlds

import mmfeat


@pytest.fixture(scope="session")
def scenes() -> list[synthetic.Scene]:
    """What the covers of ``world`` show, in the order of ``item-000``, ``item-001``, ..."""
    return synthetic.held_out(worlds.N_ITEMS)


@pytest.fixture(scope="session")
def world(tmp_path_factory, scenes) -> Path:
    """A folder with ``media`` (covers) and ``store``: every feature of ``worlds.FEATURES`` of them."""
    folder = tmp_path_factory.mktemp("world")
    worlds.cover_folder(folder / "media", scenes)
    mmfeat.extract(**worlds.job(folder / "media", folder / "store", worlds.FEATURES))
    return folder
