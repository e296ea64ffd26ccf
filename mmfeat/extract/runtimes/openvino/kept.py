"""Networks converted to OpenVINO, kept on disk: each is converted once on a node.

They lie in ``$XDG_CACHE_HOME/mmfeat/models`` (:mod:`mmfeat.extract.localcache`), and processes map the
same file. What was not used for :data:`KEPT_FOR_DAYS` goes when something new is kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmfeat.extract.localcache import is_ours, place_of
from mmfeat.extract.runtimes.openvino.conversion import NotConverted, Original, convert, reason_of, refusal
from mmfeat.extract.runtimes.openvino.network import PRECISIONS, OpenVino, openvino
from mmfeat.extract.weights import file_digest, identity
from mmfeat.schemas.inputs import TextPrepare
from mmfeat.schemas.spec import ComputeDtype, FeatureSpec

#: Other versions of a library or of mmfeat have networks of their own, and leave the old ones behind.
KEPT_FOR_DAYS = 60

# What an entry's files look like, and what was checked of them; raised when that changes.
_FORMAT = 3
_RECORD, _GRAPH, _VALUES = "entry.json", "model.xml", "model.bin"
# What of a spec decides its network. Vectors get their length and their mean over time behind it.
_DECIDING = ("method", "model", "vectors", "dims", "method_version")
_DECIDING_OPTIONS = ("pooling", "layer")


def find(spec: FeatureSpec, original: Original | None, threads: int | None) -> OpenVino | None:
    """The converted network of a spec: the one that is kept, or else a new one.

    Processes that want the same one at the same time wait for the first to have converted it. Where the
    cache cannot be used each converts its own, and a note says so.

    Args:
        original: the network in torch, to convert it; None to convert nothing.

    Returns:
        None if none is kept and none was to be made.

    Raises:
        NotConverted: it cannot be converted, or gives other values than torch does.
        ConfigError: the weights cannot be loaded.
    """
    place, dtype = _place(spec), spec.compute_dtype
    entry = _read(place)
    if original is not None and not _decided(entry, dtype):
        with _turn(place):
            entry = _read(place)
            if not _decided(entry, dtype):
                entry = _made(place, entry, spec, original, threads)
    if entry is None or not _decided(entry, dtype):
        return None
    if (refused := entry.refused[dtype]) is not None:
        raise NotConverted(refused)
    try:
        return OpenVino(entry.graph, dtype, threads, entry.reading, entry.notes)
    except RuntimeError as error:
        raise NotConverted(f"its converted network cannot be loaded: {reason_of(error)}") from error


@dataclass(frozen=True)
class _Entry:
    """A network of the cache.

    Attributes:
        graph: a path, or what could not be kept; None if no dtype has one.
        reading: see :class:`~mmfeat.extract.runtimes.openvino.conversion.Original`.
        refused: for the dtypes that were tried: why it is not used, or None.
    """

    graph: Any = None
    reading: dict[str, Any] = field(default_factory=dict)
    refused: Mapping[ComputeDtype, str | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def _decided(entry: _Entry | None, dtype: ComputeDtype) -> bool:
    return entry is not None and dtype in entry.refused


def _place(spec: FeatureSpec) -> Path:
    """The folder of the networks that are this spec's."""
    image, prepare = spec.pixels, spec.given[0].prepare
    text = prepare if isinstance(prepare, TextPrepare) else None
    facts = {
        "format": _FORMAT,
        "network": {name: getattr(spec, name) for name in _DECIDING}
        | {name: spec.options.get(name) for name in _DECIDING_OPTIONS},
        "weights": identity(spec.weights),
        "pixels": image and (image.view.height, image.view.width, image.mean, image.std),
        "texts": text and text.model_dump(mode="json", exclude={"kind"}),
    }
    return place_of("models", facts)


def _read(place: Path) -> _Entry | None:
    """What is kept; None if nothing is, or it is damaged or could have been written by somebody else.

    The digests are there to tell a damaged file; against people there is the folder's owner.
    """
    try:
        if not is_ours(place):
            return None
        record = json.loads((place / _RECORD).read_text(encoding="utf-8"))
        digests: dict[str, str] = record["digests"]
        if digests != {name: file_digest(place / name) for name in digests}:
            return None
        graph = str(place / _GRAPH) if digests else None
        entry = _Entry(graph, record["reading"], record["refused"])
    except (OSError, ValueError, KeyError):
        return None
    with contextlib.suppress(OSError):
        os.utime(place / _RECORD)
    return entry


@contextmanager
def _turn(place: Path) -> Iterator[None]:
    """One process at a time; where no lock can be had, nobody waits."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = held.enter_context(place.with_suffix(".lock").open("w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _made(
    place: Path, entry: _Entry | None, spec: FeatureSpec, original: Original, threads: int | None
) -> _Entry:
    """A network with a verdict on a spec's dtype, kept if that can be.

    Args:
        entry: one that has no verdict on that dtype.
    """
    dtype = spec.compute_dtype
    try:
        made = entry or _converted(original, threads)
        if not _decided(made, dtype):
            original.tower(dtype)
            made = replace(
                made, refused={**made.refused, dtype: refusal(original, made.graph, dtype, threads)}
            )
    except MemoryError:
        # Next time there may be more of it.
        return _Entry(refused={dtype: "memory ran out while its network was converted"})
    try:
        return _keep(place, made)
    except (OSError, RuntimeError) as error:
        note = f"The converted network of {spec.name} could not be kept in {place.parent}: {reason_of(error)}"
        return replace(made, notes=(note,))


def _converted(original: Original, threads: int | None) -> _Entry:
    """A new network, with a verdict on float32; MemoryError where memory ran out."""
    try:
        # Weights that cannot be loaded are an error, and no refusal that would stay when they can be.
        original.tower("float32")
        return _Entry(*convert(original, threads), {"float32": None})
    except NotConverted as reason:
        return _Entry(refused={dtype: str(reason) for dtype in PRECISIONS})


def _keep(place: Path, made: _Entry) -> _Entry:
    """Write an entry, whole or not at all; it then reads its graph from there."""
    partial = place.with_name(f".{place.name}")
    # Of a process that was killed.
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    try:
        if made.graph is not None:
            _write_graph(made.graph, partial)
        digests = {path.name: file_digest(path) for path in partial.iterdir()}
        record = {"refused": made.refused, "reading": made.reading, "digests": digests}
        (partial / _RECORD).write_text(json.dumps(record), encoding="utf-8")
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(place)
        partial.rename(place)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _forget_unused(place.parent)
    return replace(made, graph=made.graph and str(place / _GRAPH))


def _write_graph(graph: Any, folder: Path) -> None:
    if not isinstance(graph, str):
        openvino().save_model(graph, str(folder / _GRAPH), compress_to_fp16=False)
        return
    for name in (_GRAPH, _VALUES):
        os.link(Path(graph).with_name(name), folder / name)


def _forget_unused(folder: Path) -> None:
    """Remove the entries that were not read for long."""
    oldest = time.time() - KEPT_FOR_DAYS * 24 * 3600
    for record in folder.glob(f"*/{_RECORD}"):
        with contextlib.suppress(OSError):
            if record.stat().st_mtime < oldest:
                shutil.rmtree(record.parent)
