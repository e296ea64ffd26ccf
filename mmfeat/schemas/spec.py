"""What decides a feature's values, and the fingerprint that names it.

A :class:`FeatureConfig` is what a person writes in a job file. An encoder or captioner *resolves*
it to a :class:`FeatureSpec`, in which nothing that changes a value is left implicit: weights by
digest or revision, preprocessing in full, pooling, sampling, prompt text, number types. The
fingerprint is the SHA-256 of the spec's canonical JSON; batch size, device and worker counts are
not part of it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from mmfeat.schemas.templates import variables_of

FeatureName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Interpolation = Literal["bilinear", "bicubic", "lanczos", "nearest"]
ComputeDtype = Literal["float32", "bfloat16", "float16"]
StoreDtype = Literal["float32", "float16"]
Pooling = Literal["default", "cls", "mean", "attention"]
SamplingMode = Literal["uniform", "middle", "fps", "keyframes", "scenes"]
SceneDetector = Literal["content", "adaptive"]
PictureFormat = Literal["png", "jpeg"]

#: The item's texts that a prompt can name.
ITEM_TEXTS = frozenset({"title", "description"})


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PixelView(_Frozen):
    """How decoded pixels become the uint8 ``[height, width, 3]`` RGB array that a model reads.

    Modes:
        ``shortest``: the shorter side is resized to ``resize``, then the centre ``height x width``
        is cropped (zero-padded where the image is smaller), as torchvision's
        ``Resize(int)`` + ``CenterCrop`` do.
        ``squash``: resized to ``height x width``, aspect ratio not kept.
        ``pad``: resized to fit inside ``height x width``, centred on ``fill``.
        ``bound``: shrunk, never enlarged, so that its longer side is at most ``height``; the
        aspect ratio stays and so does a smaller image. For models with a processor of their own.
    """

    mode: Literal["shortest", "squash", "pad", "bound"]
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    resize: int | None = Field(default=None, gt=0)
    interpolation: Interpolation = "bicubic"
    fill: tuple[int, int, int] = (0, 0, 0)
    # Of an odd number of rows or columns to cut off, torchvision's crop leaves half above, rounded to
    # even, and transformers' rounds down.
    crop_rounding: Literal["even", "down"] = "even"
    # "exact" decodes every pixel; "scaled" lets libjpeg decode large JPEGs at a reduced scale,
    # never below twice the size the view needs. Faster, not identical: so part of the spec.
    jpeg: Literal["exact", "scaled"] = "exact"

    @model_validator(mode="after")
    def _shortest_needs_resize(self) -> PixelView:
        if (self.mode == "shortest") != (self.resize is not None):
            raise ValueError("resize is given for mode 'shortest' and only there")
        return self


class SceneCuts(_Frozen):
    """Where one scene of a clip ends and the next begins, by PySceneDetect's detectors.

    Every frame is looked at, at most 256 pixels on its longer side.

    Attributes:
        detector: ``content`` (a cut is a change in hue, saturation and brightness from one frame to the
            next) or ``adaptive`` (such a change beside the changes around it: calmer where the camera
            moves fast).
        threshold: how large the change is, in the detector's own units.
        min_seconds: a scene is no shorter, unless the whole clip is.
        max_scenes: of more scenes the shortest is joined to its shorter neighbour until so many are left.
    """

    detector: SceneDetector
    threshold: float = Field(gt=0)
    min_seconds: float = Field(ge=0)
    max_scenes: int = Field(gt=0, le=256)


class FrameSampling(_Frozen):
    """Which frames of a clip are taken. Indices are of decoded frames in presentation order.

    With ``n`` frames in the clip:
        ``uniform``: ``count`` frames at the centres of ``count`` equal spans:
        ``floor((i + 0.5) * n / count)``; all of them when ``n < count``.
        ``middle``: ``count`` consecutive frames around the middle one, starting at
        ``max(0, n // 2 - count // 2)``.
        ``fps``: one frame every ``1 / fps`` seconds from the first on (the frame shown at that
        time), at most ``count`` of them.
        ``keyframes``: ``count`` of the clip's keyframes, chosen uniformly among them; only these
        are decoded.
        ``scenes``: ``count`` frames of every scene, each scene sampled as ``uniform`` samples a clip.
    """

    mode: SamplingMode = "uniform"
    count: int = Field(default=8, gt=0, le=4096)
    fps: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    scenes: SceneCuts | None = None

    @model_validator(mode="after")
    def _extras_go_with_mode(self) -> FrameSampling:
        if (self.mode == "fps") != (self.fps is not None):
            raise ValueError("fps is given for sampling 'fps' and only there")
        if (self.mode == "scenes") != (self.scenes is not None):
            raise ValueError("scenes are given for sampling 'scenes' and only there")
        return self

    @property
    def most(self) -> int:
        """The most frames that one clip can give."""
        return self.count * (self.scenes.max_scenes if self.scenes else 1)


class ImagePreprocess(_Frozen):
    """Pixels to model input: the view, then ``(pixels / 255 - mean) / std`` per channel.

    Attributes:
        sent_as: how the view travels to a model on a server: ``png`` (every pixel as it is) or ``jpeg``
            (quality 95, colours at full resolution); None where the model is in the same process.
    """

    view: PixelView
    sent_as: PictureFormat | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


class TextPreprocess(_Frozen):
    """Text to tokens: ``prefix`` + text, cut at ``max_tokens`` (special tokens included)."""

    max_tokens: int = Field(gt=0)
    prefix: str = ""


class Weights(_Frozen):
    """Which weights, and where they come from.

    Attributes:
        origin: ``hub`` (Hugging Face), ``folder`` (local), ``package`` (shipped in a Python
            package), ``server`` (whatever it calls ``ref``), ``random`` (seeded initialisation, for
            measuring speed only) or ``fitted`` (to the vectors of the feature that is read).
        ref: hub id, pretrained tag, package name, or ``seed=N`` for random and fitted weights.
        revision: hub commit, where there is one.
        digest: ``sha256:...`` of a package's weight file, or of all files of a folder that loading it
            may read: a tokenizer decides values too.
        location: local path to load from. Not part of the fingerprint: the digest is.
    """

    origin: Literal["hub", "folder", "package", "server", "random", "fitted"]
    ref: str
    revision: str | None = None
    digest: str | None = None
    location: str | None = None


class Prompt(_Frozen):
    """A named, versioned prompt; its text is part of the spec.

    Attributes:
        text: what is asked; a name in braces stands for what differs from item to item.
        reply_schema: canonical JSON of the JSON Schema that a reply must satisfy; None for free text.
    """

    name: str
    version: int
    text: str
    reply_schema: str | None = None

    @property
    def variables(self) -> frozenset[str]:
        """The names in braces."""
        return frozenset(variables_of(self.text))


class Decoding(_Frozen):
    """How a language model picks tokens. ``temperature`` 0 is greedy."""

    max_new_tokens: int = Field(default=128, gt=0)
    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class Summary(_Frozen):
    """How the captions of a clip's scenes become one text: a question without pictures, to the same model."""

    prompt: Prompt
    decoding: Decoding


class Quantization(_Frozen):
    """How vectors became codes.

    Attributes:
        levels: codes per item, coarse to fine, without the collision level.
        codebook_size: a code is at least 0 and below this.
        collision_level: whether a last code tells items apart whose other codes are the same.
        data_digest: ``sha256:...`` of the ids and vectors that the codebooks were fitted to.
    """

    levels: int = Field(gt=0)
    codebook_size: int = Field(gt=0)
    seed: int = Field(ge=0, lt=2**31)
    collision_level: bool
    data_digest: str


class FeatureSpec(_Frozen):
    """Everything that decides a feature's values. See the module docstring.

    Attributes:
        name: what the feature is called in this store; not part of the fingerprint.
        source: ``title``, ``description``, ``cover``, ``video``, ``audio`` or a feature's name.
        output: ``vector`` (``[dims]`` per item, or ``[vectors, dims]``), ``text``, or ``codes``
            (``[dims]`` integers per item).
        method: registry name of the encoder, captioner or quantizer.
        method_version: raised whenever our code would give other values for the same settings.
        vectors: how many vectors an item has, where a feature holds several; None means one.
        text_kind: for text outputs, what it is: ``caption`` (by a multimodal LLM), ``tags`` (by a
            classifier) or ``json`` (by a multimodal LLM, to a schema).
        top_k: the most tags a text of kind ``tags`` names.
        summary: of a clip that is captioned scene by scene, how the scenes' captions become one text.
        upstream: fingerprint of the feature that is read, when ``source`` names one.
    """

    name: FeatureName
    source: str
    output: Literal["vector", "text", "codes"]
    method: str
    method_version: int = 1
    model: str
    weights: Weights
    image: ImagePreprocess | None = None
    text: TextPreprocess | None = None
    frames: FrameSampling | None = None
    time_pooling: Literal["mean"] | None = None
    pooling: Pooling | None = None
    layer: int | None = None
    normalize: bool = False
    dims: int | None = Field(default=None, gt=0)
    vectors: int | None = Field(default=None, gt=0)
    compute_dtype: ComputeDtype = "float32"
    store_dtype: StoreDtype | None = None
    text_kind: Literal["caption", "tags", "json"] | None = None
    prompt: Prompt | None = None
    decoding: Decoding | None = None
    summary: Summary | None = None
    top_k: int | None = Field(default=None, gt=0)
    upstream: str | None = None
    quantization: Quantization | None = None

    @model_validator(mode="after")
    def _output_has_its_fields(self) -> FeatureSpec:
        if self.output == "vector" and (self.dims is None or self.store_dtype is None):
            raise ValueError("a vector feature needs dims and store_dtype")
        if self.output != "vector" and self.vectors is not None:
            raise ValueError("only a vector feature can hold several vectors per item")
        if self.output == "text" and self.text_kind is None:
            raise ValueError("a text feature needs text_kind")
        if self.summary is not None and (self.frames is None or self.frames.scenes is None):
            raise ValueError("a summary needs frames that are sampled by scenes")
        if (self.output == "codes") != (self.quantization is not None):
            raise ValueError("a codes feature needs quantization, and no other has it")
        if (q := self.quantization) is not None and self.dims != q.levels + q.collision_level:
            raise ValueError("the dims of a codes feature are its levels, the collision level included")
        return self

    def identity(self) -> dict[str, Any]:
        """The part of the spec that decides values, as plain JSON types."""
        body = self.model_dump(mode="json", exclude={"name": True, "weights": {"location"}})
        # Unset fields are left out so that a field added later does not rename old versions.
        identity: dict[str, Any] = _without_none(body)
        return identity

    @property
    def fingerprint(self) -> str:
        """SHA-256 hex digest (64 characters) of the canonical JSON of :meth:`identity`."""
        return hashlib.sha256(canonical_json(self.identity()).encode()).hexdigest()

    @property
    def texts(self) -> tuple[str, ...]:
        """The item's texts that are read beside its media: those that the prompts name, by alphabet."""
        prompts = [self.prompt, self.summary and self.summary.prompt]
        named = {name for prompt in prompts if prompt for name in prompt.variables}
        return tuple(sorted(named & ITEM_TEXTS))

    @property
    def kind(self) -> str:
        """What a person calls it: ``vector``, ``vectors`` (several per item), ``codes``, or the text's
        kind: ``caption``, ``tags`` or ``json``."""
        if self.output == "text":
            return str(self.text_kind)
        return "vectors" if self.vectors is not None else self.output

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one item's value: ``(dims,)``, ``(vectors, dims)``, or ``()`` of a text."""
        return tuple(n for n in (self.vectors, self.dims) if n is not None)

    @property
    def version(self) -> str:
        """Short name of this version: ``name@`` and the first 8 characters of the fingerprint."""
        return f"{self.name}@{self.fingerprint[:8]}"


class ModelCard(_Frozen):
    """What a person should know of a model before using its features."""

    method: str
    model: str
    reads: tuple[str, ...]
    dims: int | None = None
    input_size: tuple[int, int] | None = None
    licence: str
    weights_from: str
    notes: str = ""


class FeatureConfig(_Frozen):
    """One ``[features.NAME]`` table of a job file, as a person writes it.

    Options left out take the model's own default; an option that the chosen encoder or captioner
    does not have is an error, never ignored.
    """

    source: str
    encoder: str | None = None
    captioner: str | None = None
    model: str | None = None
    weights: str | None = None
    revision: str | None = None
    pooling: Pooling | None = None
    layer: int | None = None
    hidden_states: bool | None = None
    normalize: bool | None = None
    crop: Literal["center", "squash", "pad"] | None = None
    jpeg: Literal["exact", "scaled"] | None = None
    dtype: ComputeDtype | None = None
    store_dtype: StoreDtype | None = None
    max_tokens: int | None = Field(default=None, gt=0)
    prefix: str | None = None
    frames: int | None = Field(default=None, gt=0, le=4096)
    sampling: SamplingMode | None = None
    fps: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    scene_detector: SceneDetector | None = None
    scene_threshold: float | None = Field(default=None, gt=0)
    min_scene_seconds: float | None = Field(default=None, ge=0)
    max_scenes: int | None = Field(default=None, gt=0, le=256)
    prompt: str | None = None
    summary_prompt: str | None = None
    max_new_tokens: int | None = Field(default=None, gt=0)
    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    max_side: int | None = Field(default=None, gt=0)
    send_as: PictureFormat | None = None
    top_k: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_method(self) -> FeatureConfig:
        if (self.encoder is None) == (self.captioner is None):
            raise ValueError("give exactly one of encoder and captioner")
        return self

    @property
    def method(self) -> str:
        """Registry name of the encoder or captioner."""
        return self.encoder or self.captioner or ""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and UTF-8 text: equal values give equal strings."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def text_hash(text: str) -> str:
    """Content hash of a text: SHA-256 hex of its UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_none(v) for v in value]
    return value
