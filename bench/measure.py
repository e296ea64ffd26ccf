"""A command as a whole: its wall seconds and the memory of it and of what it starts; and two clocks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_INTERVAL = 0.25


@dataclass(frozen=True)
class Measured:
    """Memory is private resident memory (RssAnon), in MB: shared memory is counted on its own.

    Attributes:
        seconds: wall time of the whole command.
        driver_mb: peak of the command's own process.
        worker_mb: peak of the largest other process.
        total_mb: peak of all of them together.
        cpu_seconds: of the command and of what it starts, by samples: each process's last quarter second may
            be missing.
        shared_mb: peak of shared memory, all processes' maximum (Ray's object store lies there).
    """

    seconds: float
    driver_mb: float
    worker_mb: float
    total_mb: float
    shared_mb: float
    cpu_seconds: float
    output: str


def clocks() -> np.ndarray:
    """``[2]``: seconds that passed, and CPU seconds of this process, its threads together."""
    return np.array([time.perf_counter(), time.process_time()])


def measure(command: list[str], env: dict[str, str] | None = None) -> Measured:
    """Run ``command`` to its end; the measurement ends with its output when it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
    )
    peaks = {"driver": 0.0, "worker": 0.0, "total": 0.0, "shared": 0.0}
    cpu: dict[int, float] = {}
    watcher = threading.Thread(target=_watch, args=(process, peaks, cpu), daemon=True)
    watcher.start()
    out, err = process.communicate()
    seconds = time.perf_counter() - began
    watcher.join()
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{out}{err}")
    memory = (round(peaks[k]) for k in ("driver", "worker", "total", "shared"))
    return Measured(seconds, *memory, cpu_seconds=round(sum(cpu.values()), 1), output=out)


def _watch(process: subprocess.Popen[str], peaks: dict[str, float], cpu: dict[int, float]) -> None:
    while process.poll() is None:
        family = _descendants(process.pid)
        cpu.update({pid: seconds for pid in family if (seconds := _cpu_seconds(pid))})
        private = {pid: _status_mb(pid, "RssAnon") for pid in family}
        others = [mb for pid, mb in private.items() if pid != process.pid]
        peaks["driver"] = max(peaks["driver"], private.get(process.pid, 0.0))
        peaks["worker"] = max(peaks["worker"], max(others, default=0.0))
        peaks["total"] = max(peaks["total"], sum(private.values()))
        peaks["shared"] = max(
            peaks["shared"], max((_status_mb(pid, "RssShmem") for pid in family), default=0.0)
        )
        time.sleep(_INTERVAL)


def _descendants(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it ended meanwhile
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _cpu_seconds(pid: int) -> float:
    """Of a process and its threads so far; 0 where it ended meanwhile."""
    try:
        # Behind the name, which may hold anything, come 11 fields before these two.
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0.0
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _status_mb(pid: int, field: str) -> float:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
    except OSError:
        return 0.0
    return 0.0
