"""Decoding in a process that hostile media may kill, hang or fill, and that costs one item only.

Decoders are C code that reads what strangers wrote: one bad file may crash it, keep it busy for hours
or make it ask for all memory, and no exception tells. So each process that decodes has a child that
does it, one item at a time, under ``MediaLimits.item_seconds`` and ``item_memory``. The kernel keeps
both limits inside the child (``fenced.py``). When the child dies, its item is ``failed``, and the next
item starts another child.

What comes back is a line of JSON and raw pixels, never a pickle: a decoder that was taken over by its
input must not be able to run code on this side.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

import numpy as np

from mmfeat.extract.media.decode import Decoded, MediaRequest, read
from mmfeat.schemas.errors import ItemError, MmfeatError
from mmfeat.schemas.media import Frames, MediaLimits, Scene

_LONGEST_LINE = 1 << 20
# Sent by the machine's memory watch or a person. Other signals a process brings upon itself.
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM)


def decode_fenced(request: MediaRequest, limits: MediaLimits) -> Decoded:
    """:func:`~mmfeat.extract.media.decode.decode_media` in this process's child.

    A child that was killed from outside says nothing of the item, which is tried once more.

    Raises:
        MmfeatError: no child can be started.
    """
    with _turn:
        try:
            return _child().decode(request, limits)
        except _Died as death:
            if death.signal not in _FROM_OUTSIDE:
                return death.outcome(request, limits)
        try:
            return _child().decode(request, limits)
        except _Died as death:
            return death.outcome(request, limits)


_turn = threading.Lock()
_started: DecoderProcess | None = None


def _child() -> DecoderProcess:
    global _started
    if _started is None or not _started.alive:
        _started = DecoderProcess()
    return _started


class _Died(Exception):
    """The child ended while it worked on an item.

    Args:
        code: its exit code, negative for a signal.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.signal = -code

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
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mmfeat.extract.media.fenced", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # It must find what this process finds, wherever Ray took that from.
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},  # noqa: PTH109
            )
        with ours:
            self.pipe = ours.makefile("rwb")
        if self.pipe.readline(_LONGEST_LINE) != b"ready\n":
            self.process.kill()
            raise MmfeatError(
                f"The process that decodes media could not start (exit code {self.process.wait()}).",
                hint="`mmfeat doctor` shows whether every package is there. Its own error is in Ray's logs.",
            )

    @property
    def alive(self) -> bool:
        """Whether it can take another item."""
        return self.process.poll() is None

    def decode(self, request: MediaRequest, limits: MediaLimits) -> Decoded:
        """One item.

        Raises:
            _Died: the child ended instead of answering.
        """
        try:
            pickle.dump((request, limits), self.pipe)
            self.pipe.flush()
            return self._answer()
        except (EOFError, OSError, ValueError, TypeError, LookupError):
            self.process.kill()
            raise _Died(self.process.wait()) from None

    def _answer(self) -> Decoded:
        line = self.pipe.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise EOFError
        answer = json.loads(line)
        return Decoded(
            answer["content_hash"],
            answer["stamp"],
            tuple(self._frames(**facts) for facts in answer["frames"]),
            ItemError(*answer["failure"]) if answer["failure"] else None,
        )

    def _frames(self, shape: list[int], times: list[float], scenes: list[dict[str, Any]]) -> Frames:
        pixels = np.empty(shape, np.uint8)
        if self.pipe.readinto(pixels.data.cast("B")) < math.prod(shape):
            raise EOFError
        return Frames(pixels, tuple(times), tuple(Scene(**scene) for scene in scenes))


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"exit code {-number}"
