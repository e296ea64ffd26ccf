"""What methods share of their options, and how these become part of a spec."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo

from mmfeat.extract.base import Ask, AskedInput
from mmfeat.schemas.errors import ConfigError, MissingExtra
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.inputs import (
    MOST_PICTURES,
    AudioPrepare,
    ClipReader,
    FrameSampling,
    ImagePrepare,
    Input,
    PixelPrepare,
    PixelView,
    SamplingMode,
    SceneCuts,
    SceneDetector,
    SoundWindows,
    VideoPrepare,
)
from mmfeat.schemas.outputs import TokenDtype
from mmfeat.schemas.spec import ComputeDtype

_DEFAULT_FRAMES = 8
_DEFAULT_PICTURES = 8
_DEFAULT_FRAMES_OF_A_SCENE = 3
_DEFAULT_SCENES = 16
_DEFAULT_SCENE_SECONDS = 1.0
# PySceneDetect's own.
_DEFAULT_THRESHOLDS = {"content": 27.0, "adaptive": 3.0}

#: How many windows are spread over a sound where the options say nothing.
DEFAULT_WINDOWS = 8

_Text = TypeVar("_Text", str, None)


def _from_base(value: _Text, info: ValidationInfo) -> _Text | str:
    """A path beside the job's file, if there is one of that name; else the value as it is."""
    base: Path | None = (info.context or {}).get("base")
    if value is None or base is None or not (base / value).exists():
        return value
    return str(base / value)


#: An option that may be a path, which then starts from the job file's folder.
Place = Annotated[str | None, AfterValidator(_from_base)]


class FrameOptions(Frozen):
    """Which frames of a clip are taken, and of which clips; of no use for anything but clips.

    Attributes:
        frames: how many frames, at most; 8 when None, 3 of each scene, or the number that a video model
            takes.
        sampling: ``uniform``: at the centres of as many equal spans. ``middle``: consecutive ones around the
            middle. ``fps``: one every ``1 / fps`` seconds. ``keyframes``: of the keyframes, evenly chosen.
            ``scenes``: of each scene. ``uniform`` when None.
        fps: frames per second of ``sampling = "fps"``.
        stride: with ``sampling = "middle"`` every so manieth frame; 1 when None.
        scene_detector: PySceneDetect's detector; ``content`` when None.
        scene_threshold: of the detector; 27 of ``content`` and 3 of ``adaptive`` when None.
        min_scene_seconds: shorter scenes are joined to a neighbour; 1 when None.
        max_scenes: above this the shortest scenes are joined to a neighbour; 16 when None.
        cut: ``refuse`` clips that are cut short, or ``accept`` the frames that are there; ``refuse`` when
            None.
        reader: ``decord`` takes the frames that decord gives; PyAV reads when None.
    """

    frames: int | None = Field(default=None, gt=0, le=4096)
    sampling: SamplingMode | None = None
    fps: float | None = Field(default=None, gt=0, le=1000)
    stride: int | None = Field(default=None, gt=0, le=4096)
    scene_detector: SceneDetector | None = None
    scene_threshold: float | None = Field(default=None, gt=0, le=1e6)
    min_scene_seconds: float | None = Field(default=None, ge=0, le=1e6)
    max_scenes: int | None = Field(default=None, gt=0, le=256)
    cut: Literal["accept", "refuse"] | None = None
    reader: ClipReader | None = None


class PictureOptions(FrameOptions):
    """How pictures are shown to an encoder, and which of a list; of no use where it reads none.

    Attributes:
        crop: ``center``, ``squash`` (the aspect ratio is not kept) or ``pad``; the model's own when None.
        jpeg: ``exact``, or ``scaled``: libjpeg decodes large JPEGs at a reduced scale, never below twice the
            size needed; ``exact`` when None.
        pictures: of a list the ``first`` one, the ``mean`` of the pictures' vectors, or a vector of ``each``;
            ``first`` when None.
        max_pictures: most pictures of a list that are read; 8 when None.
        vector_per: a vector of each ``frame`` or ``scene`` of a clip; the mean of the frames' vectors when
            None.
    """

    crop: Literal["center", "squash", "pad"] | None = None
    jpeg: Literal["exact", "scaled"] | None = None
    pictures: Literal["first", "mean", "each"] | None = None
    max_pictures: int | None = Field(default=None, gt=0, le=MOST_PICTURES)
    vector_per: Literal["frame", "scene"] | None = None


