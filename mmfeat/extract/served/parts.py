"""Pictures, sounds and texts as parts of what is asked of a server, and their digests."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from mmfeat.extract.served.wav import wav_of
from mmfeat.schemas.sound import Sound

#: How a picture travels: as a spec says, or, to an engine on the same machines, in an uncompressed file. Of
#: ``png`` and ``bmp`` the pixels are the same, and ``bmp`` is several times as quick to write and to read.
SentFormat = Literal["png", "jpeg", "bmp"]

# Speed over size where it costs no pixel: level 1 is several times as fast as Pillow's default.
_SAVED: dict[SentFormat, dict[str, Any]] = {
    "png": {"compress_level": 1},
    "jpeg": {"quality": 95, "subsampling": 0},
    "bmp": {},
}

# Words that chat templates use to end a turn or to stand for a picture, in the models that are served.
_CONTROL = re.compile(
    r"<\|[^<>|]*\|>|<[|]?(?:/?s|bos|eos|pad|image|video|audio|img|im_start|im_end|(?:start|end)_of_turn"
    r"|(?:image|video|audio)_soft_token|end_of_utterance|fake_token_around_image)[|]?>|\[/?(?:INST|IMG)\]"
)


def sanitised(text: str) -> str:
    """A text without the words that chat templates take for control."""
    return _CONTROL.sub(" ", text)


def sound_digest(sound: Sound) -> str:
    """SHA-256 of a sound's samples, whatever a codec makes of them."""
    windows = [samples for _, _, samples in sound.windows]
    heard = np.ascontiguousarray(sound.samples).tobytes()
    return hashlib.sha256(repr((sound.sample_rate, windows)).encode() + heard).hexdigest()


def samples_digest(samples: np.ndarray, sample_rate: int) -> str:
    """SHA-256 of float32 ``[samples]`` at so many a second."""
    return hashlib.sha256(repr(sample_rate).encode() + np.ascontiguousarray(samples).tobytes()).hexdigest()


def pixel_digest(pictures: np.ndarray | Sequence[np.ndarray] | None) -> str:
    """SHA-256 of each picture's pixels; empty if there is none."""
    if pictures is None:
        return ""
    if not isinstance(pictures, np.ndarray):
        return "+".join(map(pixel_digest, pictures))
    return hashlib.sha256(
        repr(pictures.shape).encode() + np.ascontiguousarray(pictures).tobytes()
    ).hexdigest()


def input_audio(samples: np.ndarray, sample_rate: int) -> dict[str, Any]:
    """A sound as chat completions take it: the base64 of a WAV file, 16 bits a sample.

    Args:
        samples: float32 ``[samples]`` in [-1, 1].
    """
    data = base64.b64encode(wav_of(samples, sample_rate)).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def data_url(picture: np.ndarray, sent_as: SentFormat) -> str:
    """A picture, uint8 ``[height, width, 3]`` RGB, as an address that holds it."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, sent_as, **_SAVED[sent_as])
    return f"data:image/{sent_as};base64,{base64.b64encode(stream.getvalue()).decode()}"
