"""Clips: frames that are chosen by a sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmfeat.extract.modalities.base import Cost
from mmfeat.extract.modalities.pixels import PixelModality
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.inputs import ClipReader, FrameSampling, PixelView, Prepare, VideoPrepare
from mmfeat.schemas.media import Frames, MediaLimits

# Decoding a clip takes about as long as all there is to do for so many covers.
_CLIP_COVERS = 16


@dataclass(frozen=True)
class ClipDecoding:
    """Which frames of a clip, in which view, whether of one that is cut short too, and by which reader."""

    sampling: FrameSampling
    view: PixelView
    accept_cut: bool = False
    reader: ClipReader | None = None

    @property
    def frames(self) -> tuple[FrameSampling, bool, ClipReader | None]:
        """All that decides which pictures there are, in whichever view."""
        return self.sampling, self.accept_cut, self.reader


class VideoModality(PixelModality):
    """A decoding is a sampling and a view.

    Rule 2 shows frames as players do (mirrored, in their true proportions, on white, tone-mapped), takes the
    default track, and reads AVI with B-frames, joined MPEG, sizes that change, Ogg, GIF and APNG.
    """

    name = "video"
    rule = 2

    def max_bytes(self, limits: MediaLimits) -> int:
        """See :meth:`MediaModality.max_bytes`."""
        return limits.clip_bytes

    def decoding(self, prepare: VideoPrepare) -> ClipDecoding:
        """See :meth:`MediaModality.decoding`."""
        return ClipDecoding(prepare.sampling, prepare.view, prepare.cut == "accept", prepare.reader)

    def decode(
        self, data: bytes, wanted: Sequence[ClipDecoding], limits: MediaLimits
    ) -> list[Frames | ItemError]:
        """See :meth:`MediaModality.decode`. Decodings of one sampling share one pass over the clip."""
        found: dict[ClipDecoding, Frames | ItemError] = {}
        for frames in dict.fromkeys(one.frames for one in wanted):
            alike = [one for one in wanted if one.frames == frames]
            found.update(zip(alike, _rendered(data, alike, limits), strict=True))
        return [found[one] for one in wanted]

    def changed(self, data: bytes, since: int) -> bool:
        """See :meth:`Modality.changed`."""
        from mmfeat.extract.modalities.decoders.video import read_anew

        return since < self.rule and read_anew(data)

    def cost(self, prepare: Prepare | None) -> Cost:
        """See :meth:`Modality.cost`."""
        if not isinstance(prepare, VideoPrepare):
            return Cost(covers=_CLIP_COVERS)
        frames = prepare.sampling.most
        return Cost(3 * prepare.view.height * prepare.view.width * frames, frames, _CLIP_COVERS)


def _rendered(
    data: bytes, alike: Sequence[ClipDecoding], limits: MediaLimits
) -> Sequence[Frames | ItemError]:
    """The frames of decodings that differ by their views alone, or what is wrong with the clip for them."""
    from mmfeat.extract.modalities.decoders.video import render_clip

    views = [one.view for one in alike]
    sampling, accept_cut, reader = alike[0].frames
    try:
        return render_clip(data, sampling, views, limits, accept_cut=accept_cut, reader=reader)
    except ItemError as error:
        return [error] * len(alike)


VIDEO = VideoModality()
