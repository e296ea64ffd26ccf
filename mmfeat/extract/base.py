"""The interface of methods: what computes a feature from its inputs, free of Ray.

An :class:`Encoder` gives vectors; a :class:`Captioner`, a :class:`Transcriber` and an :class:`Ocr` give
texts. A method says which options it has and what
it reads, *resolves* a person's table to a :class:`~mmfeat.schemas.spec.FeatureSpec`, loads that spec's
weights, and then gives one value per row of inputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import numpy as np

from mmfeat.schemas.composed import ComposedText
from mmfeat.schemas.errors import ConfigError, ItemError
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.inputs import Input, Prepare
from mmfeat.schemas.media import Frames, Pictures
from mmfeat.schemas.server import Sending
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spans import Span, Spans
from mmfeat.schemas.spec import FeatureSpec, ModelCard

#: One value per input that the spec gives, in its order: a text ``str``, a picture or clip
#: :class:`~mmfeat.schemas.media.Frames`, several pictures :class:`~mmfeat.schemas.media.Pictures`, a sound
#: :class:`~mmfeat.schemas.sound.Sound`; None if an item lacks an optional one.
Row = tuple[Any, ...]

Options = TypeVar("Options", bound=Frozen)


@dataclass(frozen=True)
class Placement:
    """Where a method runs and what it is loaded for. Never changes a value.

    Attributes:
        device: ``cpu`` or ``cuda``.
        threads: compute threads that it may use; None for as many as its library takes.
        expected: items that it will be given, by which it may choose its runtime; None if nobody can
            say.
        sending: how a model on a server is asked; None for the server that the environment names.
        beside: the loaded method of a feature whose pass gives this one's values too
            (:meth:`Method.comes_with`), which is told so; None if there is none.
    """

    device: str = "cpu"
    threads: int | None = None
    expected: int | None = None
    sending: Sending | None = None
    beside: Method | None = None


@dataclass(frozen=True)
class Reads:
    """What one feature of a method can read.

    Attributes:
        modalities: of an input.
        together: whether one feature may have several inputs of these modalities; else it has one.
    """

    modalities: tuple[str, ...]
    together: bool = False


@dataclass(frozen=True)
class AskedInput:
    """One input as a method sees it when it resolves a feature.

    Attributes:
        source: the name that the table or a prompt gives.
        modality: of the column, or ``text`` or ``vector`` of a feature.
        several: whether the column holds a list.
        optional: whether an item may lack it.
        upstream: the spec of the feature that is read; None of a column.
    """

    source: str
    modality: str
    several: bool = False
    optional: bool = False
    upstream: FeatureSpec | None = None

    def prepared(self, prepare: Prepare | None = None, named: bool = False) -> Input:
        """The spec's input."""
        return Input(
            source=self.source,
            modality=self.modality,
            prepare=prepare,
            named=named,
            optional=self.optional,
            upstream=None if self.upstream is None else self.upstream.fingerprint,
        )


@dataclass(frozen=True)
class Ask(Generic[Options]):
    """A feature that a method is to resolve.

    Attributes:
        name: the feature's.
        kind, method: the key and the name by which the table names the method: ``encoder``, ``timm``.
        inputs: what the table says to read; checked against what the method reads.
        named: what the options' prompts name in braces.
        options: checked.
        composed: how ``inputs``, which are one text then, are made of ``parts``; None if they are read.
        parts: what the composed text names in braces.
    """

    name: str
    kind: str
    method: str
    inputs: tuple[AskedInput, ...]
    named: tuple[AskedInput, ...]
    options: Options
    composed: ComposedText | None = None
    parts: tuple[AskedInput, ...] = ()

    @property
    def only(self) -> AskedInput:
        """The one input of a method that reads one."""
        (one,) = self.inputs
        return one

    def error(self, problem: str, hint: str | None = None) -> ConfigError:
        """An error that names the feature."""
        return ConfigError(f"feature {self.name!r}: {problem}", hint=hint)

    def spec(self, **resolved: Any) -> FeatureSpec:
        """The feature's spec with what the method has resolved; of a composed text it reads the parts."""
        if self.composed is not None:
            (text,) = resolved["inputs"]
            resolved["inputs"] = tuple(part.prepared(named=True) for part in self.parts)
            resolved["composed"] = self.composed.model_copy(update={"prepare": text.prepare})
        return FeatureSpec(name=self.name, method=self.method, **resolved)


