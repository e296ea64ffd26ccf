"""Clips: frames that are chosen by a sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmfeat.extract.modalities.base import Cost
from mmfeat.extract.modalities.pixels import PixelModality
from mmfeat.schemas.inputs import FrameSampling, PixelView, Prepare, VideoPrepare
from mmfeat.schemas.media import Frames, MediaLimits

# Decoding a clip takes about as long as all there is to do for so many covers.
_CLIP_COVERS = 16


@dataclass(frozen=True)
class ClipDecoding:
    """Which frames of a clip, in which view."""

    sampling: FrameSampling
    view: PixelView


class VideoModality(PixelModality):
    """A decoding is a sampling and a view."""

    name = "video"

    def max_bytes(self, limits: MediaLimits) -> int:
        """See :meth:`MediaModality.max_bytes`."""
        return limits.clip_bytes

    def decoding(self, prepare: VideoPrepare) -> ClipDecoding:
        """See :meth:`MediaModality.decoding`."""
        return ClipDecoding(prepare.sampling, prepare.view)

    def decode(self, data: bytes, wanted: Sequence[ClipDecoding], limits: MediaLimits) -> list[Frames]:
        """See :meth:`MediaModality.decode`. Decodings of one sampling share one pass over the clip."""
        from mmfeat.extract.modalities.decoders.video import render_clip

        found: dict[ClipDecoding, Frames] = {}
        for sampling in dict.fromkeys(one.sampling for one in wanted):
            alike = [one for one in wanted if one.sampling == sampling]
            frames = render_clip(data, sampling, [one.view for one in alike], limits)
            found.update(zip(alike, frames, strict=True))
        return [found[one] for one in wanted]

    def cost(self, prepare: Prepare | None) -> Cost:
        """See :meth:`Modality.cost`."""
        if not isinstance(prepare, VideoPrepare):
            return Cost(covers=_CLIP_COVERS)
        frames = prepare.sampling.most
        return Cost(3 * prepare.view.height * prepare.view.width * frames, frames, _CLIP_COVERS)


VIDEO = VideoModality()
