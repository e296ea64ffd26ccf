"""An encoder of pictures and texts together: the colours of the ones beside the words of the others."""

from collections.abc import Sequence
from zlib import crc32

import numpy as np

from mmfeat.extract.base import Ask, Encoder, Placement, Reads, Row
from mmfeat.schemas.inputs import ImagePrepare, PixelView
from mmfeat.schemas.media import Frames
from mmfeat.schemas.outputs import VectorOut
from mmfeat.schemas.spec import FeatureSpec, ModelCard, Weights

COLOURS, WORDS = 3, 32
VIEW = PixelView(mode="squash", height=32, width=32)


class JointItem(Encoder):
    """The mean colour of all pictures that are read, then how often the words of all texts occur, by hash."""

    reads = (Reads(("text", "image"), together=True),)
    example = ModelCard(
        method="joint", model="colours-and-words", reads=("text", "image"), dims=COLOURS + WORDS,
        licence="MIT", weights_from="none",
    )  # fmt: skip

    @classmethod
    def resolve(cls, ask: Ask) -> FeatureSpec:
        view = ImagePrepare(view=VIEW)
        return ask.spec(
            inputs=tuple(one.prepared(view if one.modality == "image" else None) for one in ask.inputs),
            output=VectorOut(dims=COLOURS + WORDS),
            model="colours-and-words",
            weights=Weights(origin="package", ref="joint_item"),
        )

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        self.spec = spec

    def run(self, rows: Sequence[Row]) -> np.ndarray:
        return np.stack([self._vector(row) for row in rows])

    def _vector(self, row: Row) -> np.ndarray:
        """A row has one value per input of the spec, in order; None if the item lacks an optional one."""
        vector = np.zeros(COLOURS + WORDS, np.float32)
        for value in row:
            if isinstance(value, Frames):
                vector[:COLOURS] += value.pixels.mean(axis=(0, 1, 2)) / 255
            elif value is not None:
                for word in value.lower().split():
                    vector[COLOURS + crc32(word.encode()) % WORDS] += 1
        return vector
