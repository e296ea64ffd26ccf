"""What a feature reads: which column or feature, in which modality, and how it is prepared."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mmfeat.schemas.frozen import Frozen

Interpolation = Literal["bilinear", "bicubic", "lanczos", "nearest"]
SamplingMode = Literal["uniform", "middle", "fps", "keyframes", "scenes"]
SceneDetector = Literal["content", "adaptive"]
ClipReader = Literal["decord"]
PictureFormat = Literal["png", "jpeg"]
SoundWindows = Literal["first", "uniform", "all"]

#: The modality of an input that is another feature's vectors.
VECTOR = "vector"
#: The most pictures of one item that a feature can read.
MOST_PICTURES = 256


class PixelView(Frozen):
    """How decoded pixels become the uint8 ``[height, width, 3]`` RGB array that a model reads.

    Modes:
        ``shortest``: the shorter side is resized to ``resize``, then the centre ``height x width``
        is cropped (zero-padded where the image is smaller), as torchvision's
        ``Resize(int)`` + ``CenterCrop`` do.
        ``squash``: resized to ``height x width``, aspect ratio not kept.
        ``pad``: resized to fit inside ``height x width``, centred on ``fill``.
        ``bound``: shrunk, never enlarged, so that its longer side is at most ``height``; the
        aspect ratio stays and so does a smaller image. For models with a processor of their own.
        ``multiples`` and ``tiles``: what such processors do themselves, bit by bit: see
        ``extract/modalities/decoders/model_sizes.py``. Sides become multiples of ``step``; ``multiples``
        gives at least and at most ``pixels`` in all, ``tiles`` a longer side of ``resize``. A picture
        has about ``height x width`` pixels at most.
    """

    mode: Literal["shortest", "squash", "pad", "bound", "multiples", "tiles"]
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    resize: int | None = Field(default=None, gt=0)
    step: int | None = Field(default=None, gt=0)
    pixels: tuple[int, int] | None = None
    interpolation: Interpolation = "bicubic"
    fill: tuple[int, int, int] = (0, 0, 0)
    # Of an odd number of rows or columns to cut off, torchvision's crop leaves half above, rounded to
    # even, and transformers' rounds down.
    crop_rounding: Literal["even", "down"] = "even"
    # "exact" decodes every pixel; "scaled" lets libjpeg decode large JPEGs at a reduced scale,
    # never below twice the size the view needs. Faster, not identical: so part of the spec.
    jpeg: Literal["exact", "scaled"] = "exact"

    @model_validator(mode="after")
    def _extras_go_with_mode(self) -> PixelView:
        if (self.mode in ("shortest", "tiles")) != (self.resize is not None):
            raise ValueError("resize is given for modes 'shortest' and 'tiles' and only there")
        if (self.mode in ("multiples", "tiles")) != (self.step is not None):
            raise ValueError("step is given for modes 'multiples' and 'tiles' and only there")
        if (self.mode == "multiples") != (self.pixels is not None):
            raise ValueError("pixels are given for mode 'multiples' and only there")
        return self

    @property
    def is_fixed(self) -> bool:
        """Whether every picture gets the same size."""
        return self.mode in ("shortest", "squash", "pad")


class SceneCuts(Frozen):
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


class FrameSampling(Frozen):
    """Which frames of a clip are taken. Indices are of decoded frames in presentation order.

    With ``n`` frames in the clip:
        ``uniform``: ``count`` frames at the centres of ``count`` equal spans:
        ``floor((i + 0.5) * n / count)``; all of them when ``n < count``.
        ``middle``: ``count`` consecutive frames around the middle one, starting at
        ``max(0, n // 2 - count // 2)``. With a ``stride`` of ``k`` every ``k``-th frame from
        ``max(0, n // 2 - count * k // 2)`` on: the clip of ``count * k`` frames at rate ``1 / k`` that
        VideoMAE (arXiv 2203.12602) and its kind are trained on.
        ``fps``: one frame every ``1 / fps`` seconds from the first on (the frame shown at that
        time), at most ``count`` of them.
        ``keyframes``: ``count`` of the clip's keyframes, chosen uniformly among them; only these
        are decoded.
        ``scenes``: ``count`` frames of every scene, each scene sampled as ``uniform`` samples a clip.
    Where the rule gives fewer than ``count`` frames, and ``short`` is ``repeat``, frames are repeated in
    order: of the ``m`` that it gives, frame ``floor((i + 0.5) * m / count)`` is the ``i``-th of ``count``.
    Without ``short`` a short clip has fewer frames.
    """

    mode: SamplingMode = "uniform"
    count: int = Field(default=8, gt=0, le=4096)
    fps: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    scenes: SceneCuts | None = None
    stride: int | None = Field(default=None, gt=1, le=4096)
    short: Literal["repeat"] | None = None

    @model_validator(mode="after")
    def _extras_go_with_mode(self) -> FrameSampling:
        if (self.mode == "fps") != (self.fps is not None):
            raise ValueError("fps is given for sampling 'fps' and only there")
        if (self.mode == "scenes") != (self.scenes is not None):
            raise ValueError("scenes are given for sampling 'scenes' and only there")
        if self.stride is not None and self.mode != "middle":
            raise ValueError("stride is given for sampling 'middle' and only there")
        if self.short is not None and self.mode == "scenes":
            raise ValueError("a number of frames that every clip has does not go with sampling 'scenes'")
        return self

    @property
    def most(self) -> int:
        """The most frames that one clip can give."""
        return self.count * (self.scenes.max_scenes if self.scenes else 1)


class TextPrepare(Frozen):
    """Text to tokens: ``prefix`` + text, cut at ``max_tokens`` (special tokens included).

    Attributes:
        max_tokens: None if the method does not cut.
    """

    kind: Literal["text"] = "text"
    max_tokens: int | None = Field(default=None, gt=0)
    prefix: str = ""


class PixelPrepare(Frozen):
    """Decoded pixels to model input: the view, then ``(pixels / 255 - mean) / std`` per channel.

    Attributes:
        sent_as: how the view travels to a model on a server: ``png`` (every pixel as it is) or ``jpeg``
            (quality 95, colours at full resolution); None if the model is in the same process.
    """

    view: PixelView
    sent_as: PictureFormat | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    @property
    def pictures(self) -> int:
        """The most pictures that one item can give."""
        return 1


class ImagePrepare(PixelPrepare):
    """One picture, or the first ones of a list, each in the view.

    Attributes:
        several: how many pictures of a list are read at most; None if the first one is read alone.
    """

    kind: Literal["image"] = "image"
    several: int | None = Field(default=None, gt=1, le=MOST_PICTURES)

    @property
    def pictures(self) -> int:
        """See :attr:`PixelPrepare.pictures`."""
        return self.several or 1


class VideoPrepare(PixelPrepare):
    """Frames of a clip, each in the view.

    Attributes:
        cut: ``accept`` takes the frames that are there of a clip that is cut short; None refuses it.
        reader: what decodes the frames, and shows them its own way; None for PyAV.
    """

    kind: Literal["video"] = "video"
    sampling: FrameSampling
    cut: Literal["accept"] | None = None
    reader: ClipReader | None = None

    @model_validator(mode="after")
    def _reader_finds_the_frames(self) -> VideoPrepare:
        if self.reader is not None and self.sampling.mode == "keyframes":
            raise ValueError(f"reader '{self.reader}' does not go with sampling 'keyframes'")
        if self.reader is not None and self.cut is not None:
            raise ValueError(
                f"reader '{self.reader}' cannot tell where a clip is cut: cut = 'accept' needs PyAV"
            )
        return self

    @property
    def pictures(self) -> int:
        """See :attr:`PixelPrepare.pictures`."""
        return self.sampling.most


class AudioPrepare(Frozen):
    """Which windows of a sound are taken, and at which sample rate; all channels become one.

    With ``N`` samples in the resampled sound and ``n = round(seconds * sample_rate)`` in a window, at
    least 1:
        ``first``: one window from the start; the whole sound without ``seconds``.
        ``all``: consecutive windows from the start, at most ``count``.
        ``uniform``: ``k = min(count, ceil(N / n))`` windows centred in ``k`` equal spans, window ``i``
        from ``floor(((2 i + 1) * N - k * n) / (2 k))`` on, moved inwards where that is before 0 or
        after ``N - n``. They overlap, and leave nothing out, where the sound is no longer than
        ``count`` windows.
    A window that reaches beyond the end of the sound is as long as what there is: the whole of a sound
    shorter than ``n``, and the last one of ``all``. Nothing is padded.

    Attributes:
        sample_rate: samples a second (Hz).
        seconds: length of a window; None, for ``first`` alone, takes all.
        windows: how windows are chosen.
        count: windows of ``uniform``, most windows of ``all``.
    """

    kind: Literal["audio"] = "audio"
    sample_rate: int = Field(gt=0, le=192_000)
    seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    windows: SoundWindows = "first"
    count: int = Field(default=1, gt=0, le=4096)

    @model_validator(mode="after")
    def _extras_go_with_windows(self) -> AudioPrepare:
        if self.windows == "first" and self.count != 1:
            raise ValueError("count is given for windows 'uniform' and 'all' and only there")
        if self.windows != "first" and self.seconds is None:
            raise ValueError(f"seconds are needed for windows '{self.windows}'")
        return self

    @property
    def window(self) -> int | None:
        """Samples of a window; None if one window takes all."""
        return None if self.seconds is None else max(1, round(self.seconds * self.sample_rate))


Prepare = Annotated[TextPrepare | ImagePrepare | VideoPrepare | AudioPrepare, Field(discriminator="kind")]


class Input(Frozen):
    """One thing that a feature reads. Of a list of files the first one is read, unless ``prepare`` says more.

    Attributes:
        source: a column, a column's track (``video.sound``), or a feature.
        modality: ``text``, ``image``, ``video``, ``audio``; ``vector`` of a feature's vectors.
        prepare: how it is made ready for the method; None if the method takes it as it is.
        named: read because a prompt or a composed text names it in braces.
        optional: an item without it still has the feature.
        upstream: fingerprint of the feature that ``source`` names; None of a column.
    """

    source: str
    modality: str
    prepare: Prepare | None = None
    named: bool = False
    optional: bool = False
    upstream: str | None = None

    @property
    def column(self) -> str:
        """The source without its track: the column or feature that is read."""
        return self.source.partition(".")[0]

    @property
    def key(self) -> str:
        """What is planned, read and decoded as one: the column, or so many files of each list in it
        (``photos[8]``)."""
        several = self.prepare.several if isinstance(self.prepare, ImagePrepare) else None
        return self.column if several is None else f"{self.column}[{several}]"

    def identity(self) -> dict[str, Any]:
        """What of it decides values, as plain JSON types; what is not set is left out."""
        body = self.model_dump(mode="json", exclude_none=True)
        return {key: value for key, value in body.items() if value is not False}


def column_of(key: str) -> tuple[str, int | None]:
    """The column that a key names, and how many files of each list; None if the first one is read."""
    column, _, several = key.partition("[")
    return column, int(several.removesuffix("]")) if several else None
