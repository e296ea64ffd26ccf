"""What is asked, as a transformers processor takes it: a conversation in the model's own notation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from mmfeat.extract.chat.question import Calls, Question
from mmfeat.extract.clips import lengthened
from mmfeat.extract.describers.captions.turns import Conversation, Turn
from mmfeat.schemas.media import Frames
from mmfeat.schemas.sound import Sound


class Questions(Calls):
    """Makes questions for one processor.

    Args:
        told: further arguments of the chat template.
    """

    def __init__(self, processor: Any, told: dict[str, Any], sound_in_video: bool) -> None:
        super().__init__(processor, sound_in_video)
        self._told = told

    def question(self, turns: Conversation) -> Question:
        """The conversation as the model's chat template writes it, up to where the answer begins."""
        sounds = [turn.sound for turn in turns if turn.sound is not None]
        return Question(
            self.text(turns),
            [picture for turn in turns if turn.pictures is not None for picture in turn.pictures],
            [lengthened(turn.clip, self.merged) for turn in turns if turn.clip is not None],
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


def no_place(questions: Questions, seen: Iterable[str]) -> str | None:
    """What of ``video`` and ``audio`` the chat template has no place for; None if it has for all."""
    blank = Turn("user", "x")
    pixels = np.zeros((1, 1, 1, 3), np.uint8)
    shown = {
        "video": Turn("user", "x", clip=Frames(pixels, (0.0,))),
        "audio": Turn("user", "x", sound=Sound(np.zeros(1, np.float32), 1, ((0.0, 1.0, 1),), 0.0)),
    }
    without = questions.text((blank,))
    return next((kind for kind in seen if questions.text((shown[kind],)) == without), None)
