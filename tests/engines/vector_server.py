"""A real HTTP server that fakes ``/v1/embeddings``: no model is behind it, as each of its answers says.

It speaks the form of OpenAI (texts), of vLLM (messages) and of SGLang (objects of a text and a picture). Its
vectors are made of letters, colours and loudness, so that a test can tell what of an item it was shown.
"""

from __future__ import annotations

import base64
import io
import wave
from typing import Any

import numpy as np
from chat_server import ModelServer
from PIL import Image

MODEL = "no-model-but-a-fake"
DIMS = 24
#: Places of a vector: how often each of these letters is there, then colours, then loudness.
LETTERS = "abcdefghijklmnopqrs"
SYSTEM = 1000.0


class VectorServer(ModelServer):
    """``/v1/embeddings`` without a model.

    Attributes:
        as_numbers: whether vectors are given as numbers, whatever encoding is asked for.
    """

    path = "/v1/embeddings"
    name = MODEL

    def __init__(self) -> None:
        super().__init__()
        self.as_numbers = False

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """Vectors in the reverse order of what was asked, which the API allows."""
        vectors = [cut(vector, body) for vector in vectors_of(body)]
        data = [{"index": at, "embedding": self._written(one, body)} for at, one in enumerate(vectors)]
        tokens = 5 * len(vectors)
        return {
            "model": "fake: no model made these vectors",
            "data": data[::-1],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    def _written(self, vector: np.ndarray, body: dict[str, Any]) -> Any:
        if self.as_numbers or body["encoding_format"] != "base64":
            return [float(number) for number in vector]
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def vectors_of(body: dict[str, Any]) -> list[np.ndarray]:
    """A vector for each question of a request, in order."""
    if "messages" in body:
        return [of_messages(body["messages"])]
    return [of_text(one) if isinstance(one, str) else of_pair(one) for one in body["input"]]


def of_text(text: str) -> np.ndarray:
    vector = np.zeros(DIMS, np.float32)
    vector[: len(LETTERS)] = [text.count(letter) for letter in LETTERS]
    return vector


def of_picture(url: str) -> np.ndarray:
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))
    vector = np.zeros(DIMS, np.float32)
    vector[len(LETTERS) : len(LETTERS) + 3] = pixels.reshape(-1, 3).mean(axis=0)
    return vector


def of_sound(data: str) -> np.ndarray:
    with wave.open(io.BytesIO(base64.b64decode(data))) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32_767
    vector = np.zeros(DIMS, np.float32)
    vector[-2] = np.abs(samples).mean()
    return vector


def of_pair(pair: dict[str, str]) -> np.ndarray:
    vector = of_text(pair.get("text", ""))
    return vector + of_picture(pair["image"]) if "image" in pair else vector


def of_messages(messages: list[dict[str, Any]]) -> np.ndarray:
    """The parts in their order, of which later ones weigh more, and the system's text a thousand times."""
    vector = np.zeros(DIMS, np.float32)
    for message in messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for place, part in enumerate(parts, 1):
            weight = SYSTEM if message["role"] == "system" else place
            vector += weight * of_part(part)
    return vector


def of_part(part: dict[str, Any]) -> np.ndarray:
    if part["type"] == "text":
        return of_text(part["text"])
    if part["type"] == "image_url":
        return of_picture(part["image_url"]["url"])
    return of_sound(part["input_audio"]["data"])


def cut(vector: np.ndarray, body: dict[str, Any]) -> np.ndarray:
    return vector[: body.get("dimensions")]
