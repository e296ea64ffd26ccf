"""What a transformers model takes beside text and pictures, by its configuration files: no weight is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmfeat.extract.base import Ask
from mmfeat.schemas.inputs import AudioPrepare

#: What is heard if neither a job nor the model's own files say more: 30 s are what Whisper's encoder
#: takes at once, which most audio language models begin with.
USUAL_SOUND = AudioPrepare(sample_rate=16_000, seconds=30.0)
#: The part that reads and writes text of models that speak too, which is all that a caption needs: the
#: class in transformers, by the model's type.
THINKERS = {
    "qwen2_5_omni": "Qwen2_5OmniThinkerForConditionalGeneration",
    "qwen3_omni_moe": "Qwen3OmniMoeThinkerForConditionalGeneration",
}
#: Types of models that take a video's own sound in between its frames.
_HEAR_VIDEOS = {*THINKERS, *(f"{kind}_thinker" for kind in THINKERS)}
# Take one sound in a question and cut it up: so many seconds where their files say nothing.
_CUT_UP = {"audioflamingo3", "musicflamingo"}
_MOST_CUT_UP = 600
# Seconds after which feature extractors cut a sound off whose files do not say so.
_LONGEST = {"gemma3n": 30, "gemma4": 30}


def hearing(ask: Ask[Any], folder: Path) -> AudioPrepare:
    """The sample rate that a model hears, and one window as long as it takes at once.

    The files of its feature extractor say both: ``sampling_rate``, and ``chunk_length`` in seconds where
    there is a longest window (Whisper's, which most audio language models have, says 30).

    Raises:
        ConfigError: the model has no feature extractor for sound, or does not take such windows.
    """
    extractor = _read(folder, "processor_config.json").get("feature_extractor") or {}
    files = [extractor, _read(folder, "preprocessor_config.json")]
    said = next((one for one in files if "sampling_rate" in one), None)
    if said is None:
        raise ask.error(
            f"{ask.options.model!r} hears nothing: its files name no sampling_rate of a feature extractor",
            "Take an audio or omni model, such as Qwen/Qwen2-Audio-7B-Instruct or Qwen/Qwen2.5-Omni-3B.",
        )
    at_once = said.get("chunk_length") or _LONGEST.get(model_type(folder))
    _check_windows(ask, folder, at_once)
    return AudioPrepare(sample_rate=said["sampling_rate"], seconds=float(at_once or USUAL_SOUND.seconds or 0))


def _check_windows(ask: Ask[Any], folder: Path, at_once: float | None) -> None:
    """ConfigError for windows that the processor refuses, or whose end it would cut off without a word."""
    options, longest = ask.options, at_once
    if model_type(folder) in _CUT_UP:
        longest = _read(folder, "processor_config.json").get("max_audio_len", _MOST_CUT_UP)
        if options.windows in ("all", "uniform"):
            raise ask.error(
                f"{options.model!r} takes one sound in a question, and cuts a long one up itself",
                f"Leave windows out, and set window_seconds: {longest:g} at most.",
            )
    if longest is not None and (options.window_seconds or 0) > longest:
        raise ask.error(
            f"{options.model!r} hears {longest:g} s at once, and window_seconds is "
            f"{options.window_seconds:g}",
            'Take shorter windows, and several of them where the model can: windows = "all", max_windows.',
        )


def check_takes_video(ask: Ask[Any], folder: Path) -> None:
    """ConfigError for a model whose processor takes no video, as far as its files and transformers say."""
    if not takes_video(folder):
        raise ask.error(
            f'{ask.options.model!r} takes no video, which as = "video" would show it',
            'Leave as out (or as = "frames"): the frames are shown as pictures, in order of time.',
        )


def takes_video(folder: Path) -> bool:
    """Whether a model's processor takes video, as far as its files and transformers say. Older folders have
    no file that says so."""
    in_files = (folder / "video_preprocessor_config.json").is_file() or (
        "video_processor" in _read(folder, "processor_config.json")
    )
    return in_files or _has_video_processor(model_type(folder))


def check_hears_videos(ask: Ask[Any], folder: Path) -> None:
    """ConfigError for a model that does not take a video's sound in between its frames."""
    if model_type(folder) not in _HEAR_VIDEOS:
        raise ask.error(
            f"{ask.options.model!r} takes no sound inside a video: use_audio_in_video is for "
            "Qwen2.5-Omni and Qwen3-Omni",
            "Leave it out: the sound is then heard after the frames.",
        )


def model_type(folder: Path) -> str:
    """The type of model that a folder's configuration names; empty if it names none."""
    return str(_read(folder, "config.json").get("model_type", ""))


def _has_video_processor(kind: str) -> bool:
    """Whether transformers has one for a type of model."""
    from transformers.models.auto import video_processing_auto as known

    return kind in known.VIDEO_PROCESSOR_MAPPING_NAMES  # type: ignore[attr-defined]


def _read(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of a model; empty if there is none, or none that is an object."""
    try:
        body = json.loads((folder / name).read_text())
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}
