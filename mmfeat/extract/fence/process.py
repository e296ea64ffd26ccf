"""Decoding in a process that hostile media may kill, hang or fill, and that costs one item only.

Decoders are C code that reads what strangers wrote: one bad file may crash it, keep it busy for hours
or make it ask for all memory, and no exception tells. So each process that decodes has a child that
does it, one item at a time, under ``MediaLimits.item_seconds`` and ``item_memory``. The kernel keeps
both limits inside the child (``child.py``). When the child dies, its item is ``failed``, and the next
item starts another child.

What comes back is a line of JSON and raw arrays, never a pickle: a decoder that was taken over by its
input must not be able to run code on this side.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmfeat.extract import modalities
from mmfeat.extract.fence.decode import Decoded, MediaRequest, Wanted, read, unpacked
from mmfeat.schemas.errors import ItemError, MmfeatError
from mmfeat.schemas.media import MediaLimits

# Bytes. A sound of thousands of windows, prepared in many ways, tells the times of them all.
_LONGEST_LINE = 1 << 24
_AHEAD = 1
# Bytes of requests on their way: well within what a socket takes without a reader.
_MOST_AHEAD = 1 << 15
# Sent by the machine's memory watch or a person. Other signals a process brings upon itself.
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM)


def decode_fenced(request: MediaRequest, limits: MediaLimits) -> Decoded:
    """:func:`~mmfeat.extract.fence.decode.decode_media` in this process's child.

    A child that was killed from outside, or ended by a library, says nothing of the item, which is tried
    once more.

    Raises:
        MmfeatError: no child can be started.
    """
    return next(decode_fenced_all([request], limits))


def decode_fenced_all(requests: Iterable[MediaRequest], limits: MediaLimits) -> Iterator[Decoded]:
    """:func:`decode_fenced` of each request, in order.

    The child has the next request before its answer to the last one is taken, so it never waits for
    this side. Limits hold for each item alone, and other callers may decode in between.

    Raises:
        MmfeatError: no child can be started.
    """
    fence = _fence
    asked: deque[_Asked] = deque()
    for request in requests:
        asked.append(fence.ask(request, limits))
        if len(asked) > _AHEAD:
            yield fence.answer(asked.popleft())
    while asked:
        yield fence.answer(asked.popleft())


def start_fence() -> None:
    """Start the child ahead of the first request, without waiting until it has loaded its decoders."""
    _fence.start()


def child() -> DecoderProcess | None:
    """The process that decodes for this one; None if there is none."""
    return _fence.child


def stop_fence() -> None:
    """End the child with what it works on, which may take long. The next request starts another one.

    Whoever waits for an answer in another thread gets a MmfeatError.
    """
    global _fence
    stopped, _fence = _fence, _Fence()
    stopped.stop()


@dataclass(eq=False)
class _Asked:
    """A request that was sent, and in time what became of it."""

    request: MediaRequest
    limits: MediaLimits
    message: bytes
    decoded: Decoded | None = None
    tried_again: bool = False


class _Fence:
    """This process's child and what it was asked; answers come in the order of the questions."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.child: DecoderProcess | None = None
        self.waiting: deque[_Asked] = deque()
        self.stopped = False

    def start(self) -> None:
        """Start the child, unless there is one."""
        with self.turn:
            if self.child is None:
                self.child = DecoderProcess()

    def stop(self) -> None:
        """End the child and start none any more. Waits for nobody's turn."""
        self.stopped = True
        if self.child is not None:
            self.child.process.kill()

    def ask(self, request: MediaRequest, limits: MediaLimits) -> _Asked:
        """Send a request without waiting for its answer."""
        asked = _Asked(request, limits, pickle.dumps((request, limits)))
        with self.turn:
            # A child that waits to be heard takes no more questions than its socket holds.
            while self.waiting and sum(len(a.message) for a in (*self.waiting, asked)) > _MOST_AHEAD:
                self._hear()
            self._at_work().send(asked.message)
            self.waiting.append(asked)
        return asked

    def answer(self, asked: _Asked) -> Decoded:
        """What became of a request that was sent."""
        with self.turn:
            while asked.decoded is None:
                self._hear()
        return asked.decoded

    def _hear(self) -> None:
        """The answer to the oldest question, or that the child died of it."""
        first = self.waiting[0]
        try:
            first.decoded = self._at_work().answer(first.request)
        except _Died as death:
            self.child = None
            if death.blames_no_item and not first.tried_again:
                first.tried_again = True
            else:
                first.decoded = death.outcome(first.request, first.limits)
        if first.decoded is not None:
            self.waiting.popleft()

    def _at_work(self) -> DecoderProcess:
        """The child. Where it is gone, another one that is asked what the last one left."""
        if self.stopped:
            raise MmfeatError("Decoding was stopped.")
        if self.child is None or not (self.waiting or self.child.alive):
            self.child = DecoderProcess()
            if self.stopped:
                # Meanwhile, when there was no child to end.
                self.child.process.kill()
            for asked in self.waiting:
                self.child.send(asked.message)
        self.child.wait_until_ready()
        return self.child


