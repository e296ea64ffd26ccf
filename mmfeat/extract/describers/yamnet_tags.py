"""A description of a sound without a language model: the AudioSet classes that YAMNet hears.

These are tags, not captions: the text says so, and so does the spec's role.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from mmfeat.extract.base import Ask, Caption, Captioner, Placement, Reads, Row
from mmfeat.extract.encoders.sounds import check_rate
from mmfeat.extract.encoders.yamnet import Yamnet, YamnetNetwork, class_names, yamnet_input, yamnet_weights
from mmfeat.extract.options import SoundOptions
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.outputs import TextOut
from mmfeat.schemas.spec import FeatureSpec, ModelCard

_DEFAULT_TOP_K = 5
# Below this a class is a guess. Part of what `method_version` 1 means.
_LEAST_SCORE = 0.1


class YamnetTagsOptions(SoundOptions):
    """How many classes at most, and which windows of a sound are heard.

    Attributes:
        top_k: most classes; 5 when None.
    """

    top_k: int | None = Field(default=None, gt=0)


class YamnetTags(Captioner):
    """``tags:`` and the classes of the highest mean score, e.g. ``tags: Music, Guitar, Plucked string``.

    At most ``top_k`` classes with a score of at least 10 %, the highest first; the best one is always
    named. A sound without any is ``tags: Silence``.
    """

    Options: ClassVar[type[YamnetTagsOptions]] = YamnetTagsOptions
    reads: ClassVar[tuple[Reads, ...]] = Yamnet.reads
    batch_size: ClassVar[int] = 16
    example: ClassVar[ModelCard] = Yamnet.example.model_copy(
        update={
            "method": "yamnet_tags",
            "dims": None,
            "notes": f"AudioSet tags, not captions by a multimodal LLM. {Yamnet.example.notes}",
        }
    )

    @classmethod
    def resolve(cls, ask: Ask[YamnetTagsOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`."""
        return ask.spec(
            inputs=(yamnet_input(ask),),
            output=TextOut(role="tags"),
            model=cls.example.model,
            weights=yamnet_weights(ask),
            options={"top_k": ask.options.top_k or _DEFAULT_TOP_K},
        )

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Load the weights; ConfigError where the package's file is not the one we know."""
        self.spec = spec
        self.network = YamnetNetwork(place.threads)
        self._names = class_names()
        self.runtime = self.network.runtime

    def caption(self, rows: Sequence[Row]) -> list[Caption | ItemError]:
        """One text per row, in order."""
        check_rate([sound for (sound,) in rows], self.spec)
        captions: list[Caption | ItemError] = []
        for (sound,) in rows:
            began = time.perf_counter()
            _, scores = self.network(sound)
            captions.append(Caption(self.text(scores), "stop", seconds=time.perf_counter() - began))
        return captions

    def text(self, scores: np.ndarray) -> str:
        """The best classes by their scores, float32 ``[classes]``, as one text."""
        best = np.argsort(-scores, kind="stable")[: self.spec.options["top_k"]]
        named = [i for rank, i in enumerate(best) if rank == 0 or scores[i] >= _LEAST_SCORE]
        # What comes after a comma is left out of a name, so two classes may have one.
        return "tags: " + ", ".join(dict.fromkeys(self._names[i] for i in named))