class SoundOptions(Frozen):
    """Which windows of a sound are taken; of no use if nothing is heard.

    Attributes:
        windows: ``first``: one from the start. ``uniform``: at the centres of as many equal spans. ``all``:
            consecutive ones from the start. When None ``first`` in questions, messages and transcripts, else
            ``uniform``.
        window_seconds: length of a window; what the model hears at once when None.
        max_windows: how many windows, of ``uniform`` and ``all``; 8 when None.
    """

    windows: SoundWindows | None = None
    window_seconds: float | None = Field(default=None, gt=0, le=86_400)
    max_windows: int | None = Field(default=None, gt=0, le=4096)


class VectorOptions(Frozen):
    """What every encoder's vectors can be.

    Attributes:
        normalize: whether each vector is divided by its length; the model's own way when None.
        dtype: number type of weights and arithmetic; ``float32`` when None.
        store_dtype: number type of stored vectors; ``int8`` goes with any number of vectors per item.
            ``float32`` when None.
    """

    normalize: bool | None = None
    dtype: ComputeDtype | None = None
    store_dtype: TokenDtype | None = None


class WeightsOptions(Frozen):
    """Which model, by the name of a hub, a folder or a library, and which weights of it.

    Attributes:
        model: the model: a name on the hub or in the library, or a folder.
        weights: which weights: a pretrained tag, ``package``, or ``random:SEED``.
        revision: commit on the hub.
    """

    model: Place = None
    weights: str | None = None
    revision: str | None = None


FRAME_OPTIONS = tuple(FrameOptions.model_fields)
SOUND_OPTIONS = tuple(SoundOptions.model_fields)
LIST_OPTIONS = ("pictures", "max_pictures")
PICTURE_OPTIONS = tuple(name for name in PictureOptions.model_fields if name not in FRAME_OPTIONS)
_SCENE_OPTIONS = ("scene_detector", "scene_threshold", "min_scene_seconds", "max_scenes")


def refuse_options(ask: Ask[Any], names: Sequence[str], goes_with: str, hint: str | None = None) -> None:
    """ConfigError where one of these options is set; ``goes_with`` says what they are for: ``pictures``."""
    given = [name for name in names if getattr(ask.options, name, None) is not None]
    if given:
        go = "goes" if len(given) == 1 else "go"
        read = " and ".join(repr(one.source) for one in ask.inputs)
        raise ask.error(f"{', '.join(map(repr, sorted(given)))} {go} with {goes_with}, not with {read}", hint)


def refuse_options_of_others(ask: Ask[Any], of_pixels: Sequence[str]) -> None:
    """ConfigError for an option of frames, pixels, sound or lists if none of these is read.

    Args:
        of_pixels: the options of pictures and clips.
    """
    read = {one.modality for one in ask.inputs}
    if "video" not in read:
        refuse_options(ask, FRAME_OPTIONS, "a clip")
    if not read & {"image", "video"}:
        refuse_options(ask, of_pixels, "pictures or a clip")
    if "audio" not in read:
        refuse_options(ask, SOUND_OPTIONS, "sound")
    if not any(one.several and one.modality == "image" for one in ask.inputs):
        refuse_options(ask, LIST_OPTIONS, "a list of pictures")


def need_model(ask: Ask[Any], example: str) -> str:
    """The feature's ``model``; ConfigError, with ``example`` as a way out, if there is none."""
    model: str | None = ask.options.model
    if model is None:
        raise ask.error(f"{ask.kind} {ask.method!r} needs a model", f'For example: model = "{example}".')
    return model


def pixel_input(
    ask: Ask[Any],
    read: AskedInput,
    view: PixelView,
    sampling: FrameSampling | None = None,
    **prepared: Any,
) -> Input:
    """A picture, or the frames of a clip that the options ask for, in a view.

    Args:
        sampling: of a clip; :func:`frame_sampling` by default.
        prepared: further fields of :class:`~mmfeat.schemas.inputs.PixelPrepare`.
    """
    prepare: PixelPrepare
    if read.modality == "video":
        _check_vector_per(ask)
        cut: Literal["accept"] | None = "accept" if ask.options.cut == "accept" else None
        sampling = sampling or frame_sampling(ask)
        prepare = _clip_prepare(ask, view=view, sampling=sampling, cut=cut, **prepared)
    else:
        refuse_options(ask, (*FRAME_OPTIONS, "vector_per"), "a clip")
        prepare = ImagePrepare(view=view, several=_several(ask, read), **prepared)
    return read.prepared(prepare)


def _check_vector_per(ask: Ask[Any]) -> None:
    """Only a clip that is sampled by scenes has any."""
    if getattr(ask.options, "vector_per", None) == "scene" and ask.options.sampling != "scenes":
        raise ask.error('vector_per = "scene" goes with sampling = "scenes"')


