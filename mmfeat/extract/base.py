"""The interfaces of encoders and captioners, free of Ray."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.media import Frames
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec, ModelCard


@dataclass(frozen=True)
class Work:
    """What a model is loaded for.

    Attributes:
        threads: compute threads that it may use; None for as many as its library takes.
        expected: items that it will be given; None where nobody can say.
    """

    threads: int | None = None
    expected: int | None = None


ANY_WORK = Work()


class Model(ABC):
    """A spec's weights on one device. Subclasses register in ``extract/registry.py``.

    ``resolve`` and ``card`` never load weights; they may read configuration files and may import
    the model's library.
    """

    #: Rows handed to the model at a time unless the job says otherwise; of pictures a CPU's core gets no
    #: more than it gains by (:mod:`mmfeat.pipelines.execution.calls`). Never changes values.
    batch_size: ClassVar[int] = 32
    #: The card of a well-known model of this method, for listings.
    example: ClassVar[ModelCard]
    #: Whether it asks a server instead of loading weights. Such a class takes a third argument, a
    #: :class:`~mmfeat.schemas.server.Sending`, and all of them in a run share one process.
    asks_server: ClassVar[bool] = False
    #: Whether its third argument is the :class:`Work` it is loaded for, by which it chooses its runtime.
    #: A class without it finds torch's threads set.
    weighs_work: ClassVar[bool] = False
    #: What computes the values, with its version: ``torch 2.14.1``, ``openvino 2026.4.1``. None where it
    #: is not known.
    runtime: str | None = None
    #: What a person should know of how it was loaded, in sentences.
    notes: tuple[str, ...] = ()

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
    """What one item's caption is made from: frames (one for an image) and the item's texts.

    ``texts`` holds the sources that ``spec.texts`` names, none of them blank: an item that lacks one is
    ``missing`` and never gets here.
    """

    frames: Frames
    texts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Usage:
    """What was asked of a model: questions, and their tokens without padding."""

    requests: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.new_tokens + other.new_tokens,
        )


@dataclass(frozen=True)
class SceneCaption:
    """What the model said of one scene of a clip: from ``start`` to ``end``, in seconds."""

    start: float
    end: float
    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    new_tokens: int


@dataclass(frozen=True)
class Caption:
    """One generated text.

    Attributes:
        text: what the model said, stripped; canonical JSON where the prompt has a schema.
        finish_reason: ``stop`` (the model ended it) or ``length`` (cut at the token cap).
        prompt_tokens, new_tokens: token counts, without padding, of every question asked for this text.
        seconds: that the model worked for it: of a batch, its share. Not part of equality.
        retries: questions asked again because the answer did not fit the prompt's schema.
        scenes: what the text is a summary of, for a clip that is described scene by scene.
    """

    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: float = field(default=0.0, compare=False)
    retries: int = 0
    scenes: tuple[SceneCaption, ...] = ()

    @property
    def usage(self) -> Usage:
        """What it took to make: every question that was asked for it."""
        return Usage(1 + len(self.scenes) + self.retries, self.prompt_tokens, self.new_tokens)

    def facts(self) -> dict[str, Any]:
        """What is stored beside the text."""
        facts: dict[str, Any] = {
            "finish_reason": self.finish_reason,
            "prompt_tokens": self.prompt_tokens,
            "new_tokens": self.new_tokens,
            "seconds": round(self.seconds, 4),
        }
        if self.retries:
            facts["retries"] = self.retries
        if self.scenes:
            facts["scenes"] = [asdict(scene) for scene in self.scenes]
        return facts


class Captioner(Model):
    """Pixels to text."""

    spec: FeatureSpec

    def sent(self) -> Usage | None:
        """What was asked of a server since the last call; None where the model is in this process."""
        return None

    @abstractmethod
    def caption(self, inputs: Sequence[CaptionInput]) -> list[Caption | ItemError]:
        """One outcome per input, in order: its caption, or why it has none.

        The same text whatever the batch it ran in. An exception stands for the whole batch, which is
        then tried in halves: what was paid for must be returned, not lost to a neighbour's trouble.
        """
