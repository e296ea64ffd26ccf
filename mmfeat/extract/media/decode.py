"""One item's media, read once and rendered once in every way that is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from mmfeat.extract.failures import as_item_error, ran_out_of_memory
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.media import Frames, MediaBytes, MediaLimits
from mmfeat.schemas.spec import FeatureSpec, FrameSampling, PixelView


@dataclass(frozen=True)
class Rendering:
    """One way the pixels of a source are wanted: which frames, in which view."""

    source: str
    sampling: FrameSampling | None
    view: PixelView

    @classmethod
    def of(cls, spec: FeatureSpec) -> Rendering:
        """What ``spec`` wants of its media."""
        assert spec.image is not None, f"{spec.name} reads media and needs image preprocessing"
        return cls(spec.source, spec.frames, spec.image.view)


@dataclass(frozen=True)
class MediaRequest:
    """Where one item's media is and what is wanted of it.

    Attributes:
        source: ``cover`` or ``video``.
        location: as :func:`~mmfeat.extract.media.read.read_media` takes it.
        renderings: of that source.
    """

    source: str
    location: str
    renderings: tuple[Rendering, ...]


@dataclass(frozen=True)
class Decoded:
    """What became of a request.

    Attributes:
        content_hash, stamp: of the file; None where it could not be read.
        frames: per rendering, in order; empty where decoding failed.
        failure: why there are no frames.
    """

    content_hash: str | None = None
    stamp: str | None = None
    frames: tuple[Frames, ...] = ()
    failure: ItemError | None = None


def decode_media(
    request: MediaRequest, limits: MediaLimits, bounds: AbstractContextManager[None] | None = None
) -> Decoded:
    """Read and decode in the calling process; no error is raised, each becomes the item's failure.

    Args:
        bounds: entered for the decoding alone.
    """
    try:
        media = read(request, limits)
    except ItemError as error:
        return Decoded(failure=error)
    try:
        with bounds or nullcontext():
            frames = render(request, media.data, limits)
    except ItemError as error:
        return Decoded(media.content_hash, media.stamp, failure=error)
    return Decoded(media.content_hash, media.stamp, frames)


def read(request: MediaRequest, limits: MediaLimits) -> MediaBytes:
    """The file's bytes; ItemError of the stage ``read`` on any error."""
    from mmfeat.extract.media.read import read_media

    most = limits.image_bytes if request.source == "cover" else limits.clip_bytes
    try:
        return read_media(request.location, most, limits.fetch)
    except Exception as error:
        raise as_item_error(error, "read") from error


def render(request: MediaRequest, data: bytes, limits: MediaLimits) -> tuple[Frames, ...]:
    """The frames of every rendering, in order; ItemError of the stage ``decode`` on any error."""
    frames: dict[Rendering, Frames] = {}
    try:
        for sampling in dict.fromkeys(r.sampling for r in request.renderings):
            alike = [r for r in request.renderings if r.sampling == sampling]
            rendered = _rendered(data, sampling, [r.view for r in alike], limits)
            frames.update(zip(alike, rendered, strict=True))
    except Exception as error:
        if ran_out_of_memory(error):
            most = f"{limits.item_memory / 2**20:,.0f} MB"
            reason = f"too large: out of memory while decoding (an item may use {most})"
            raise ItemError("decode", reason) from error
        raise as_item_error(error, "decode") from error
    return tuple(frames[rendering] for rendering in request.renderings)


def _rendered(
    data: bytes, sampling: FrameSampling | None, views: Sequence[PixelView], limits: MediaLimits
) -> list[Frames]:
    # Imported where they are used: a run of titles alone needs no decoder.
    from mmfeat.extract.media.image import render_image
    from mmfeat.extract.media.video import render_clip

    if sampling is None:
        return render_image(data, views, limits)
    return render_clip(data, sampling, views, limits)
