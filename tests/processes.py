"""Processes that tests start and kill by the dozen."""

from __future__ import annotations

import multiprocessing

# Forked from a process that has only imported what is named here: starting a new one each takes seconds.
# There is one such process per test session, so that what it imports is said in one place. It finds
# installed modules only.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["mmfeat.store", "mmfeat.pipelines.run", "mmfeat.datasets.table", "mmfeat.feature_store"]
)
