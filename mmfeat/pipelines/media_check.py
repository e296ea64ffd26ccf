"""Opens a dataset's media before anything is computed: which of them cannot be decoded, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import pyarrow as pa

from mmfeat.datasets import Dataset
from mmfeat.extract.fence.decode import MediaRequest, Wanted, clip_of, picture_of
from mmfeat.extract.fence.process import decode_fenced_all
from mmfeat.extract.media.read import stamp_of
from mmfeat.extract.media.remote import is_remote
from mmfeat.schemas.catalog import Column, columns_of
from mmfeat.schemas.errors import MissingExtra
from mmfeat.schemas.inputs import AudioPrepare, FrameSampling, PixelView
from mmfeat.schemas.media import MediaLimits

#: How many files of a column are opened where not all of them are.
SAMPLE = 50

_VIEW = PixelView(mode="bound", height=320, width=320)
_WANTED = {
    "image": picture_of(_VIEW),
    "video": clip_of(FrameSampling(mode="uniform", count=4), _VIEW),
    "audio": Wanted("audio", AudioPrepare(sample_rate=16_000, seconds=10, windows="uniform", count=3)),
}
_PACKAGES = ("av", "PIL", "simplejpeg")


@dataclass(frozen=True)
class Broken:
    """A file that cannot be decoded.

    Attributes:
        item: id of its item.
        location: where it is.
        reason: why, with the stage: ``read`` or ``decode``.
    """

    item: str
    location: str
    reason: str


@dataclass(frozen=True)
class Opened:
    """What came of the files of one column.

    Attributes:
        column: its name.
        files: how many it has; a file that is not there, and without ``deep`` a URL, is not among them.
        opened: how many of these were decoded, in full or in part.
        broken: those that could not be.
    """

    column: str
    files: int
    opened: int
    broken: list[Broken]


def can_open_media() -> bool:
    """Whether the packages that decode media are installed."""
    return all(find_spec(package) is not None for package in _PACKAGES)


def open_media(dataset: Dataset, deep: bool = False, limits: MediaLimits = MediaLimits()) -> list[Opened]:  # noqa: B008
    """Decode files of each column of media as a run would, in a process that they may crash.

    Args:
        deep: all files, those behind URLs as well; else up to ``SAMPLE`` of a column, from all over it.

    Raises:
        MissingExtra: the packages that decode are not installed.
    """
    if not can_open_media():
        raise MissingExtra("Opening media", "extract", next(p for p in _PACKAGES if find_spec(p) is None))
    columns = [column for column in columns_of(dataset.items.schema).values() if column.is_media]
    allowed = limits.with_buckets([dataset.root])
    return [found for column in columns if (found := _open(dataset.items, column, deep, allowed)).files]


def _open(items: pa.Table, column: Column, deep: bool, limits: MediaLimits) -> Opened:
    files = [
        (item_id, place)
        for item_id, cell in zip(items["item_id"].to_pylist(), items[column.name].to_pylist(), strict=True)
        for place in ([cell] if isinstance(cell, str) else cell or ())
        if (deep if is_remote(place) else stamp_of(place) is not None)
    ]
    chosen = files if deep else _spread(files)
    requests = (MediaRequest(place, (_WANTED[column.modality],)) for _, place in chosen)
    decoded = decode_fenced_all(requests, limits)
    broken = [
        Broken(item_id, place, str(result.failure))
        for (item_id, place), result in zip(chosen, decoded, strict=True)
        if result.failure is not None
    ]
    return Opened(column.name, len(files), len(chosen), broken)


def _spread(files: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Up to ``SAMPLE`` of the files, evenly from the first to the last."""
    if len(files) <= SAMPLE:
        return list(files)
    return [files[n * (len(files) - 1) // (SAMPLE - 1)] for n in range(SAMPLE)]