_fence = _Fence()


class _Died(Exception):
    """The child ended while it worked on an item.

    Args:
        code: its exit code, negative for a signal.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.signal = -code

    @property
    def blames_no_item(self) -> bool:
        """Whether it was killed from outside, or a library ended it, as oneMKL does where it cannot load."""
        return self.signal in _FROM_OUTSIDE or self.signal <= 0

    def outcome(self, request: MediaRequest, limits: MediaLimits) -> Decoded:
        """The item's failure, with the content that it holds for."""
        if self.signal == signal.SIGALRM:
            reason = f"decoder timed out after {limits.item_seconds:g} s"
        elif self.signal in _FROM_OUTSIDE:
            reason = "decoder crashed (it was killed twice; the machine may be out of memory)"
        else:
            reason = f"decoder crashed ({_name(self.signal)})"
        try:
            media = read(request, limits)
        except ItemError as error:
            return Decoded(failure=error)
        return Decoded(media.content_hash, media.stamp, failure=ItemError("decode", reason))


class DecoderProcess:
    """One child and the line to it. It ends when this object, or this whole process, is gone."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        # Room for an item's pixels, so that the child goes on while they wait to be taken.
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mmfeat.extract.fence.child", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={
                    **os.environ,
                    # It must find what this process finds, wherever Ray took that from.
                    "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),  # noqa: PTH109
                    # An item is decoded on one core.
                    "OPENBLAS_NUM_THREADS": "1",
                },
            )
        with ours:
            self.pipe = ours.makefile("rwb")
        self.ready = False

    def wait_until_ready(self) -> None:
        """Until it has loaded its decoders; MmfeatError if it cannot."""
        if self.ready:
            return
        self.ready = self.pipe.readline(_LONGEST_LINE) == b"ready\n"
        if not self.ready:
            self.process.kill()
            raise MmfeatError(
                f"The process that decodes media could not start (exit code {self.process.wait()}).",
                hint="`mmfeat doctor` shows whether every package is there. Its own error is in Ray's logs.",
            )

    @property
    def alive(self) -> bool:
        """Whether it can take another item."""
        return self.process.poll() is None

    def send(self, message: bytes) -> None:
        """One request, pickled. A child that is gone is noticed by :meth:`answer`."""
        with contextlib.suppress(OSError):
            self.pipe.write(message)
            self.pipe.flush()

    def answer(self, request: MediaRequest) -> Decoded:
        """What became of ``request``, the oldest that is not answered.

        Raises:
            _Died: the child ended instead of answering.
        """
        try:
            return self._answer(request)
        except (EOFError, OSError, ValueError, TypeError, LookupError):
            self.process.kill()
            raise _Died(self.process.wait()) from None

    def _answer(self, request: MediaRequest) -> Decoded:
        line = self.pipe.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise EOFError
        answer = json.loads(line)
        return Decoded(
            answer["content_hash"],
            answer["stamp"],
            tuple(
                None if announced is None else self._value(wanted, announced)
                for wanted, announced in zip(request.wanted, answer["values"], strict=False)
            ),
            ItemError(*answer["failure"]) if answer["failure"] else None,
            answer["seconds"],
        )

    def _value(self, wanted: Wanted, announced: dict[str, Any]) -> Any:
        if "failure" in announced:
            return ItemError(*announced["failure"])
        data = np.empty(announced["shape"], np.dtype(announced["dtype"]))
        if data.nbytes and self.pipe.readinto(data.data.cast("B")) < data.nbytes:
            raise EOFError
        return unpacked(wanted, modalities.Packed(announced["facts"], data))


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"exit code {-number}"
