"""Ray for the length of a run: who stops it, who may reach it, and where its files lie."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

from mmfeat.pipelines.execution.ray import cluster
from mmfeat.pipelines.execution.resources import machine_cpus
from mmfeat.schemas.errors import MissingExtra, MmfeatError
from mmfeat.schemas.job import Resources

# Beyond what results in flight need, memory is better left to the models.
_OBJECT_STORE_BYTES = 1 << 30

_RAY_ENVIRONMENT = {
    # Without a GPU reserved, a worker sees what the machine has: the device is ours to choose.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Warnings of Ray's own processes are for Ray's developers; errors come to us as exceptions.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # A thread of Ray Data that outlives a stopped run must not start another Ray.
    "RAY_ENABLE_AUTO_CONNECT": "0",
}

# A client of Ray's control service that waits for an answer as Ray ends takes the process with it, without
# a word, once the service has been gone for so many seconds: by default 60. Ray takes up to 32 bits.
_GONE_SECONDS = "RAY_gcs_rpc_server_reconnect_timeout_s", "1000000000"

# The longest path of a socket that Linux takes, and what Ray's longest adds to the folder of its files:
# "/session_2026-01-02_03-04-05_678901_4194304/sockets/plasma_store.10".
_SOCKET_PATH_BYTES, _RAY_ADDS_BYTES = 107, 68
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


@contextlib.contextmanager
def ray_session(resources: Resources) -> Iterator[None]:
    """A cluster that is named, or a Ray of our own that only this machine can reach.

    Raises:
        MmfeatError: Ray cannot be used as the job says.
    """
    try:
        for name, value in _RAY_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import ray
        import ray.data
    except ImportError:
        raise MissingExtra("Extraction", "extract", "ray") from None
    if ray.is_initialized():
        yield
        return
    # Ray starts programs of its own and forks no copy of this process: Lance is safe from that.
    warnings.filterwarnings("ignore", message="lance is not fork-safe")
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    with _folder(resources) as folder, _signal_stack_kept():
        try:
            with _stops_kept(), _held_back_stderr():
                if resources.ray_address:
                    cluster.connect(resources.ray_address, _RAY_ENVIRONMENT, **quiet)
                else:
                    _start_here(resources, folder, quiet)
            yield
        finally:
            ray.shutdown()
            _hear_stops_again()


def _start_here(resources: Resources, folder: str | None, quiet: dict[str, Any]) -> None:
    """A Ray of this machine's: all its ports are on the loopback interface."""
    import ray

    with _on_loopback(), _outliving_ray():
        ray.init(
            # By default Ray would join whatever cluster it finds on this machine.
            address="local",
            num_cpus=resources.cpus or machine_cpus(),
            num_gpus=resources.gpus,
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            _temp_dir=folder,
            **quiet,
        )
    for address, _ in cluster.working_nodes().values():
        if not ipaddress.ip_address(address).is_loopback:
            raise MmfeatError(
                f"Ray {ray.__version__} would listen on {address}, where other machines reach it.",
                hint="Install another version of Ray, or compute without it: --executor local.",
            )


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """A Ray that is started meanwhile takes the loopback address for this machine's.

    All its servers listen there then, and only there. Ray has a variable for that, which it reads when it is
    imported: too early where a program joins a cluster first, and too late where one has imported Ray.
    """
    from ray._private import ray_constants

    kept = getattr(ray_constants, "ENABLE_RAY_CLUSTER", True)
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = kept


@contextlib.contextmanager
def _outliving_ray() -> Iterator[None]:
    """This process stays when a Ray that is started meanwhile is gone.

    Ray's native code in this process reads the setting as Ray starts. Its other processes get their variables
    from ``os.environ``, which lacks it: they end as usual without the control service.
    """
    name, value = (text.encode() for text in _GONE_SECONDS)
    libc = ctypes.CDLL(None)
    libc.setenv(name, value, 1)
    try:
        yield
    finally:
        libc.unsetenv(name)
        if (kept := os.environ.get(_GONE_SECONDS[0])) is not None:
            libc.setenv(name, kept.encode(), 1)


@contextlib.contextmanager
def _folder(resources: Resources) -> Iterator[str | None]:
    """Where the files of a Ray of our own go: None for its own choice, or a folder of ours where a socket's
    path would be too long there. Only this user can enter that one, and it goes with the session.

    Raises:
        MmfeatError: there is no place with a shorter path.
    """
    usual = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    there = len(os.fsencode(usual)) + len("/ray") + _RAY_ADDS_BYTES
    if resources.ray_address or there <= _SOCKET_PATH_BYTES:
        yield None
        return
    for place in _SHORT_FOLDERS:
        with contextlib.suppress(OSError):
            made = tempfile.mkdtemp(prefix="mmfeat-ray-", dir=place)
            break
    else:
        raise MmfeatError(
            f"Ray cannot put its sockets below {usual}: their paths would be too long, and none of"
            f" {', '.join(_SHORT_FOLDERS)} can be written.",
            hint="Set TMPDIR to a folder with a shorter path, or compute without Ray: --executor local.",
        )
    try:
        yield f"{made}/r"  # Ray opens its own folder to everybody
    finally:
        # Ray's processes may be writing their last words.
        shutil.rmtree(made, ignore_errors=True)


@contextlib.contextmanager
def _stops_kept() -> Iterator[None]:
    """What SIGTERM does stays what it was: Ray puts a handler of its own there as it starts, which would end
    the process without a report. One that comes meanwhile is handed on."""
    ours = signal.getsignal(signal.SIGTERM)
    if ours is None or threading.current_thread() is not threading.main_thread():
        yield  # none of Python's, or Ray cannot put one there either
        return
    stopped = False
    try:
        yield
    except SystemExit as exit:
        stopped = exit.code == signal.SIGTERM  # Ray's handler
        if not stopped:
            raise
    finally:
        signal.signal(signal.SIGTERM, ours)
    if stopped:
        signal.raise_signal(signal.SIGTERM)
        raise SystemExit(signal.SIGTERM)  # ours let the program go on, which has no Ray


def _hear_stops_again() -> None:
    """SIGTERM comes to Python's handler again. Ray's native code leaves the system's default as it ends, by
    which a stop would end the process in the middle of what comes after Ray."""
    ours = signal.getsignal(signal.SIGTERM)
    if ours is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, ours)


class _Stack(ctypes.Structure):
    """C's ``stack_t`` on Linux: where a thread's signal handlers run."""

    _fields_: ClassVar = [("place", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


@contextlib.contextmanager
def _signal_stack_kept() -> Iterator[None]:
    """Handlers of signals run afterwards where they ran before.

    Ray's native code gives them a stack of its own and leaves it behind. Processes died of a signal long
    after: the kernel could not enter the handler.
    """
    if sys.platform != "linux":
        yield
        return
    libc, ours, thread = ctypes.CDLL(None), _Stack(), threading.get_ident()
    libc.sigaltstack(None, ctypes.byref(ours))
    try:
        yield
    finally:
        if threading.get_ident() == thread:
            libc.sigaltstack(ctypes.byref(ours), None)


@contextlib.contextmanager
def _held_back_stderr() -> Iterator[None]:
    """Ray's native code greets on standard error whatever level is set; shown only if starting fails."""
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(shown, held.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)
