"""What a chat model is asked of one item: turns of a conversation, with what is shown and heard in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mmfeat.schemas.media import Frames, Pictures
from mmfeat.schemas.sound import Sound


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation. What is shown and heard is of a user's turn only, and before the text.

    Attributes:
        pictures: uint8 ``[height, width, 3]`` RGB each.
        clip: frames that are shown as one video, with their times.
        sound: its windows are heard one after the other.
    """

    role: Literal["user", "assistant"]
    text: str
    pictures: np.ndarray | Sequence[np.ndarray] | None = None
    clip: Frames | None = None
    sound: Sound | None = None


#: The last turn is the user's, and the reply answers it.
Conversation = tuple[Turn, ...]


@dataclass(frozen=True)
class Item:
    """One item as a question is made of it: its frames (one of an image) or its pictures, its sound, and the
    texts that prompts name.

    An optional text that the item lacks is empty; what is not read, or lacks and is optional, is None.
    """

    frames: Frames | Pictures | None
    texts: dict[str, str] = field(default_factory=dict)
    sound: Sound | None = None

    @property
    def clip(self) -> Frames:
        """The frames of a clip, which alone has scenes."""
        assert isinstance(self.frames, Frames), "resolve asks for scenes of clips only"
        return self.frames


def scenes_of(frames: Frames) -> Iterator[Frames]:
    """The frames of each scene of a clip."""
    start = 0
    for scene in frames.scenes:
        end = start + scene.frames
        yield Frames(frames.pixels[start:end], frames.times[start:end])
        start = end


def times_of(shown: Frames | Pictures | None) -> str:
    """When the frames of a clip are shown, in words."""
    times = shown.times if isinstance(shown, Frames) else ()
    return ", ".join(f"{time:.1f} s" for time in times)
