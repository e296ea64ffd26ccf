"""What the inputs of an item give one message to a model, whichever library loads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from mmfeat.extract.base import Row
from mmfeat.extract.clips import lengthened
from mmfeat.schemas.media import Frames, Pictures
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import FeatureSpec

#: A modality and its value: text ``str``, image uint8 ``[height, width, 3]``, video :class:`Frames`, audio
#: float32 ``[samples]``.
Part = tuple[str, Any]


def parts_of(modality: str, value: Any, videos: bool, merged: int = 1) -> Iterator[Part]:
    """What one input gives a message, in order; nothing of what an item lacks.

    Args:
        videos: whether a clip is one video; else its frames are so many pictures.
        merged: frames that the model merges to one, of which a video has at least so many.
    """
    if isinstance(value, Sound):
        yield from (("audio", window) for window in value.parts)
    elif isinstance(value, Pictures):
        yield from (("image", pixels) for pixels in value.pixels)
    elif isinstance(value, Frames) and modality == "video" and videos:
        yield "video", lengthened(value, merged)
    elif isinstance(value, Frames):
        yield from (("image", pixels) for pixels in value.pixels)
    elif value is not None:
        yield "text", value


def parts_of_rows(
    spec: FeatureSpec, rows: Sequence[Row], parts: Callable[[str, Any], Iterable[Part]]
) -> list[list[Part]]:
    """The message of each item: what each input gives, in the order of the feature's inputs.

    Args:
        parts: what an input of a modality gives.
    """
    inputs = spec.given
    return [
        [part for read, value in zip(inputs, row, strict=True) for part in parts(read.modality, value)]
        for row in rows
    ]


def size_of(parts: Sequence[Part]) -> int:
    """By which messages are sorted: characters, and pixels."""
    return sum(len(value) if modality == "text" else _pixels(value) for modality, value in parts)


def _pixels(value: Any) -> int:
    return int(value.pixels.size if isinstance(value, Frames) else value.size)
