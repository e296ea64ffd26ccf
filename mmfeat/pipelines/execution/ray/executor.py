"""The stages on Ray: a graph of tasks and actors on this machine or on a cluster."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pyarrow as pa

from mmfeat.pipelines.execution.base import Task
from mmfeat.pipelines.execution.ray.graph import Graph
from mmfeat.pipelines.execution.ray.isolate import retry_alone
from mmfeat.pipelines.execution.ray.session import ray_session


class RayExecutor:
    """Starts Ray for the length of a task, or joins the cluster that the job names."""

    name = "ray"

    @contextmanager
    def start(self, task: Task) -> Iterator[RayExecution]:
        """See :meth:`Executor.start`."""
        with ray_session(task.resources):
            yield RayExecution(task)


class RayExecution:
    """See :class:`~mmfeat.pipelines.execution.base.Execution`."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._graph = Graph(task)
        self.workers = self._graph.workers

    def results(self) -> Generator[pa.Table]:
        """See :meth:`Execution.results`."""
        return self._graph.results()

    def alone(self, work: pa.Table) -> Generator[pa.Table]:
        """See :meth:`Execution.alone`."""
        task = self._task
        return retry_alone(work, task.specs, task.limits, task.sending, task.canaries)
