"""Runs with Ray and no model, seen from outside: how a scheduler stops them, who can reach them, and where
their files lie."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import unrayed
from helpers.plugins import write_plugin
from helpers.processes import command_of, descendants, wait_until

import mmfeat
from mmfeat.pipelines.execution.ray.session import ray_session
from mmfeat.schemas.errors import StoreError
from mmfeat.schemas.job import Resources
from mmfeat.store import Store

#: A captioner that answers at once, but for a text that names a file: there it makes the file and waits.
WAITS = """
import time
from pathlib import Path
from helpers.digests import DigestCaptioner

class Waits(DigestCaptioner):
    def of_digest(self, text, digest):
        if text.startswith("wait "):
            Path(text.removeprefix("wait ")).touch()
            time.sleep(3600)
        return super().of_digest(text, digest)
"""

# Groups of a few rows, so that some are committed while one waits.
PROGRAM = """
from mmfeat.pipelines.execution import commit
commit.GROUP_ROWS = 4
from mmfeat.cli import main
main()
"""

JOB = """
[store]
uri = "store"
[dataset]
name = "table"
root = "items.csv"
[features.caption]
source = "title"
captioner = "waits"
[resources]
executor = "EXECUTOR"
workers = 1
threads = 1
batch_size = 2
"""
N_ITEMS = 400
LISTENS = "0A"


class Run:
    """``mmfeat run --json`` in a folder of its own, whose last caption waits until the run is stopped."""

    def __init__(self, folder: Path, executor: str = "ray", **environment: str) -> None:
        self.folder, self.gate = folder, folder / "gate"
        titles = [f"title {n}" for n in range(N_ITEMS - 1)]
        lines = ["item_id,title", *(f"{n},{title}" for n, title in enumerate([*titles, f"wait {self.gate}"]))]
        (folder / "items.csv").write_text("\n".join(lines) + "\n")
        (folder / "job.toml").write_text(JOB.replace("EXECUTOR", executor))
        plugin = write_plugin(folder / "plugin", {"mmfeat.captioners": {"waits": "waits:Waits"}})
        (plugin / "waits.py").write_text(WAITS)
        path = [str(plugin), str(Path(unrayed.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "run", "job.toml", "--json"],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path), **environment},
        )  # fmt: skip

    def wait(self, true: Callable[[], object]) -> None:
        def holds() -> object:
            assert self.process.poll() is None, self.process.communicate()
            return true()

        wait_until(holds)

    def wait_for_the_gate(self) -> None:
        """Until rows are committed and one caption keeps the run from its end."""
        self.wait(lambda: self.gate.exists() and self.rows())

    def rows(self) -> int:
        try:
            store = Store.open(str(self.folder / "store"))
        except StoreError:
            return 0
        return sum(len(store.ledger(version)) for version in store.versions())

    def started(self, command: str) -> bool:
        return any(command in command_of(pid) for pid in descendants(self.process.pid)[1:])

    def stopped(self) -> dict[str, Any]:
        """The last JSON object of a run that ends as one that was stopped, and leaves no process behind."""
        orphans = descendants(self.process.pid)[1:]
        out, err = self.process.communicate(timeout=200)
        assert (self.process.returncode, "Traceback" in err, "SIGTERM received" in err) == (130, False, False)
        assert "Stopped." in err
        wait_until(lambda: not any(map(command_of, orphans)), "Ray outlives the run")
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Run]]:
    """Starts a run; kills what is left of it."""
    runs: list[Run] = []

    def started(**how: str) -> Run:
        runs.append(Run(tmp_path, **how))
        return runs[-1]

    yield started
    for run in runs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGKILL)
        run.process.communicate()


def test_sigterm_commits_what_was_computed_and_ends_with_130_and_the_report_however_often_it_comes(start):
    run = start()
    run.wait_for_the_gate()
    for _ in range(3):
        run.process.send_signal(signal.SIGTERM)
    told = run.stopped()
    assert told["error"]["type"] == "Interrupted"
    assert 0 < told["report"]["features"][0]["ok"] == run.rows() < N_ITEMS
    (record,) = mmfeat.open(run.folder / "store").runs()
    assert (record["end"], record["report"]) == ("interrupted", told["report"])


def test_sigterm_while_ray_is_starting_ends_the_same_way(start):
    run = start()
    run.wait(lambda: run.started("raylet"))
    run.process.send_signal(signal.SIGTERM)
    told = run.stopped()
    assert told["error"]["type"] == "Interrupted"
    assert (told["report"]["features"][0]["ok"], run.rows()) == (0, 0)


def test_a_stop_is_heard_again_once_ray_has_ended():
    """Ray's native code leaves the system's default behind, by which an export after the run would die."""
    kept = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        with ray_session(Resources(cpus=1)):
            pass
        (caught,) = (
            int(line.split()[1], 16)
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith("SigCgt")
        )
    finally:
        signal.signal(signal.SIGTERM, kept)
    assert caught >> (signal.SIGTERM - 1) & 1


SIGNAL_STACKS = """
import ctypes
from mmfeat.pipelines.execution.ray.session import ray_session
from mmfeat.schemas.job import Resources
def stack():
    found = (ctypes.c_ulong * 3)()
    ctypes.CDLL(None).sigaltstack(None, found)
    return list(found)