@dataclass(frozen=True)
class Query:
    """How a feature is searched by something of one modality.

    Attributes:
        prepare: how that is made ready; None if it is taken as it is.
        encode: values as a row has them to float32 ``[n, dims]``, or to ``[m, dims]`` each where items have
            any number of vectors per item.
    """

    prepare: Prepare | None
    encode: Callable[[Sequence[Any]], np.ndarray]


class Resolvable(ABC):
    """What a feature's table can name. Subclasses register in ``extract/registry.py``.

    ``resolve`` and ``card`` never load weights; they may read configuration files and may import
    the model's library.
    """

    #: The keys that a feature's table may have for this method.
    Options: ClassVar[type[Frozen]] = Frozen
    #: What one feature can read, besides what its prompts name.
    reads: ClassVar[tuple[Reads, ...]]
    #: Whether a feature reads what the feature that it names reads, in its place.
    reads_through: ClassVar[bool] = False
    #: The card of a well-known model of this method, for listings.
    example: ClassVar[ModelCard]

    @classmethod
    @abstractmethod
    def resolve(cls, ask: Ask[Any]) -> FeatureSpec:
        """The full spec of a feature.

        Raises:
            ConfigError: an option that does not fit what is read, or weights that are not there; the
                message names the feature and says what to write instead.
        """

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """What the model is: input size, dims, licence, where weights come from. By default the example."""
        return cls.example

    @classmethod
    def named(cls, options: Any) -> dict[str, bool]:
        """What the options' prompts name in braces, and whether an item may lack it."""
        return {}


