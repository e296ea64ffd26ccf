"""One writer per store, on a local folder: a lock that dies with the process that holds it.

The lock is ``flock`` on a file in the store's folder: the kernel lets go of it when the process
ends, however it ends, so nothing has to be cleaned up after a crash and no process id is trusted.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from mmfeat.schemas.errors import StoreError
from mmfeat.schemas.redact import command_line

LOCK_FILE = "_writer.lock"
POLL_SECONDS = 0.1

# How often a writer that waits says so.
_SAY_SECONDS = 60.0

# Who only looks whether somebody writes holds the lock for a moment, which must keep no writer out.
_LOOK_SECONDS = 0.25

# A forked child shares the lock and would keep it after its parent was killed.
_held: set[int] = set()


class Lease(Protocol):
    """The right to write to a store."""

    def check(self) -> None:
        """StoreError when the lease was lost."""

    def release(self) -> None:
        """Give the lease back."""


class Patience:
    """How long a writer waits for another one, and what it says meanwhile.

    Args:
        seconds: to wait at most.
        say: told who is writing, at first and every minute.
    """

    def __init__(self, seconds: float, say: Callable[[str], None]) -> None:
        self._until = time.monotonic() + seconds
        self._say = say
        self._said: float | None = None

    def keep(self, uri: str, holder: str) -> None:
        """StoreError, which names the holder, once the time is over."""
        now = time.monotonic()
        if now >= self._until:
            raise held_by(uri, holder)
        if self._until - now > _LOOK_SECONDS and (self._said is None or now - self._said >= _SAY_SECONDS):
            self._said = now
            self._say(f"{held_by(uri, holder).message} Waiting for it, {self._until - now:,.0f} s at most.")


class FolderLease:
    """The lease of a local store. Between hosts it holds where the shared file system carries
    ``flock`` (NFS 4 and most cluster file systems do)."""

    def __init__(
        self,
        folder: Path,
        owner: str,
        wait_seconds: float,
        waiting: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._path = folder / LOCK_FILE
        self._fd = self._acquired(Patience(max(wait_seconds, _LOOK_SECONDS), waiting))
        _held.add(self._fd)
        # A full disk: the kernel's lock is what counts, and who frees space needs no more.
        with suppress(OSError):
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
        with suppress(OSError):
            os.truncate(self._fd, 0)
        _held.discard(self._fd)
        os.close(self._fd)

    def _acquired(self, patience: Patience) -> int:
        while True:
            fd = self._opened()
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_at_path(fd):
                    return fd
            except BlockingIOError:
                try:
                    patience.keep(str(self._path.parent), _described(fd))
                except StoreError:
                    os.close(fd)
                    raise
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


def folder_owner(folder: Path) -> str | None:
    """What the lease of a local store is held for; None if nobody holds it."""
    try:
        fd = os.open(folder / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None  # nobody ever wrote here
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return owner_of(_described(fd))
    finally:
        os.close(fd)
    return None


def describe_holder(owner: str) -> str:
    """Who this process is, as JSON, for whom it keeps out."""
    holder = {
        "owner": owner,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line(),
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


def owner_of(holder: str) -> str:
    """The owner in a description by :func:`describe_holder`; empty if there is none yet."""
    try:
        return str(json.loads(holder)["owner"])
    except (ValueError, KeyError, TypeError):
        return ""


def _described(fd: int) -> str:
    return os.pread(fd, 4096, 0).decode(errors="replace")


def _let_go_in_child() -> None:
    for fd in _held:
        os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)
