"""Steps timed in processes that hold what they time: items per second of all of them together."""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

#: Does some work and gives the number of items it did.
Step = Callable[[], float]
#: Named steps that share what they need; built once, in the process that runs them.
Build = Callable[..., dict[str, Step]]


@dataclass(frozen=True)
class Subject:
    """What is timed: ``build(*arguments)`` in each of ``processes`` with ``threads`` compute threads."""

    part: str
    name: str
    build: Build
    arguments: tuple[Any, ...]
    processes: int = 1
    threads: int = 1

    @property
    def setting(self) -> str:
        """How it runs, in words."""
        return f"{self.processes} x {self.threads} thread{'s' if self.threads > 1 else ''}"


def interleaved(subjects: list[Subject], repeats: int, seconds: float) -> list[dict[str, Any]]:
    """Each step of each subject ``repeats`` times, in turn.

    Returns:
        rows of part, name, setting, case and ``per_second`` (a figure per repeat), or ``left_out`` (why).
    """
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        measured: list[tuple[_Processes, str, list[float]]] = []
        for subject in subjects:
            row = {"part": subject.part, "name": subject.name, "setting": subject.setting}
            processes = stack.enter_context(_started(subject))
            if processes.trouble is not None:
                rows.append({**row, "left_out": processes.trouble})
                continue
            for case in processes.cases:
                figures: list[float] = []
                rows.append({**row, "case": case, "per_second": figures})
                measured.append((processes, case, figures))
        for _ in range(repeats):
            for processes, case, figures in measured:
                figures.append(processes.rate(case, seconds))
    return rows


class _Processes:
    """The processes of one subject; each waits for what to time."""

    def __init__(self, subject: Subject) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipes: list[Connection] = []
        self.processes = []
        for _ in range(subject.processes):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, subject), daemon=True)
            with _environment(subject.threads):
                process.start()
            there.close()
            self.pipes.append(here)
            self.processes.append(process)
        answers = [pipe.recv() for pipe in self.pipes]
        self.trouble: str | None = next((a for a in answers if isinstance(a, str)), None)
        self.cases: list[str] = [] if self.trouble else answers[0]

    def rate(self, case: str, seconds: float) -> float:
        """Items per second of all processes at once, after one step that is not counted."""
        self._ask((case, 0.0))
        return round(sum(self._ask((case, seconds))), 2)

    def _ask(self, question: tuple[str, float]) -> list[float]:
        for pipe in self.pipes:
            pipe.send(question)
        answers = [pipe.recv() for pipe in self.pipes]
        if broken := next((a for a in answers if isinstance(a, str)), None):
            raise RuntimeError(broken)
        return answers

    def close(self) -> None:
        """End the processes."""
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join(10)
            process.kill()


@contextmanager
def _started(subject: Subject) -> Iterator[_Processes]:
    processes = _Processes(subject)
    try:
        yield processes
    finally:
        processes.close()


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Variables that compute libraries read when they are imported; the child inherits them."""
    wanted = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(pipe: Connection, subject: Subject) -> None:
    """Build the steps, then time the one that is asked for until the pipe closes."""
    try:
        steps = subject.build(*subject.arguments)
        pipe.send(list(steps))
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        pipe.send(f"{type(error).__name__}: {lines[0]}")
        return
    while True:
        try:
            case, seconds = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(_timed(steps[case], seconds))
        except Exception:
            pipe.send(traceback.format_exc())


def _timed(step: Step, seconds: float) -> float:
    began, items = time.perf_counter(), 0.0
    while True:
        items += step()
        if (took := time.perf_counter() - began) >= seconds:
            return items / took
