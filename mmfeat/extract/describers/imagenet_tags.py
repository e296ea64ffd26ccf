"""A description without a language model: the ImageNet labels that a CNN sees.

These are tags, not captions: the text says so, and so does the spec's ``text_kind``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from mmfeat.extract.base import ANY_WORK, Caption, Captioner, CaptionInput, Work
from mmfeat.extract.encoders.efficientnet_lite import EfficientNetLite
from mmfeat.extract.options import check_options, check_source, frame_sampling
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec, ModelCard

_DEFAULT_TOP_K = 5
# Below this a label is a guess. Part of what `method_version` 1 means.
_LEAST_PROBABILITY = 0.02


class ImageNetTags(Captioner):
    """``tags:`` and the most probable ImageNet labels, e.g. ``tags: espresso, cup, coffee mug``.

    At most ``top_k`` labels of at least 2 % probability, the most probable first; the best label is
    always named. For clips the probabilities are averaged over the frames.
    """

    batch_size: ClassVar[int] = 32
    weighs_work: ClassVar[bool] = True
    example: ClassVar[ModelCard] = EfficientNetLite.example.model_copy(
        update={
            "method": "imagenet_tags",
            "dims": None,
            "notes": f"ImageNet tags, not captions by a multimodal LLM. {EfficientNetLite.example.notes}",
        }
    )

    @classmethod
    def resolve(cls, name: str, config: FeatureConfig, upstream: FeatureSpec | None) -> FeatureSpec:
        """See :meth:`Model.resolve`. Reads ``cover`` or ``video``."""
        check_source(name, config, upstream)
        check_options(name, config, ("jpeg", "top_k"))
        cnn = EfficientNetLite.resolve(
            name, FeatureConfig(source="cover", encoder="efficientnet_lite", jpeg=config.jpeg), None
        )
        return FeatureSpec(
            name=name,
            source=config.source,
            output="text",
            method="imagenet_tags",
            model=cnn.model,
            weights=cnn.weights,
            image=cnn.image,
            frames=frame_sampling(name, config),
            time_pooling="mean" if config.source == "video" else None,
            text_kind="tags",
            top_k=config.top_k or _DEFAULT_TOP_K,
        )

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Model.card`."""
        return cls.example

    def __init__(self, spec: FeatureSpec, device: str, work: Work = ANY_WORK) -> None:
        self.spec = spec
        self._cnn = EfficientNetLite(spec, device, work)
        self.runtime, self.notes = self._cnn.runtime, self._cnn.notes

    def caption(self, inputs: Sequence[CaptionInput]) -> list[Caption | ItemError]:
        """One text per input, in order.

        Raises:
            ItemError: an item without pixels.
        """
        if not inputs:
            return []
        began = time.perf_counter()
        counts = [len(item.frames.pixels) for item in inputs]
        if not all(counts):
            raise ItemError("caption", "no frame to describe")
        flat = self._cnn.classify(np.concatenate([item.frames.pixels for item in inputs]))
        starts = np.cumsum([0, *counts[:-1]])
        means = np.add.reduceat(flat, starts, axis=0) / np.array(counts)[:, None]
        share = (time.perf_counter() - began) / len(inputs)
        return [Caption(self._text(row), "stop", seconds=share) for row in means]

    def _text(self, probabilities: np.ndarray) -> str:
        best = np.argsort(-probabilities, kind="stable")[: self.spec.top_k or _DEFAULT_TOP_K]
        named = [i for rank, i in enumerate(best) if rank == 0 or probabilities[i] >= _LEAST_PROBABILITY]
        return "tags: " + ", ".join(self._cnn.labels[i] for i in named)
