"""An encoder that reads a clip as a clip: where its light goes."""

from collections.abc import Sequence

import numpy as np

from mmfeat.extract.base import Ask, Encoder, Placement, Reads
from mmfeat.extract.options import FrameOptions, pixel_input
from mmfeat.schemas.inputs import PixelView
from mmfeat.schemas.media import Frames
from mmfeat.schemas.outputs import VectorOut
from mmfeat.schemas.spec import FeatureSpec, ModelCard, Weights

SIDE, MOMENTS = 32, 4


class MotionOptions(FrameOptions):
    """Which frames are taken: ``frames``, ``sampling``, ``fps``, ..."""


class Motion(Encoder):
    """The middle of the light, across and down, at a clip's start, and how far from there it is later."""

    Options = MotionOptions
    reads = (Reads(("video",)),)
    example = ModelCard(
        method="motion", model="light", reads=("video",), dims=2 * MOMENTS, input_size=(SIDE, SIDE),
        licence="MIT", weights_from="none",
    )  # fmt: skip

    @classmethod
    def resolve(cls, ask: Ask[MotionOptions]) -> FeatureSpec:
        return ask.spec(
            inputs=(pixel_input(ask, ask.only, PixelView(mode="squash", height=SIDE, width=SIDE)),),
            output=VectorOut(dims=2 * MOMENTS),
            model="light",
            weights=Weights(origin="package", ref="motion"),
        )

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        self.spec = spec

    def encode_clips(self, clips: Sequence[Frames]) -> np.ndarray:
        return np.stack([self._path(clip.pixels) for clip in clips])

    def _path(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 ``[frames, height, width, 3]`` to float32 ``[2 * MOMENTS]``, in halves of the picture."""
        light = pixels.mean(axis=3) + 1e-3
        places = np.linspace(-1, 1, SIDE)
        weights = light / light.sum(axis=(1, 2), keepdims=True)
        # [frames, 2]: how far right, how far down.
        middles = np.stack([weights.sum(axis=1) @ places, weights.sum(axis=2) @ places], axis=1)
        at = np.linspace(0, len(middles) - 1, MOMENTS).round().astype(int)
        path = middles[at]
        path[1:] -= path[0]
        return path.ravel().astype(np.float32)