before = stack()
with ray_session(Resources(cpus=1)):
    inside = stack()
print(inside != before, stack() == before)
"""


def test_handlers_of_signals_run_where_they_did_before_ray_once_it_has_ended():
    """In a process of its own: Ray's native code gives them its stack the first time alone."""
    done = subprocess.run([sys.executable, "-c", SIGNAL_STACKS], capture_output=True, text=True, check=False)
    assert done.stdout == "True True\n", done.stderr


WAITS_FOR_RAY = """
import os, threading, time
from mmfeat.pipelines.execution.ray.session import ray_session
from mmfeat.schemas.job import Resources
with ray_session(Resources(cpus=1)):
    import ray
    from ray._raylet import GcsClient
    client = GcsClient(address=ray.get_runtime_context().gcs_address)
    assert client.internal_kv_get(b"name", None) is None
threading.Thread(target=client.internal_kv_get, args=(b"name", None), daemon=True).start()
time.sleep(12)
print("still here", os.environ["RAY_gcs_rpc_server_reconnect_timeout_s"], flush=True)
os._exit(0)
"""


def test_a_process_outlives_its_ray_though_something_still_waits_for_ray_to_answer():
    """Ray's native code ends the process otherwise, after a minute: here after two seconds."""
    environment = {**os.environ, "RAY_gcs_rpc_server_reconnect_timeout_s": "2"}
    done = subprocess.run(
        [sys.executable, "-c", WAITS_FOR_RAY], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "still here 2\n"), done.stderr


def test_a_run_started_with_sigint_ignored_goes_on_at_ctrl_c_and_stops_at_sigterm(start):
    kept = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run = start(executor="local")
    finally:
        signal.signal(signal.SIGINT, kept)
    run.wait_for_the_gate()
    (ignored,) = (
        int(line.split()[1], 16)
        for line in Path(f"/proc/{run.process.pid}/status").read_text().splitlines()
        if line.startswith("SigIgn")
    )
    assert ignored >> (signal.SIGINT - 1) & 1
    run.process.send_signal(signal.SIGINT)
    assert run.process.poll() is None
    run.process.send_signal(signal.SIGTERM)
    assert run.stopped()["error"]["type"] == "Interrupted"


def test_ray_on_one_machine_listens_on_loopback_alone(start):
    run = start()
    run.wait_for_the_gate()
    found = {pid: listening(pid) for pid in descendants(run.process.pid)}
    addresses = [address for each in found.values() for address in each]
    assert len(addresses) > 4, "Ray's ports were not found"
    outside = {command_of(pid)[:80]: each for pid, each in found.items() if not all(map(is_loopback, each))}
    assert outside == {}
    run.process.send_signal(signal.SIGTERM)
    run.stopped()


def test_a_long_tmpdir_is_no_trouble_and_nothing_is_left_elsewhere(start, tmp_path):
    long = tmp_path / ("long" * 30)
    long.mkdir()
    before = {*short_folders()}
    run = start(TMPDIR=str(long))
    run.wait_for_the_gate()
    (made,) = {*short_folders()} - before
    assert (made.stat().st_mode & 0o777, made.stat().st_uid) == (0o700, os.getuid())
    run.process.send_signal(signal.SIGTERM)
    run.stopped()
    assert {*short_folders()} == before


def short_folders() -> Iterator[Path]:
    for place in ("/tmp", "/var/tmp", "/dev/shm"):
        yield from Path(place).glob("mmfeat-ray-*")


def is_loopback(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def listening(pid: int) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The addresses at which a process takes connections."""
    links = []
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                links.append(str(entry.readlink()))
    found = []
    for file in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{file}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENS and f"socket:[{fields[9]}]" in links:
                found.append(address_of(fields[1].partition(":")[0]))
    return found


def address_of(words: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address as the kernel writes it: words of 32 bits in the machine's order of bytes."""
    raw = b"".join(int(words[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(words), 8))
    return ipaddress.ip_address(raw)
