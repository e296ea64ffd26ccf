"""One item's file, read once and decoded once in every way that is wanted."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mmfeat.extract import modalities
from mmfeat.extract.failures import as_item_error, ran_out_of_memory
from mmfeat.extract.modalities.decoders.resize import TorchNeeded, torch_pays
from mmfeat.extract.modalities.video import ClipDecoding
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.inputs import AudioPrepare, FrameSampling, Input, PixelView
from mmfeat.schemas.media import MediaBytes, MediaLimits


@dataclass(frozen=True)
class Wanted:
    """One way a file is wanted.

    Attributes:
        modality: as which it is read: a clip's file also as ``audio``.
        decoding: what of the preparation decides the decoded value.
    """

    modality: str
    decoding: Hashable

    @classmethod
    def of(cls, read: Input) -> Wanted:
        """What an input wants of its file."""
        assert read.prepare is not None, f"{read.source} is read from files and needs a preparation"
        return cls(read.modality, modalities.media(read.modality).decoding(read.prepare))


@dataclass(frozen=True)
class Changed:
    """Asked of a file in the place of a decoding: whether its values are others than by an earlier rule.

    The value is a bool ``[1]`` array.
    """

    since: int


def packed(wanted: Wanted, value: Any) -> modalities.Packed:
    """A value as it travels between processes."""
    if isinstance(wanted.decoding, Changed):
        return modalities.Packed({}, value)
    return modalities.media(wanted.modality).pack(value)


def unpacked(wanted: Wanted, packed: modalities.Packed) -> Any:
    """The value that :func:`packed` was given."""
    if isinstance(wanted.decoding, Changed):
        return packed.data
    return modalities.media(wanted.modality).unpack(packed)


def picture_of(view: PixelView) -> Wanted:
    """A picture in a view."""
    return Wanted("image", view)


def clip_of(sampling: FrameSampling, view: PixelView) -> Wanted:
    """Frames of a clip in a view."""
    return Wanted("video", ClipDecoding(sampling, view))


def sound_of(prepare: AudioPrepare) -> Wanted:
    """Windows of a sound, or of a clip's own."""
    return Wanted("audio", prepare)


@dataclass(frozen=True)
class MediaRequest:
    """Where one file is and what is wanted of it.

    Attributes:
        location: as :func:`~mmfeat.extract.media.read.read_media` takes it.
        wanted: in any number of ways.
    """

    location: str
    wanted: tuple[Wanted, ...]


@dataclass(frozen=True)
class Decoded:
    """What became of a request.

    Attributes:
        content_hash, stamp: of the file; None if it could not be read.
        values: per way that is wanted, in order; None if the file has no such thing, and an ItemError
            where that failed by itself (a clip whose sound is damaged). Empty if all failed alike.
        failure: why there are no values.
        seconds: that reading and decoding took. Not part of equality.
    """

    content_hash: str | None = None
    stamp: str | None = None
    values: tuple[Any, ...] = ()
    failure: ItemError | None = None
    seconds: float = field(default=0.0, compare=False)


def decode_media(
    request: MediaRequest,
    limits: MediaLimits,
    bounds: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Decoded:
    """Read and decode in the calling process; no error is raised, each becomes the item's failure.

    Args:
        bounds: makes what is entered for the decoding alone.
    """
    began = time.perf_counter()
    if torch_pays():
        import torch  # noqa: F401
    decoded = _decoded_media(request, limits, bounds)
    return replace(decoded, seconds=time.perf_counter() - began)


def _decoded_media(
    request: MediaRequest, limits: MediaLimits, bounds: Callable[[], AbstractContextManager[None]]
) -> Decoded:
    try:
        media = read(request, limits)
    except ItemError as error:
        return Decoded(failure=error)
    try:
        values = _within(bounds, request, media.data, limits)
    except ItemError as error:
        return Decoded(media.content_hash, media.stamp, failure=error)
    return Decoded(media.content_hash, media.stamp, values)


def _within(
    bounds: Callable[[], AbstractContextManager[None]],
    request: MediaRequest,
    data: bytes,
    limits: MediaLimits,
) -> tuple[Any, ...]:
    """See :func:`render`. Torch, if it is needed, is imported outside the bounds."""
    try:
        with bounds():
            return render(request, data, limits)
    except TorchNeeded:
        import torch  # noqa: F401

        with bounds():
            return render(request, data, limits)


def read(request: MediaRequest, limits: MediaLimits) -> MediaBytes:
    """The file's bytes; ItemError of the stage ``read`` on any error."""
    from mmfeat.extract.media.read import read_media

    most = max(modalities.media(one.modality).max_bytes(limits) for one in request.wanted)
    try:
        return read_media(request.location, most, limits.fetch)
    except Exception as error:
        raise as_item_error(error, "read") from error


def render(request: MediaRequest, data: bytes, limits: MediaLimits) -> tuple[Any, ...]:
    """The values of everything that is wanted, in order, or what is wrong with those of one modality.

    Raises:
        ItemError: of the stage ``decode``, if nothing could be decoded, all for one reason.
    """
    values: dict[Wanted, Any] = {}
    for name in dict.fromkeys(one.modality for one in request.wanted):
        alike = [one for one in dict.fromkeys(request.wanted) if one.modality == name]
        values.update(zip(alike, _decoded(name, alike, data, limits), strict=True))
    errors = [value for value in values.values() if isinstance(value, ItemError)]
    if len(errors) == len(values) and len({(error.stage, error.reason) for error in errors}) == 1:
        raise errors[0]
    return tuple(values[one] for one in request.wanted)


def _decoded(name: str, wanted: Sequence[Wanted], data: bytes, limits: MediaLimits) -> list[Any]:
    """The values of one modality, or for each of them the ItemError that it came to."""
    modality = modalities.media(name)
    try:
        asked = [one.decoding.since for one in wanted if isinstance(one.decoding, Changed)]
        if asked:
            return [np.array([modality.changed(data, since)]) for since in asked]
        return modality.decode(data, [one.decoding for one in wanted], limits)
    except Exception as error:
        if ran_out_of_memory(error):
            most = f"{limits.item_memory / 2**20:,.0f} MB"
            reason = f"too large: out of memory while decoding (an item may use {most})"
            failure = ItemError("decode", reason)
        else:
            failure = as_item_error(error, "decode")
        return [failure] * len(wanted)
