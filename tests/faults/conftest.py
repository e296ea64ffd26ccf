"""Commands on stores of methods that need no model."""

from __future__ import annotations

import sys

import pytest
from helpers import unrayed


@pytest.fixture
def run_command(run, monkeypatch):
    """The command line; the methods that need no model are installed."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(unrayed.PLUGIN)])
    return run
