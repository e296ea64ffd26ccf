"""Errors for people: what happened, to which item, what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class MmfeatError(Exception):
    """Base of every error a user can act on.

    Args:
        message: what happened, naming the thing it happened to.
        hint: what to do about it; shown on a line of its own.

    Attributes:
        exit_code: what the command line exits with (1 failed, 2 wrong use, 3 a gate fell short).
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """All of it on one line: what happened, and what to do."""
        if not self.hint:
            return self.message
        stop = "" if self.message.endswith((".", "!", "?", ":")) else "."
        return f"{self.message}{stop} {self.hint}"

    def __reduce__(self) -> tuple[object, ...]:
        # Worker processes send errors back by pickle; the default would lose the hint.
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(cls: type[Exception], args: tuple[object, ...], state: dict[str, object]) -> Exception:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class UsageError(MmfeatError):
    """The command or call cannot be carried out as written."""

    exit_code = 2


class ConfigError(UsageError):
    """A job file, preset or feature setting is wrong."""


class DatasetError(UsageError):
    """The dataset folder or file is not what its adapter reads."""


class StoreError(MmfeatError):
    """The store cannot be opened, read or written."""


class OutputError(MmfeatError):
    """A file or folder that was to be written cannot be."""


class UnknownFeature(UsageError):
    """A feature or version that the store does not hold."""


class UnknownItems(UsageError):
    """Item ids that the store does not hold.

    Attributes:
        ids: every unknown id, in the order asked.
    """

    def __init__(self, ids: Sequence[str], where: str = "the store") -> None:
        shown = ", ".join(repr(i) for i in ids[:10])
        more = f" and {len(ids) - 10} more" if len(ids) > 10 else ""
        plural = "id" if len(ids) == 1 else "ids"
        super().__init__(
            f"{len(ids)} unknown item {plural} in {where}: {shown}{more}",
            hint='Check the ids, or ask for masked rows with unknown="mask" (--unknown mask).',
        )
        self.ids = list(ids)


class MissingExtra(UsageError):
    """A command needs packages that are not installed."""

    def __init__(self, what: str, extra: str, package: str) -> None:
        super().__init__(
            f"{what} needs the package {package!r}, which is not installed.",
            hint=f'Install it with: pip install "mmfeat[{extra}]"',
        )


class GateFailed(MmfeatError):
    """A threshold that the caller set was not met.

    Attributes:
        report: what the work did all the same; None if it was stopped before its end.
    """

    exit_code = 3

    def __init__(self, message: str, hint: str | None = None, report: Any = None) -> None:
        super().__init__(message, hint)
        self.report = report


class ValuesChanged(GateFailed):
    """A model gives other values for the same input than when its feature's version was begun."""


class ServerRefused(ConfigError):
    """A model server turns every request away: a wrong key, model or address. No item is at fault."""


class ServerUnavailable(MmfeatError):
    """A model server does not answer, or is too busy for longer than we wait. No item is at fault."""


class SpendingCap(GateFailed):
    """A run has asked a model server for as much as it may."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended a run.

    Attributes:
        report: what it committed; None if it was stopped before that is known.
    """

    def __init__(self, report: Any = None) -> None:
        super().__init__("interrupted")
        self.report = report


class ConservationError(MmfeatError):
    """Planned rows and committed rows do not add up: a defect, never ignored."""


class ItemError(Exception):
    """One item could not be processed; the run goes on and records it as ``failed``.

    Args:
        stage: where it failed: ``read``, ``decode``, ``encode``, ``caption``, ``transcribe``, ``ocr`` or
            ``upstream``.
        reason: what a person needs to know, without a traceback, e.g. ``file is empty``.
    """

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(stage, reason)
        self.stage = stage
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}"


class NotAsked(ItemError):
    """An item that the run stopped before: it has no row, and the next run computes it.

    Attributes:
        why: what stopped the run.
    """

    def __init__(self, why: MmfeatError) -> None:
        super().__init__("caption", why.message)
        self.why = why
