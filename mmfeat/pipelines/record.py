"""The record that everything which writes features leaves in the store, however it ends."""

from __future__ import annotations

import getpass
import platform
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mmfeat.store import Store

_RECORDED_PACKAGES = (
    "mmfeat", "torch", "torchvision", "open-clip-torch", "transformers", "timm", "sentence-transformers",
    "faiss-cpu", "vector-quantize-pytorch",
    "ray", "av", "pillow", "lancedb", "pylance", "pyarrow", "numpy",
)  # fmt: skip


@contextmanager
def recorded(
    store: Store, run_id: str, began: datetime, dataset: dict[str, Any], versions: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Record a run over ``versions``; what the block puts into the dict it gets is the report."""
    outcome: dict[str, Any] = {}
    end = "completed"
    try:
        yield outcome
    except KeyboardInterrupt:
        end = "interrupted"
        raise
    except BaseException as error:
        end = f"{type(error).__name__}: {error}"
        raise
    finally:
        store.record_run(
            {
                "run_id": run_id,
                "began": began.isoformat(),
                "seconds": round((datetime.now(UTC) - began).total_seconds(), 3),
                "end": end,
                "by": f"{_user()}@{socket.gethostname()}",
                "machine": platform.platform(),
                "packages": _packages(),
                "dataset": dataset,
                "versions": list(versions),
                "report": outcome or None,
            }
        )


def _packages() -> dict[str, str]:
    found = {}
    for name in _RECORDED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a user id without a name.
        return "unknown"
