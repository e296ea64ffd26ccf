"""What pictures and clips share: their values are :class:`~mmfeat.schemas.media.Frames`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mmfeat.extract.modalities.base import MediaModality, Packed
from mmfeat.schemas.media import Frames, Scene


class PixelModality(MediaModality):
    """Values are frames: uint8 ``[frames, height, width, 3]`` with their times."""

    def pack(self, value: Frames) -> Packed:
        """See :meth:`MediaModality.pack`."""
        scenes = [asdict(scene) for scene in value.scenes]
        return Packed({"times": list(value.times), "scenes": scenes, "cut": value.cut}, value.pixels)

    def unpack(self, packed: Packed) -> Any:
        """See :meth:`MediaModality.unpack`."""
        scenes = tuple(Scene(**scene) for scene in packed.facts["scenes"])
        return Frames(packed.data, tuple(packed.facts["times"]), scenes, packed.facts["cut"])
