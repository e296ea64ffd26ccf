"""Telling somebody how a run ended: one JSON message, to a webhook or to a program.

Whoever is told, and whether that worked, changes nothing of how the run ended.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ValidationError

from mmfeat.pipelines.run_report import RunReport
from mmfeat.pipelines.steps.base import RunContext, Step
from mmfeat.schemas.errors import ConfigError, GateFailed, MmfeatError
from mmfeat.schemas.job import JobConfig, load_job, read_toml
from mmfeat.schemas.operations import Event, NotifyConfig
from mmfeat.schemas.redact import redact
from mmfeat.schemas.spec import FeatureSpec

_MAX_SAID = 200


class Notify(Step[NotifyConfig]):
    """Tells how the run ended, however it did."""

    Config: ClassVar[type[BaseModel]] = NotifyConfig

    def check(self, job: JobConfig, specs: Sequence[FeatureSpec]) -> None:
        """See :meth:`Step.check`: nobody could be told as the job says."""
        if self.config.webhook_env is not None:
            _address(self.config.webhook_env)

    def run(self, context: RunContext) -> Iterator[RunReport]:
        """Nothing: the run has not ended yet."""
        return
        yield

    def ended(self, context: RunContext | None, error: BaseException | None) -> list[str]:
        """See :meth:`Step.ended`."""
        if context is None:
            return notify(self.config, message(error, None, None, None, None))
        report = None if context.report is None else context.report.to_dict()
        where = (context.run_id, context.job.store.uri, context.job.dataset.name)
        return notify(self.config, message(error, *where, report))


def load_or_notify(path: Path) -> JobConfig:
    """The job in a TOML file. Where it is wrong, those whom a right ``[notify]`` names are notified.

    Raises:
        ConfigError: the file cannot be read, or what it says cannot be carried out.
    """
    try:
        return load_job(path)
    except ConfigError as error:
        if (config := _readable(path)) is not None:
            problems = notify(config, message(error, None, None, None, None))
            error.hint = (
                " ".join(filter(None, (error.hint, *(f"Besides, {said}." for said in problems)))) or None
            )
        raise


def _readable(path: Path) -> NotifyConfig | None:
    """The ``[notify]`` of a job whose other tables may be wrong."""
    try:
        return NotifyConfig.model_validate(read_toml(path).get("notify"))
    except (ConfigError, ValidationError):
        return None


def event_of(error: BaseException | None) -> Event:
    """What kind of end a run had; None is success."""
    if error is None:
        return "success"
    return "gate" if isinstance(error, GateFailed) else "failure"


def message(
    error: BaseException | None,
    run_id: str | None,
    store: str | None,
    dataset: str | None,
    report: dict[str, Any] | None,
) -> dict[str, Any]:
    """What is told, JSON types: ``event, run_id, store, dataset, host, exit_code, end, text, report``.

    ``text`` is a sentence for people; chat services show it as it is. Of a job that could not be read
    ``run_id``, ``store`` and ``dataset`` are None.
    """
    end = "completed" if error is None else redact(str(error) or type(error).__name__)
    code = 0 if error is None else error.exit_code if isinstance(error, MmfeatError) else 1
    words = {"success": "completed", "failure": f"failed: {end}", "gate": f"fell short of a gate: {end}"}
    what = "a job" if run_id is None else f"run {run_id} of {dataset!r}"
    return {
        "event": event_of(error),
        "run_id": run_id,
        "store": None if store is None else redact(store),
        "dataset": dataset,
        "host": socket.gethostname(),
        "exit_code": 130 if isinstance(error, KeyboardInterrupt) else code,
        "end": end,
        "text": f"mmfeat: {what} {words[event_of(error)]}",
        "report": report,
    }


def notify(config: NotifyConfig, body: dict[str, Any]) -> list[str]:
    """Send ``body`` to everybody whom ``config`` names for its event; what did not work, in words."""
    if body["event"] not in config.on:
        return []
    sent = json.dumps(body, ensure_ascii=False, default=str).encode()
    problems, seconds = [], config.timeout_seconds
    if config.webhook_env is not None and (problem := _post(config.webhook_env, sent, seconds)):
        problems.append(f"the webhook of {config.webhook_env} was not told: {problem}")
    if config.command is not None and (problem := _start(config.command, sent, seconds)):
        problems.append(f"{config.command[0]} was not told: {problem}")
    return problems


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A message is posted where it was meant to go, or not at all."""

    def redirect_request(self, *args: Any) -> None:
        """None makes the redirect an error."""


def _address(variable: str) -> str:
    address = os.environ.get(variable, "")
    if not address.startswith(("http://", "https://")):
        found = "holds no http:// or https:// address" if address else "is not set"
        raise ConfigError(
            f"[notify] webhook_env: the environment variable {variable} {found}.",
            hint=f"Set {variable} where the job is started, or take webhook_env out of the job.",
        )
    return address


def _post(variable: str, body: bytes, seconds: float) -> str:
    headers = {"Content-Type": "application/json", "User-Agent": "mmfeat"}
    try:
        request = urllib.request.Request(_address(variable), body, headers, method="POST")
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=seconds):
            return ""
    except urllib.error.HTTPError as error:
        return f"it answered {error.code}"
    # The address may hold a secret, and some of these errors name it.
    except (OSError, ValueError, ConfigError) as error:
        reason = getattr(error, "reason", None)
        return f"{type(error).__name__}" + (f" ({reason})" if isinstance(reason, OSError) else "")


def _start(command: tuple[str, ...], body: bytes, seconds: float) -> str:
    try:
        done = subprocess.run(command, input=body, capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"it took longer than {seconds:g} s"
    except OSError as error:
        return error.strerror or type(error).__name__
    said = done.stderr.decode(errors="replace").strip()[-_MAX_SAID:]
    return f"it ended with {done.returncode}{': ' if said else ''}{redact(said)}" if done.returncode else ""
