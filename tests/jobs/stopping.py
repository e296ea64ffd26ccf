"""A dataset and a step at which a scheduler stops the run, as plug-ins."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from mmfeat.pipelines.run_report import RunReport
from mmfeat.pipelines.steps.base import RunContext, Step
from mmfeat.schemas.frozen import Frozen

#: By group of entry points.
POINTS = {
    "mmfeat.datasets": {"stopping": "stopping:load"},
    "mmfeat.steps": {"stop": "stopping:Stop"},
}


def load(root: Path | None) -> NoReturn:
    """A dataset that is never read."""
    _stop()


class Stop(Step[Frozen]):
    """Comes after all of mmfeat's own."""

    def run(self, context: RunContext) -> Iterator[RunReport]:
        _stop()
        yield context.so_far


def _stop() -> NoReturn:
    signal.raise_signal(signal.SIGTERM)
    raise AssertionError("a stop ends the run")
