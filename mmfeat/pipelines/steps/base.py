"""What a step of a job is, and what steps hand on to each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel

from mmfeat.datasets import Dataset
from mmfeat.pipelines.execution.base import Executor
from mmfeat.pipelines.planning.contents import Contents
from mmfeat.pipelines.progress import Reporter
from mmfeat.pipelines.run_report import RunReport
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.job import JobConfig
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import FeatureVersion, Place, Store

C = TypeVar("C", bound=BaseModel)


@dataclass
class RunContext:
    """One run, as its steps see it.

    Attributes:
        store: open for writing; the run holds its lease.
        dataset: without the items that were forgotten.
        place: where the dataset's items are in the store, once it has them.
        contents: of the dataset's items, as they were when it was taken in.
        forgotten: how many these were.
        left: how many items left the dataset since the run before.
        gone: how many items of the store no dataset has any more.
        notices: what a person should know of that.
        specs: the job's features; of fitted ones what is to be fitted.
        versions: the job's versions, once ``extract`` has brought them up to date.
        report: what came of the run so far.
        promoted: whether the job's versions became current, or were so.
        executor: what computes; None to choose by the work.
        after_kill: whether the run before was killed.
        log: writes a line of the run's log that is not shown.
    """

    job: JobConfig
    run_id: str
    store: Store
    dataset: Dataset
    specs: Sequence[FeatureSpec]
    reporter: Reporter
    place: Place | None = None
    contents: Contents | None = None
    forgotten: int = 0
    left: int = 0
    gone: int = 0
    notices: list[str] = field(default_factory=list)
    versions: list[FeatureVersion] = field(default_factory=list)
    report: RunReport | None = None
    promoted: bool = False
    executor: Executor | None = None
    after_kill: bool = False
    log: Any = lambda message: None

    @property
    def so_far(self) -> RunReport:
        """The report of the steps before this one."""
        assert self.report is not None, "extract comes first and reports"
        return self.report


class Step(ABC, Generic[C]):
    """One step. It is registered in ``schemas/steps.py`` under the name of its table.

    Args:
        config: the job's table; the defaults where it has none.
    """

    #: The model of its table.
    Config: ClassVar[type[BaseModel]] = Frozen
    #: Whether it runs for a job that has no such table.
    always: ClassVar[bool] = False

    def __init__(self, config: C) -> None:
        self.config = config

    def check(self, job: JobConfig, specs: Sequence[FeatureSpec]) -> None:
        """Refuse, before any work, what could not be carried out.

        Raises:
            ConfigError: names the table and the key.
        """

    @abstractmethod
    def run(self, context: RunContext) -> Iterator[RunReport]:
        """Do the step.

        Yields:
            The run's report as it grows; a step of its own kind of report puts it into ``further``.

        Raises:
            GateFailed: the run must go no further.
        """

    def ended(self, context: RunContext | None, error: BaseException | None) -> list[str]:
        """Called when the run has ended, with None if it succeeded; what went wrong in telling so.

        Args:
            context: None if the run ended before it had a store.
        """
        return []


def steps_of(job: JobConfig) -> list[Step[Any]]:
    """The steps of a job in their order."""
    from mmfeat.schemas.steps import STEPS, in_order

    # One of another package that cannot be loaded is in nobody's way who does not name it.
    steps = {one.name: one.thing for one in STEPS.listing() if one.thing is not None}
    found: list[Step[Any]] = []
    for name in in_order():
        if name in job.steps:
            found.append(STEPS.get(name)(job.steps[name]))
        elif name in steps and steps[name].always:
            found.append(steps[name](steps[name].Config()))
    return found
