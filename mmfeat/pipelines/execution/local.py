"""The stages in this process: for work that is done before Ray has started, for tests and notebooks.

One thread decodes the next block (its files in the fence's process) while this one encodes. It is waited
for only where its block is wanted: a run that is stopped ends at once, whatever is being decoded. A model
that crashes takes the process with it; what was committed stays, and the next run goes on. With Ray such
a model costs its item alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TypeVar

import pyarrow as pa

from mmfeat.extract.fence.process import start_fence, stop_fence
from mmfeat.pipelines.execution.base import Task
from mmfeat.pipelines.execution.batch import media_inputs
from mmfeat.pipelines.execution.blocks import split
from mmfeat.pipelines.execution.calls import Calls
from mmfeat.pipelines.execution.resources import machine_cpus
from mmfeat.pipelines.execution.stages import Decode, Encode
from mmfeat.pipelines.planning.work import count_wanted
from mmfeat.schemas.errors import ConservationError

_DEVICE = "cpu"

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class LocalExecutor:
    """See the module. Needs no Ray."""

    name = "local"

    @contextmanager
    def start(self, task: Task) -> Iterator[LocalExecution]:
        """See :meth:`Executor.start`."""
        yield LocalExecution(task)


class LocalExecution:
    """See :class:`~mmfeat.pipelines.execution.base.Execution`."""

    workers = 1

    def __init__(self, task: Task) -> None:
        self._task = task
        self._threads = task.resources.threads or task.resources.cpus or machine_cpus()

    def results(self) -> Generator[pa.Table]:
        """See :meth:`Execution.results`."""
        task, wanted = self._task, count_wanted(self._task.work)
        numbers = sorted(wanted)
        if any(media_inputs(task.specs[number]) for number in numbers):
            # Its decoders are loaded while the models are.
            start_fence()
        calls = Calls(_DEVICE, self._threads, task.resources.batch_size)
        blocks = split(task.work, task.specs, self.workers, calls)
        decode = Decode(task.specs, task.limits, fenced=True)
        try:
            with ahead(decode, blocks) as decoded_blocks:
                encode = Encode(
                    task.specs,
                    numbers,
                    last=True,
                    device=_DEVICE,
                    threads=self._threads,
                    expected=wanted,
                    batch_size=task.resources.batch_size,
                    sending=task.sending,
                    canaries=task.canaries,
                )
                for decoded in decoded_blocks:
                    yield encode(decoded)
        except BaseException:
            # A file that takes long to decode would be at it after this run.
            stop_fence()
            raise

    def alone(self, work: pa.Table) -> Generator[pa.Table]:
        """See :meth:`Execution.alone`. No worker is lost without this process."""
        raise ConservationError(f"{len(work)} work items came out of no stage.")
        yield


@contextmanager
def ahead(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[Iterator[_Result]]:
    """What a function gives of each item, in order, each computed in a thread while the last one is used.

    Leaving the context early waits for nothing: the thread ends after the call under way, and does not keep
    the process from ending before.

    Yields:
        Results as they come; the error of a call is raised in its place. At most one waits to be taken.
    """
    done: SimpleQueue[Future[_Result]] = SimpleQueue()
    turn, left = threading.Semaphore(), threading.Event()

    def work() -> None:
        for item in items:
            turn.acquire()
            if left.is_set():
                return
            outcome: Future[_Result] = Future()
            try:
                outcome.set_result(function(item))
            except BaseException as error:
                outcome.set_exception(error)
            done.put(outcome)

    def results() -> Iterator[_Result]:
        for _ in items:
            result = done.get().result()
            turn.release()
            yield result

    threading.Thread(target=work, name="mmfeat-decode", daemon=True).start()
    try:
        yield results()
    finally:
        left.set()
        turn.release()
