"""What an executor is: it takes work items through the stages, wherever these run."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from mmfeat.extract.canary import Canary
from mmfeat.schemas.job import Resources
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.server import Sending, VllmConfig
from mmfeat.schemas.spec import FeatureSpec


@dataclass(frozen=True)
class Task:
    """What is to be computed, and with what.

    Attributes:
        work: WORK_SCHEMA.
        specs: all features of the run; those that the work wants are computed.
        sending: how a model on a server is asked.
        canaries: by feature, what its model must give for known inputs; else the results say that it does
            not.
    """

    work: pa.Table
    specs: Sequence[FeatureSpec]
    limits: MediaLimits
    resources: Resources
    sending: Sending
    vllm: VllmConfig
    canaries: Mapping[int, Canary] = field(default_factory=dict)


class Execution(Protocol):
    """A task under way.

    Attributes:
        workers: processes of each pool that computes.
    """

    workers: int

    def results(self) -> Generator[pa.Table]:
        """RESULTS_SCHEMA tables as they come. Work whose worker died is not among them.

        Raises:
            MmfeatError: a model could not be loaded.
        """
        ...

    def alone(self, work: pa.Table) -> Generator[pa.Table]:
        """The same of work whose worker died, one by one; what kills a worker again is ``failed``."""
        ...


class Executor(Protocol):
    """Runs tasks.

    Attributes:
        name: what ``--executor`` calls it.
    """

    name: str

    def start(self, task: Task) -> AbstractContextManager[Execution]:
        """A task under way, for as long as the context lasts.

        Raises:
            MissingExtra: packages that it needs are not installed.
            MmfeatError: the machines cannot run the task.
        """
        ...