class Method(Resolvable):
    """A spec's weights on one device, and what it computes of each row of inputs."""

    #: Rows handed to the method at a time unless the job says otherwise; of pictures a CPU's core gets no
    #: more than it gains by (:mod:`mmfeat.pipelines.execution.calls`). Never changes values.
    batch_size: ClassVar[int] = 32
    #: Pictures that one call on a CPU is worth having where a block has more than usual, if each row is of
    #: one; 0 where more than usual gain nothing. Never changes values.
    together: int = 0
    #: Whether a clip counts as one row of a call, however many pictures it has; a captioner's always does.
    whole_clips: ClassVar[bool] = False
    #: Where the model is: ``here`` in this process, on a ``server`` (all such methods of a run share one
    #: process), or in an ``engine`` that the executor runs.
    runs: ClassVar[Literal["here", "server", "engine"]] = "here"
    #: What computes the values, with its version: ``torch 2.14.1``, ``openvino 2026.4.1``. None if it
    #: is not known.
    runtime: str | None = None
    #: What a person should know of how it was loaded, in sentences.
    notes: tuple[str, ...] = ()

    spec: FeatureSpec

    @abstractmethod
    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Load the weights; check their digest where the spec has one (ConfigError if it differs)."""

    @abstractmethod
    def run(self, rows: Sequence[Row]) -> Sequence[Any] | np.ndarray:
        """One value per row, in order, whatever the batching inside; or the ItemError of that row.

        A vector feature's value is a float32 array of the spec's shape, of ``tokens`` ``[n, dims]``; a
        text feature's a :class:`Text`. An exception stands for the whole batch, which is then
        bisected.
        """

    @classmethod
    def outdated(cls, spec: FeatureSpec) -> Callable[[str], bool] | None:
        """What tells that a stored text is one which is not stored any more since a fix of ours, so that its
        item is to be computed again; None if no text is. A text that is stored now never is one."""
        return None

    @classmethod
    def comes_with(cls, spec: FeatureSpec, other: FeatureSpec) -> bool:
        """Whether the pass that computes another feature gives the values of ``spec`` too."""
        return False

    def spans(self, row: Row, value: np.ndarray) -> Spans | None:
        """What each vector of a row's value was made from, for a feature of any number of them; None if
        that is not said."""
        return None

    @classmethod
    def ablated(cls, spec: FeatureSpec, inputs: tuple[Input, ...]) -> FeatureSpec:
        """The feature of some of a spec's inputs alone, all else as it is; for ``ablate = true``.

        Raises:
            ConfigError: the model cannot take these without the others.
        """
        return spec.model_copy(update={"inputs": inputs})

    def reading(self, spec: FeatureSpec) -> Self:
        """The same loaded model for a spec that differs in its inputs alone. One that keeps more of its
        spec than ``spec`` makes that anew here."""
        other = copy(self)
        other.spec = spec
        return other

    def query(self, modality: str) -> Query | None:
        """How the feature is searched by a ``text`` or an ``image``; None if it cannot be."""
        return None

    def sent(self) -> Usage | None:
        """What was asked of a server since the last call; None if the model is in this process."""
        return None


class Encoder(Method):
    """Inputs to vectors.

    An encoder of one input defines what it reads of ``encode_images``, ``encode_texts``,
    ``encode_clips`` and ``encode_sounds``, each of which gives float32 ``[n, dims]``, or
    ``[n, vectors, dims]`` where the spec has ``vectors``. One that reads several inputs together
    defines :meth:`run`.
    """

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 ``[n, height, width, 3]`` RGB in the spec's view to float32 vectors."""
        raise NotImplementedError(f"{self.spec.method} reads no pictures")

    def encode_frames(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """``n`` pictures or frames, uint8 ``[height, width, 3]`` each, to float32 vectors. Those of a view
        are of one size; an encoder that takes pictures of many sizes says here how."""
        return self.encode_images(np.stack(frames))

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """``n`` texts to float32 vectors, in the given order whatever the batching inside."""
        raise NotImplementedError(f"{self.spec.method} reads no texts")

    def encode_sounds(self, sounds: Sequence[Sound]) -> np.ndarray:
        """``n`` sounds at the spec's sample rate to float32 vectors."""
        raise NotImplementedError(f"{self.spec.method} reads no sound")

    def encode_clips(self, clips: Sequence[Frames]) -> Sequence[np.ndarray] | np.ndarray:
        """``n`` clips to float32 vectors: the mean over time of the frame vectors, one by one where
        there are several per frame.

        Each frame is encoded, and normalised where the spec says so, as an image is; the mean is
        normalised again where the spec says so, as CLIP4Clip's parameter-free mean pooling does
        (arXiv 2104.08860). Of a feature with a vector per frame or per scene it is ``[n, dims]`` of each
        clip: its frames' vectors, or such means of each scene's.
        """
        pixels: list[Sequence[np.ndarray]] = [list(clip.pixels) for clip in clips]
        vector_per = self.spec.options.get("vector_per")
        if vector_per is None:
            return self._means(pixels)
        if vector_per == "frame":
            return self._each(pixels)
        means = self._means([list(scene) for clip in clips for scene in _scenes(clip)])
        return np.split(means, np.cumsum([len(clip.scenes) for clip in clips])[:-1])

    def encode_pictures(self, items: Sequence[Pictures]) -> Sequence[np.ndarray] | np.ndarray:
        """``n`` items' pictures to float32 vectors: the mean of an item's pictures, as of a clip's frames,
        or ``[pictures, dims]`` of each item where a feature has a vector of each picture."""
        pixels = [item.pixels for item in items]
        return self._each(pixels) if self.spec.form == "tokens" else self._means(pixels)

    def _each(self, pixels: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
        """The vectors of each item's pictures, all of which are encoded together."""
        ends = np.cumsum([len(of_item) for of_item in pixels])
        return np.split(self.encode_frames(list(chain.from_iterable(pixels))), ends[:-1])

    def _means(self, pixels: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
        means = np.stack([vectors.mean(axis=0) for vectors in self._each(pixels)])
        if self.spec.options.get("normalize"):
            means /= np.linalg.norm(means, axis=-1, keepdims=True)
        return means

    def run(self, rows: Sequence[Row]) -> Sequence[Any] | np.ndarray:
        """See :meth:`Method.run`. By the modality of the one input."""
        if len(self.spec.given) > 1:
            raise NotImplementedError(f"{self.spec.method} does not say how it reads several inputs together")
        values = [value for (value,) in rows]
        modality = self.spec.given[0].modality
        if modality == "image" and isinstance(values[0], Pictures):
            return self.encode_pictures(values)
        if modality == "image":
            return self.encode_frames([frames.pixels[0] for frames in values])
        if modality == "video":
            return self.encode_clips(values)
        return self.encode_sounds(values) if modality == "audio" else self.encode_texts(values)

    def spans(self, row: Row, value: np.ndarray) -> Spans | None:
        """See :meth:`Method.spans`: of the frames or scenes of a clip, and of the pictures of a list."""
        first = row[0]
        if isinstance(first, Frames) and (vector_per := self.spec.options.get("vector_per")):
            if vector_per == "scene":
                return tuple(Span("video", scene.start, scene.end) for scene in first.scenes)
            return tuple(Span("video", time, time) for time in first.times)
        if isinstance(first, Pictures) and len(value) == len(first.pixels):
            return tuple(Span("image", place, place + 1) for place in first.places)
        return None

    def query(self, modality: str) -> Query | None:
        """See :meth:`Method.query`: by what the feature reads itself."""
        first = self.spec.given[0]
        if len(self.spec.given) > 1 or first.modality != modality:
            return None
        return Query(first.prepare, lambda values: np.asarray(self.run([(value,) for value in values])))


def _scenes(clip: Frames) -> list[np.ndarray]:
    """The pixels of each scene's frames."""
    ends = np.cumsum([scene.frames for scene in clip.scenes])
    return np.split(clip.pixels, ends[:-1])


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
class Text:
    """The text of an item.

    Attributes:
        text: without blanks around it.
        can_be_empty: whether an item without a word has the feature all the same, as a clip in which nobody
            speaks has a transcript; else an empty text is the item's failure.
    """

    text: str
    can_be_empty: ClassVar[bool] = False

    @property
    def usage(self) -> Usage:
        """What was asked of a model for it."""
        return Usage()

    @property
    def parts(self) -> tuple[Any, ...]:
        """What stands beside the text and must repeat as it does, such as when each part was said."""
        return ()

    def facts(self) -> dict[str, Any]:
        """What is stored beside the text, plain JSON types."""
        return {}


@dataclass(frozen=True)
class Caption(Text):
    """One generated text.

    Attributes:
        text: what the model said, stripped; canonical JSON where the prompt has a schema.
        finish_reason: ``stop`` (the model ended it) or ``length`` (cut at the token cap).
        prompt_tokens, new_tokens: token counts, without padding, of every question asked for this text.
        seconds: that the model worked for it: of a batch, its share. Not part of equality.
        retries: questions asked again because the answer did not fit the prompt's schema.
        scenes: what the text is a summary of, for a clip that is described scene by scene.
        reasoning_characters: of what the model thought before it answered, which is no part of the text.
        beside: values of other features that came out of the same pass, by their fingerprints
            (:meth:`Method.comes_with`). Not part of equality.
    """

    finish_reason: Literal["stop", "length"]
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: float = field(default=0.0, compare=False)
    retries: int = 0
    scenes: tuple[SceneCaption, ...] = ()
    reasoning_characters: int = 0
    beside: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False)

    @property
    def usage(self) -> Usage:
        """See :attr:`Text.usage`: every question that was asked for it."""
        return Usage(1 + len(self.scenes) + self.retries, self.prompt_tokens, self.new_tokens)

    @property
    def parts(self) -> tuple[Any, ...]:
        """See :attr:`Text.parts`."""
        return self.scenes

    def facts(self) -> dict[str, Any]:
        """See :meth:`Text.facts`."""
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
        if self.reasoning_characters:
            facts["reasoning_characters"] = self.reasoning_characters
        return facts


class Captioner(Method):
    """Inputs to text."""

    @abstractmethod
    def caption(self, rows: Sequence[Row]) -> list[Caption | ItemError]:
        """One outcome per row, in order: its caption, or why it has none.

        The same text whatever the batch it ran in. An exception stands for the whole batch, which is
        then bisected: what was paid for must be returned, not lost to a neighbour's trouble.
        """

    def brief(self) -> Captioner:
        """The same model that says less, for its proof; itself if it says little."""
        return self

    def run(self, rows: Sequence[Row]) -> list[Caption | ItemError]:
        """See :meth:`Method.run`."""
        return self.caption(rows)


class Transcriber(Method):
    """Speech to text: :meth:`Method.run` gives a :class:`Text` of the role ``transcript`` per row."""

    def brief(self) -> Transcriber:
        """The same model that says something of any sound, and little, for its proof."""
        return self


class Ocr(Method):
    """On-screen text: :meth:`Method.run` gives a :class:`Text` of the role ``ocr`` per row."""