def _clip_prepare(ask: Ask[Any], **prepared: Any) -> VideoPrepare:
    """The preparation of a clip, read as the options say.

    Raises:
        ConfigError: the reader does not go with another option.
        MissingExtra: it is not installed.
    """
    reader: ClipReader | None = ask.options.reader
    if reader is not None and find_spec("decord") is None:
        raise MissingExtra(f'reader = "{reader}"', "decord", "decord2")
    try:
        return VideoPrepare(reader=reader, **prepared)
    except ValidationError as error:
        raise ask.error(error.errors()[0]["msg"].removeprefix("Value error, ")) from error


def _several(ask: Ask[Any], read: AskedInput) -> int | None:
    """How many pictures of a list are read; None if the first one is read alone."""
    options = ask.options
    wanted = getattr(options, "pictures", "all")
    if not read.several:
        one = "No item of the dataset has several pictures there: leave it out, or give lists."
        refuse_options(ask, LIST_OPTIONS, "a list of pictures", one)
    if wanted in (None, "first"):
        refuse_options(ask, ("max_pictures",), 'pictures = "mean" and "each"')
    if not read.several or wanted in (None, "first"):
        return None
    most: int = options.max_pictures or _DEFAULT_PICTURES
    return most if most > 1 else None


def sound_input(ask: Ask[Any], read: AskedInput, usual: AudioPrepare) -> Input:
    """The windows of a sound that the options ask for.

    Args:
        usual: what is taken where the options say nothing; its sample rate always.

    Raises:
        ConfigError: options that do not go together.
    """
    options = ask.options
    windows = options.windows or usual.windows
    if windows == "first" and options.max_windows is not None:
        raise ask.error(
            '\'max_windows\' goes with windows = "uniform" and "all"; "first" is one window',
            "Leave max_windows out, or say how the windows lie.",
        )
    count = options.max_windows or (usual.count if windows == usual.windows else None)
    if windows != "first" and count is None:
        count = DEFAULT_WINDOWS
    try:
        prepare = AudioPrepare(
            sample_rate=usual.sample_rate,
            seconds=options.window_seconds or usual.seconds,
            windows=windows,
            count=count or 1,
        )
    except ValidationError as error:
        raise ask.error(error.errors()[0]["msg"].removeprefix("Value error, ")) from error
    return read.prepared(prepare)


def frame_sampling(ask: Ask[Any]) -> FrameSampling:
    """The sampling that a feature of clips asks for: 8 uniform frames unless it says otherwise, and 3 of
    every scene where it is sampled by scenes.

    Raises:
        ConfigError: an option that goes with another sampling.
        MissingExtra: scenes are asked for and no detector of them is installed.
    """
    options = ask.options
    mode: SamplingMode = options.sampling or "uniform"
    default = _DEFAULT_FRAMES_OF_A_SCENE if mode == "scenes" else _DEFAULT_FRAMES
    try:
        return FrameSampling(
            mode=mode,
            count=options.frames or default,
            fps=options.fps,
            scenes=_scene_cuts(ask),
            # Every frame is what no stride says.
            stride=None if options.stride == 1 else options.stride,
        )
    except ValidationError as error:
        raise ask.error(error.errors()[0]["msg"].removeprefix("Value error, ")) from error


def _scene_cuts(ask: Ask[Any]) -> SceneCuts | None:
    options = ask.options
    given = [option for option in _SCENE_OPTIONS if getattr(options, option) is not None]
    if options.sampling != "scenes":
        if given:
            go = "goes" if len(given) == 1 else "go"
            raise ask.error(f'{", ".join(map(repr, sorted(given)))} {go} with sampling = "scenes"')
        return None
    _check_detectors(ask)
    detector: SceneDetector = options.scene_detector or "content"
    seconds = options.min_scene_seconds
    return SceneCuts(
        detector=detector,
        threshold=options.scene_threshold or _DEFAULT_THRESHOLDS[detector],
        min_seconds=_DEFAULT_SCENE_SECONDS if seconds is None else seconds,
        max_scenes=options.max_scenes or _DEFAULT_SCENES,
    )


def _check_detectors(ask: Ask[Any]) -> None:
    """Before a run: without detectors every clip would fail."""
    try:
        import scenedetect.detectors  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtra("Sampling by scenes", "scenes", "scenedetect-headless") from None
    except ImportError as error:
        raise ConfigError(
            f"feature {ask.name!r}: the detectors of scenes cannot be loaded: {error}",
            hint="On a machine without a display: pip install opencv-python-headless.",
        ) from error
