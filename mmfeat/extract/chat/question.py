"""What a chat model is shown and told, as a transformers processor takes it: text in the notation of the
model, pictures, video and sound."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from mmfeat.extract.clips import frame_rate, metadata
from mmfeat.schemas.media import Frames


@dataclass(frozen=True)
class Question:
    """A conversation or message in the model's own notation, and what it shows and lets hear, in the order of
    the places that this has in the text.

    Attributes:
        sounds: float32 ``[samples]`` each.
        sample_rate: of the sounds.
    """

    text: str
    pictures: Sequence[np.ndarray] = ()
    clips: Sequence[Frames] = ()
    sounds: Sequence[np.ndarray] = ()
    sample_rate: int = 0

    @property
    def digest(self) -> bytes:
        """SHA-256 of all of it."""
        digest = hashlib.sha256(self.text.encode())
        for picture in self.pictures:
            digest.update(np.ascontiguousarray(picture).tobytes())
        for clip in self.clips:
            digest.update(repr(clip.times).encode() + np.ascontiguousarray(clip.pixels).tobytes())
        for sound in self.sounds:
            digest.update(np.ascontiguousarray(sound).tobytes())
        return digest.digest()


class Calls:
    """Which questions one call of a processor takes, and the call.

    Args:
        processor: or the tokenizer, of a model that takes texts alone.
        sound_in_video: whether sound is heard inside the video, between its frames, as Qwen's omni models
            take it, or after it.
        special_tokens: whether the tokenizer puts its own tokens around a text; no where the chat template
            wrote them already.
    """

    def __init__(self, processor: Any, sound_in_video: bool = False, special_tokens: bool = False) -> None:
        self.processor = processor
        self.sound_in_video = sound_in_video
        self.special_tokens = special_tokens
        # Frames that the model merges to one, of which a video has at least so many.
        self.merged = getattr(getattr(processor, "video_processor", None), "temporal_patch_size", 1)
        # Qwen's omni processors take one rate of frames for all videos of a call.
        self._one_rate = "Omni" in type(processor).__name__

    def together(self, questions: Sequence[Question], at_once: int) -> list[list[int]]:
        """Which questions one call can take: their numbers, at most ``at_once`` in each call.

        Processors write some facts of a video once for a whole call: SmolVLM the number of frames, Qwen's
        omni models the rate of frames and whether sound is inside. Only videos that agree in these go
        together, or a text would depend on its neighbours.
        """
        calls = []
        numbers = sorted(range(len(questions)), key=lambda n: self._facts(questions[n]))
        for _, alike in groupby(numbers, key=lambda n: self._facts(questions[n])):
            mine = list(alike)
            calls += [mine[start : start + at_once] for start in range(0, len(mine), at_once)]
        return calls

    def encoded(self, questions: Sequence[Question]) -> Any:
        """The processor's tensors of questions that go together, padded."""
        written = {"padding": True, "add_special_tokens": self.special_tokens}
        sounds = self._sounds(questions)
        return self.processor(
            text=[one.text for one in questions],
            return_tensors="pt",
            # Said of the text by name, or sounds would be padded so too: each model has its own way for them.
            **({"text_kwargs": written} if sounds else written),
            **self._pictures(questions),
            **self._clips(questions),
            **sounds,
        )

    def hears_inside(self, questions: Sequence[Question]) -> bool:
        """Whether these have sound inside their videos."""
        return self.sound_in_video and any(one.sounds and one.clips for one in questions)

    def _facts(self, question: Question) -> tuple[Any, ...]:
        rates = [round(frame_rate(clip), 6) for clip in question.clips] if self._one_rate else []
        inside = self.sound_in_video and bool(question.sounds)
        return [len(clip.times) for clip in question.clips], rates, inside

    def _pictures(self, questions: Sequence[Question]) -> dict[str, Any]:
        from PIL import Image

        # PIL images, not arrays: a processor guesses the channel axis of an array, and guesses wrong
        # for a picture three pixels high.
        pictures = [[Image.fromarray(picture) for picture in one.pictures] for one in questions]
        return {"images": pictures} if any(pictures) else {}

    def _clips(self, questions: Sequence[Question]) -> dict[str, Any]:
        clips = [clip for one in questions for clip in one.clips]
        if not clips:
            return {}
        how: dict[str, Any] = {
            "do_sample_frames": False,
            "input_data_format": "channels_last",
            "video_metadata": [metadata(clip) for clip in clips],
        }
        if self._one_rate:
            how["fps"] = frame_rate(clips[0])
        return {"videos": [clip.pixels for clip in clips], "videos_kwargs": how}

    def _sounds(self, questions: Sequence[Question]) -> dict[str, Any]:
        sounds = [sound for one in questions for sound in one.sounds]
        if not sounds:
            return {}
        rate = next(one.sample_rate for one in questions if one.sounds)
        shown: dict[str, Any] = {"audio": sounds, "sampling_rate": rate}
        if self.hears_inside(questions):
            shown |= {"load_audio_from_video": True, "audio_from_video_indices": list(range(len(sounds)))}
        return shown
