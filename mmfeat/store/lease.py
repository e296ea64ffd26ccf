"""One writer per store, on a local folder: a lock that dies with the process that holds it.

The lock is ``flock`` on a file in the store's folder: the kernel lets go of it when the process
ends, however it ends, so nothing has to be cleaned up after a crash and no process id is trusted.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from mmfeat.schemas.errors import StoreError

LOCK_FILE = "_writer.lock"
POLL_SECONDS = 0.1

# A forked child shares the lock and would keep it after its parent was killed.
_held: set[int] = set()


class Lease(Protocol):
    """The right to write to a store."""

    def check(self) -> None:
        """StoreError when the lease was lost."""

    def release(self) -> None:
        """Give the lease back."""


class FolderLease:
    """The lease of a local store. Between hosts it holds where the shared file system carries
    ``flock`` (NFS 4 and most cluster file systems do)."""

    def __init__(self, folder: Path, owner: str, wait_seconds: float) -> None:
        self._path = folder / LOCK_FILE
        self._fd = self._acquired(time.monotonic() + wait_seconds)
        _held.add(self._fd)
        os.truncate(self._fd, 0)
        os.pwrite(self._fd, describe_holder(owner).encode(), 0)

    def check(self) -> None:
        """StoreError when the lock file was removed: another process may hold a new one."""
        if not self._is_at_path(self._fd):
            raise StoreError(
                f"The lock file {self._path} was removed while this process was writing.",
                hint="Nothing more is written. Leave that file alone and run again.",
            )

    def release(self) -> None:
        """Give the lease back. The file stays: removing it would let two writers lock two files."""
        os.truncate(self._fd, 0)
        _held.discard(self._fd)
        os.close(self._fd)

    def _acquired(self, deadline: float) -> int:
        while True:
            fd = self._opened()
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_at_path(fd):
                    return fd
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = os.pread(fd, 4096, 0).decode(errors="replace")
                    os.close(fd)
                    raise held_by(str(self._path.parent), holder) from None
            except OSError as error:
                os.close(fd)
                raise StoreError(
                    f"The file system of {self._path.parent} cannot lock files: {error.strerror}.",
                    hint="Put the store on a local disk or an object store.",
                ) from None
            os.close(fd)
            time.sleep(POLL_SECONDS)

    def _opened(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise StoreError(
                f"Cannot write to the store {self._path.parent}: {error.strerror}.",
                hint="Check that the folder is there and that you may write to it.",
            ) from None

    def _is_at_path(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), self._path.stat())
        except FileNotFoundError:
            return False


def describe_holder(owner: str) -> str:
    """Who this process is, as JSON, for whom it keeps out."""
    holder = {
        "owner": owner,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv)[:500],
    }
    return json.dumps(holder, ensure_ascii=False)


def held_by(uri: str, holder: str) -> StoreError:
    """The error that tells who is writing."""
    try:
        h = json.loads(holder)
        who = f"process {h['pid']} on {h['host']} since {h['since']} ({h['owner']}: {h['command']})"
    except (ValueError, KeyError, TypeError):
        who = "another process"  # which has the lock and has not yet written who it is
    return StoreError(
        f"The store {uri} is being written by {who}.", hint="Wait until it is done, or stop it."
    )


def _let_go_in_child() -> None:
    for fd in _held:
        os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)
