"""A description without a language model: the ImageNet labels that a CNN sees.

These are tags, not captions: the text says so, and so does the spec's role.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from mmfeat.extract.base import Ask, Caption, Captioner, Placement, Reads, Row
from mmfeat.extract.encoders.efficientnet_lite import EfficientNetLite, EfficientNetLiteOptions
from mmfeat.extract.options import FrameOptions
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.outputs import TextOut
from mmfeat.schemas.spec import FeatureSpec, ModelCard

_DEFAULT_TOP_K = 5
# Below this a label is a guess. Part of what `method_version` 1 means.
_LEAST_PROBABILITY = 0.02


class ImageNetTagsOptions(FrameOptions):
    """How many labels at most, and how pictures are decoded.

    Attributes:
        jpeg: ``exact``, or ``scaled``: libjpeg decodes large JPEGs at a reduced scale, never below twice the
            size needed; ``exact`` when None.
        top_k: most labels; 5 when None.
    """

    jpeg: Literal["exact", "scaled"] | None = None
    top_k: int | None = Field(default=None, gt=0)


class ImageNetTags(Captioner):
    """``tags:`` and the most probable ImageNet labels, e.g. ``tags: espresso, cup, coffee mug``.

    At most ``top_k`` labels of at least 2 % probability, the most probable first; the best label is
    always named. For clips the probabilities are averaged over the frames.
    """

    Options: ClassVar[type[ImageNetTagsOptions]] = ImageNetTagsOptions
    reads: ClassVar[tuple[Reads, ...]] = EfficientNetLite.reads
    batch_size: ClassVar[int] = 32
    example: ClassVar[ModelCard] = EfficientNetLite.example.model_copy(
        update={
            "method": "imagenet_tags",
            "dims": None,
            "notes": f"ImageNet tags, not captions by a multimodal LLM. {EfficientNetLite.example.notes}",
        }
    )

    @classmethod
    def resolve(cls, ask: Ask[ImageNetTagsOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`."""
        frames = ask.options.model_dump(include=set(FrameOptions.model_fields))
        options = EfficientNetLiteOptions(jpeg=ask.options.jpeg, **frames)
        cnn = EfficientNetLite.resolve(
            Ask(ask.name, ask.kind, ask.method, ask.inputs, ask.named, options=options)
        )
        is_clip = ask.only.modality == "video"
        return ask.spec(
            inputs=cnn.inputs,
            output=TextOut(role="tags"),
            model=cnn.model,
            weights=cnn.weights,
            options={
                "time_pooling": "mean" if is_clip else None,
                "top_k": ask.options.top_k or _DEFAULT_TOP_K,
            },
        )

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        self.spec = spec
        self.cnn = EfficientNetLite(spec, place)
        self.runtime, self.notes = self.cnn.runtime, self.cnn.notes

    def caption(self, rows: Sequence[Row]) -> list[Caption | ItemError]:
        """One text per row, in order.

        Raises:
            ItemError: an item without pixels.
        """
        if not rows:
            return []
        clips = [frames for (frames,) in rows]
        began = time.perf_counter()
        counts = [len(clip.pixels) for clip in clips]
        if not all(counts):
            raise ItemError("caption", "no frame to describe")
        flat = self.cnn.classify(np.concatenate([clip.pixels for clip in clips]))
        starts = np.cumsum([0, *counts[:-1]])
        means = np.add.reduceat(flat, starts, axis=0) / np.array(counts)[:, None]
        share = (time.perf_counter() - began) / len(rows)
        return [Caption(self._text(row), "stop", seconds=share) for row in means]

    def _text(self, probabilities: np.ndarray) -> str:
        best = np.argsort(-probabilities, kind="stable")[: self.spec.options["top_k"]]
        named = [i for rank, i in enumerate(best) if rank == 0 or probabilities[i] >= _LEAST_PROBABILITY]
        return "tags: " + ", ".join(self.cnn.labels[i] for i in named)
