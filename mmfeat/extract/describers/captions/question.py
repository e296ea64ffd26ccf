"""What is asked, as a transformers processor takes it: text in the model's own notation, pictures, video and
sound."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from mmfeat.extract.clips import frame_rate, lengthened, metadata
from mmfeat.extract.describers.captions.turns import Conversation, Turn
from mmfeat.schemas.media import Frames
from mmfeat.schemas.sound import Sound


@dataclass(frozen=True)
class Question:
    """A conversation in the model's own notation, and what it shows and lets hear, in the order of the places
    that this has in the text.

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


class Questions:
    """Makes questions for one processor.

    Args:
        told: further arguments of the chat template.
        sound_in_video: whether sound is heard inside the video, between its frames, as Qwen's omni models
            take it, or after it.
    """

    def __init__(self, processor: Any, told: dict[str, Any], sound_in_video: bool) -> None:
        self.processor = processor
        self.sound_in_video = sound_in_video
        self._told = told
        # Frames that the model merges to one, of which a video has at least so many.
        self._merged = getattr(getattr(processor, "video_processor", None), "temporal_patch_size", 1)
        # Qwen's omni processors take one rate of frames for all videos of a call.
        self._one_rate = "Omni" in type(processor).__name__

    def question(self, turns: Conversation) -> Question:
        """The conversation as the model's chat template writes it, up to where the answer begins."""
        sounds = [turn.sound for turn in turns if turn.sound is not None]
        return Question(
            self.text(turns),
            [picture for turn in turns if turn.pictures is not None for picture in turn.pictures],
            [lengthened(turn.clip, self._merged) for turn in turns if turn.clip is not None],
            [part for sound in sounds for part in sound.parts],
            sounds[0].sample_rate if sounds else 0,
        )

    def text(self, turns: Conversation) -> str:
        """Of a question: with one place for each thing that is shown or heard."""
        messages = [{"role": turn.role, "content": self._content(turn)} for turn in turns]
        written = self.processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False, **self._told
        )
        return str(written)

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
        # The chat template wrote the special tokens already.
        written = {"padding": True, "add_special_tokens": False}
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

    def _content(self, turn: Turn) -> list[dict[str, str]]:
        pictures = 0 if turn.pictures is None else len(turn.pictures)
        sounds = 0 if turn.sound is None else len(turn.sound.windows)
        if self.sound_in_video and turn.clip is not None:
            sounds = 0
        return [
            *([{"type": "video"}] * (turn.clip is not None)),
            *([{"type": "image"}] * pictures),
            *([{"type": "audio"}] * sounds),
            {"type": "text", "text": turn.text},
        ]

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


def no_place(questions: Questions, seen: Iterable[str]) -> str | None:
    """What of ``video`` and ``audio`` the chat template has no place for; None where it has for all."""
    blank = Turn("user", "x")
    pixels = np.zeros((1, 1, 1, 3), np.uint8)
    shown = {
        "video": Turn("user", "x", clip=Frames(pixels, (0.0,))),
        "audio": Turn("user", "x", sound=Sound(np.zeros(1, np.float32), 1, ((0.0, 1.0, 1),), 0.0)),
    }
    without = questions.text((blank,))
    return next((kind for kind in seen if questions.text((shown[kind],)) == without), None)
