"""The interfaces of encoders and captioners, free of Ray."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from mmfeat.schemas.media import Frames
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec, ModelCard


class Model(ABC):
    """A spec's weights on one device. Subclasses register in ``extract/registry.py``.

    ``resolve`` and ``card`` never load weights; they may read configuration files and may import
    the model's library.
    """

    #: Rows handed to the model at a time unless the job says otherwise. Never changes values.
    batch_size: ClassVar[int] = 32
    #: The card of a well-known model of this method, for listings.
    example: ClassVar[ModelCard]

    @classmethod
    @abstractmethod
    def resolve(cls, name: str, config: FeatureConfig, upstream: FeatureSpec | None) -> FeatureSpec:
        """The full spec of feature ``name``.

        Args:
            upstream: the spec of the feature that ``config.source`` names, None for item sources.

        Raises:
            ConfigError: an option this method lacks, a source it cannot read, or weights that are
                not there; the message names the feature and says what to write instead.
        """

    @classmethod
    @abstractmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """What the model is: input size, dims, licence, where weights come from."""

    @abstractmethod
    def __init__(self, spec: FeatureSpec, device: str) -> None:
        """Load the weights; check their digest where the spec has one (ConfigError if it differs)."""


class Encoder(Model):
    """Pixels or texts to vectors: ``[n, dims]``, or ``[n, vectors, dims]`` where the spec has ``vectors``."""

    spec: FeatureSpec

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 ``[n, height, width, 3]`` RGB in the spec's view to float32 vectors."""
        raise NotImplementedError(f"{self.spec.method} has no image tower")

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """``n`` texts to float32 vectors, in the given order whatever the batching inside."""
        raise NotImplementedError(f"{self.spec.method} has no text tower")

    def encode_clips(self, clips: Sequence[Frames]) -> np.ndarray:
        """``n`` clips to float32 vectors: the mean over time of the frame vectors, one by one where
        there are several per frame.

        Each frame is encoded, and normalised where the spec says so, as an image is; the mean is
        normalised again where the spec says so, as CLIP4Clip's parameter-free mean pooling does
        (arXiv 2104.08860).
        """
        counts = [len(clip.pixels) for clip in clips]
        flat = self.encode_images(np.concatenate([clip.pixels for clip in clips]))
        ends = np.cumsum(counts)
        means = np.stack([flat[e - n : e].mean(axis=0) for e, n in zip(ends, counts, strict=True)])
        if self.spec.normalize:
            means /= np.linalg.norm(means, axis=-1, keepdims=True)
        return means


@dataclass(frozen=True)
class CaptionInput:
    """What one item's caption is made from: frames (one for an image) and the item's texts."""

    frames: Frames
    texts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Caption:
    """One generated text.

    Attributes:
        text: what the model said, stripped.
        finish_reason: ``stop`` (the model ended it) or ``length`` (cut at the token cap).
        prompt_tokens, new_tokens: token counts, without padding.
    """

    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int = 0
    new_tokens: int = 0

    def facts(self) -> dict[str, Any]:
        """What is stored beside the text."""
        return {
            "finish_reason": self.finish_reason,
            "prompt_tokens": self.prompt_tokens,
            "new_tokens": self.new_tokens,
        }


class Captioner(Model):
    """Pixels to text."""

    spec: FeatureSpec

    @abstractmethod
    def caption(self, inputs: Sequence[CaptionInput]) -> list[Caption]:
        """One caption per input, in order; the same text whatever the batch it ran in."""
