"""A store in a process that was forked from one that had read it: another process answers there.

A fork copies a process's memory and none of its threads, Lance's among them: what they held stays held for
ever, and a call hangs or crashes, even on a store that is opened anew. So a program of its own, which nothing
was forked into, opens the store and answers through a pipe. It ends with the process that it answers.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from functools import wraps
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from mmfeat.schemas.errors import StoreError, UsageError

_Class = TypeVar("_Class", bound=type)

# Said at every fork, whoever makes it: what it warns of is met here.
warnings.filterwarnings("ignore", message="lance is not fork-safe")


class ForkProxy:
    """A store that another process has open.

    Args:
        uri: of the store.
        snapshot: its name, where one is read.
    """

    def __init__(self, uri: str, snapshot: str | None) -> None:
        self._where = uri, snapshot
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mmfeat.fork_server", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                # It must find what this process finds.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},  # noqa: PTH109
            )
        self._line = Connection(ours.detach())
        self._line.send(self._where)

    def ask(self, name: str, args: tuple[Any, ...], settings: dict[str, Any]) -> Any:
        """What a :class:`~mmfeat.FeatureStore` has as ``name``, or its answer where that is a method.

        Raises:
            MmfeatError: as there; or the question, or the answer, cannot go through a pipe.
        """
        try:
            question = pickle.dumps((name, args, settings))
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise no_way(name, error) from None
        with self._lock:
            try:
                self._line.send_bytes(question)
                failed, answer = self._line.recv()
            except (EOFError, OSError) as error:
                raise StoreError(
                    f"The process that reads {self._where[0]} for this one has ended."
                ) from error
        if failed:
            raise answer
        return answer


def no_way(name: str, error: Exception) -> UsageError:
    """The refusal of what cannot go through a pipe."""
    return UsageError(
        f"{name} cannot be used like this in a process that was forked: {error}.",
        hint="Do it in the process that opened the store, or start this one with 'spawn'.",
    )


def fork_safe(cls: _Class) -> _Class:
    """A ``FeatureStore`` whose public methods and properties another process answers after a fork."""
    for name, member in list(vars(cls).items()):
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            assert member.fget is not None
            setattr(cls, name, property(_answered(name, member.fget), doc=member.__doc__))
        elif callable(member):
            setattr(cls, name, _answered(name, member))
    return cls


def _answered(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def answered(self: Any, *args: Any, **settings: Any) -> Any:
        proxy: ForkProxy | None = self._proxy()
        return method(self, *args, **settings) if proxy is None else proxy.ask(name, args, settings)

    return answered
