"""What encoders and captioners share when they resolve a feature."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from pydantic import ValidationError

from mmfeat.schemas.errors import ConfigError, MissingExtra
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec, FrameSampling, SceneCuts

#: What a method can read, as its model card says it.
PICTURES = ("cover", "video")
TEXTS = ("title", "description", "a text feature")

# An option that few methods have: which ones, for the others' refusals.
_WHO_HAS = {"hidden_states": "Hidden states: transformers for pictures, sentence_transformers for texts."}

_SCENE_OPTIONS = ("scene_detector", "scene_threshold", "min_scene_seconds", "max_scenes")
_FRAME_OPTIONS = ("frames", "sampling", "fps", *_SCENE_OPTIONS)
_DEFAULT_FRAMES = 8
_DEFAULT_FRAMES_OF_A_SCENE = 3
_DEFAULT_SCENES = 16
_DEFAULT_SCENE_SECONDS = 1.0
# PySceneDetect's own.
_DEFAULT_THRESHOLDS = {"content": 27.0, "adaptive": 3.0}


def check_source(
    name: str, config: FeatureConfig, upstream: FeatureSpec | None, reads: Collection[str] = PICTURES
) -> None:
    """Raise ConfigError unless the feature's source is one of ``reads`` (PICTURES, TEXTS or both)."""
    if upstream is None:
        readable = config.source in reads
    else:
        readable = upstream.output == "text" and "a text feature" in reads
    if not readable:
        raise ConfigError(
            f"feature {name!r}: {_method(config)} cannot read {config.source!r}",
            hint=f"It reads: {', '.join(reads)}.",
        )


def check_options(name: str, config: FeatureConfig, options: Collection[str]) -> None:
    """Raise ConfigError for an option that is set and not in ``options``.

    Frame sampling is an option of every method, for source ``video`` alone.
    """
    given = set(config.model_dump(exclude_none=True, exclude={"source", "encoder", "captioner"}))
    frames = set(_FRAME_OPTIONS) & given
    if frames and config.source != "video":
        raise ConfigError(
            f'feature {name!r}: {_listed(frames)} goes with source = "video", not {config.source!r}'
        )
    unknown = given - frames - set(options)
    if unknown:
        known = {*options, *(_FRAME_OPTIONS if config.source == "video" else ())}
        others = [_WHO_HAS[option] for option in unknown if option in _WHO_HAS]
        raise ConfigError(
            f"feature {name!r}: {_method(config)} has no option {_listed(unknown)} "
            f"for source {config.source!r}",
            hint=" ".join([f"It has: {', '.join(sorted(known))}.", *others]),
        )


def need_model(name: str, config: FeatureConfig, example: str) -> str:
    """The feature's ``model``; ConfigError, with ``example`` as a way out, where there is none."""
    if config.model is None:
        raise ConfigError(
            f"feature {name!r}: {_method(config)} needs a model", hint=f'For example: model = "{example}".'
        )
    return config.model


def frame_sampling(name: str, config: FeatureConfig) -> FrameSampling | None:
    """The sampling that the feature asks for, None but for clips: 8 uniform frames unless it says
    otherwise, and 3 of every scene where it is sampled by scenes.

    Raises:
        ConfigError: an option that goes with another sampling.
        MissingExtra: scenes are asked for and no detector of them is installed.
    """
    if config.source != "video":
        return None
    mode = config.sampling or "uniform"
    default = _DEFAULT_FRAMES_OF_A_SCENE if mode == "scenes" else _DEFAULT_FRAMES
    try:
        return FrameSampling(
            mode=mode, count=config.frames or default, fps=config.fps, scenes=_scene_cuts(name, config)
        )
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise ConfigError(f"feature {name!r}: {message}") from error


def _scene_cuts(name: str, config: FeatureConfig) -> SceneCuts | None:
    given = [option for option in _SCENE_OPTIONS if getattr(config, option) is not None]
    if config.sampling != "scenes":
        if given:
            raise ConfigError(f'feature {name!r}: {_listed(given)} goes with sampling = "scenes"')
        return None
    _check_detectors(name)
    detector = config.scene_detector or "content"
    seconds = config.min_scene_seconds
    return SceneCuts(
        detector=detector,
        threshold=config.scene_threshold or _DEFAULT_THRESHOLDS[detector],
        min_seconds=_DEFAULT_SCENE_SECONDS if seconds is None else seconds,
        max_scenes=config.max_scenes or _DEFAULT_SCENES,
    )


def _check_detectors(name: str) -> None:
    """Before a run: without detectors every clip would fail."""
    try:
        import scenedetect.detectors  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtra("Sampling by scenes", "scenes", "scenedetect") from None
    except ImportError as error:
        raise ConfigError(
            f"feature {name!r}: the detectors of scenes cannot be loaded: {error}",
            hint="On a machine without a display: pip install opencv-python-headless.",
        ) from error


def close_matches(word: str, known: Iterable[str]) -> str:
    """``Did you mean ...? `` for a misspelt name, or nothing where no known one is near."""
    close = difflib.get_close_matches(word, list(known), n=3)
    return f"Did you mean {' or '.join(map(repr, close))}? " if close else ""


def _method(config: FeatureConfig) -> str:
    return f"{'encoder' if config.encoder else 'captioner'} {config.method!r}"


def _listed(names: Collection[str]) -> str:
    return ", ".join(repr(n) for n in sorted(names))
