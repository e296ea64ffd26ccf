"""Recipes of ``encoder = "mllm"``: how a published embedder is asked and where its vector is read."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mmfeat.extract.encoders.message_parts import Part

#: Which tokens' states become the vector. ``eos``: that of the end token, put behind the message.
TokenPooling = Literal["last", "mean", "eos"]

# Where a picture or video stands in the text of Qwen's models.
_QWEN_PLACES = {
    "image": "<|vision_start|><|image_pad|><|vision_end|>",
    "video": "<|vision_start|><|video_pad|><|vision_end|>",
}
_MEDIA_FIRST = ("video", "image", "audio", "text")


@dataclass(frozen=True)
class Message:
    """What one item is to the model, before it is written down.

    Attributes:
        parts: what is read of the item, in order.
        instruction: None for the recipe's own words.
        chat: writes messages by the folder's chat template, up to where the answer begins.
    """

    parts: Sequence[Part]
    instruction: str | None
    chat: Callable[[list[dict[str, Any]]], str]

    @property
    def texts(self) -> list[str]:
        """The texts that are read."""
        return [value for modality, value in self.parts if modality == "text"]

    @property
    def text(self) -> str:
        """All of them, one a line."""
        return "\n".join(self.texts)

    @property
    def media(self) -> list[str]:
        """The modality of each thing that is shown or heard."""
        return [modality for modality, _ in self.parts if modality != "text"]


@dataclass(frozen=True)
class Recipe:
    """How an embedder is used by those who published it.

    Attributes:
        write: the text of a message, with a place for each thing that is shown or heard.
        model_types: the types of models that it is for.
        takes: the modalities that it says something of.
        source: where the rule stands.
        order: of what is read, by modality; None for that of the feature's inputs.
        special_tokens: whether the tokenizer puts its own tokens around the text.
        max_tokens: where each text is cut.
        picture_tokens: fewest and most tokens of a picture; None for the processor's own bounds.
        frames: the sampling of a clip where the feature says nothing.
        plain_positions: whether every token, of a picture too, stands one place behind the one before.
        differs: from the published code, in words; None if it does not.
    """

    write: Callable[[Message], str]
    model_types: tuple[str, ...]
    takes: tuple[str, ...]
    source: str
    pooling: TokenPooling = "last"
    normalize: bool = True
    order: tuple[str, ...] | None = _MEDIA_FIRST
    special_tokens: bool = False
    max_tokens: int | None = None
    picture_tokens: tuple[int, int] | None = None
    frames: dict[str, Any] = field(default_factory=dict)
    plain_positions: bool = False
    differs: str | None = None

    def ordered(self, parts: Sequence[Part]) -> list[Part]:
        """What is read, in the recipe's order."""
        if self.order is None:
            return list(parts)
        places = {modality: place for place, modality in enumerate(self.order)}
        return sorted(parts, key=lambda part: places[part[0]])


def chat_message(message: Message) -> str:
    """By the folder's own chat template: the instruction is the system's, the rest the user's, in order."""
    system = [_turn("system", [("text", message.instruction)])] if message.instruction else []
    return message.chat([*system, _turn("user", message.parts)])


def plain_text(message: Message) -> str:
    """Of a model without a chat template: the instruction on a line of its own, then the texts."""
    return "\n".join(([message.instruction] if message.instruction else []) + message.texts)


def _turn(role: str, parts: Sequence[Part]) -> dict[str, Any]:
    content = [{"type": "text", "text": value} if kind == "text" else {"type": kind} for kind, value in parts]
    return {"role": role, "content": content}


def _qwen_turns(system: str, user: str) -> str:
    return (
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
    )


def _qwen_places(message: Message) -> str:
    return "".join(_QWEN_PLACES[modality] for modality in message.media)


def _qwen3_vl(message: Message) -> str:
    asked = (message.instruction or "").strip() or "Represent the user's input."
    if not unicodedata.category(asked[-1]).startswith("P"):
        asked += "."
    return _qwen_turns(asked, _qwen_places(message) + "".join(message.texts))


def _gme(message: Message) -> str:
    asked = message.instruction or "You are a helpful assistant."
    return _qwen_turns(asked, _qwen_places(message) + message.text) + "<|endoftext|>"


def _vlm2vec(message: Message) -> str:
    """Words joined by blanks, behind a bare token for what is seen. A text alone has no instruction."""
    asked = message.instruction
    if asked is None:
        seen = "video" if "video" in message.media else "image"
        if not message.media:
            asked = ""
        elif seen == "video":
            asked = "Understand the content of the provided video."
        elif message.texts:
            asked = "Represent the given image with related text information:"
        else:
            asked = "Represent the given image."
    places = [f"<|{modality}_pad|>" for modality in message.media]
    return " ".join([*places, *([asked] if asked else []), *([message.text] if message.texts else [])])


def _lco(message: Message) -> str:
    """What is summarised is named where it is of one kind."""
    kinds = dict.fromkeys(modality for modality, _ in message.parts)
    what = f" {next(iter(kinds))}" if len(kinds) == 1 else ""
    asked = message.instruction or f"Summarize the above{what} in one word:"
    seen = [(modality, None) for modality in message.media]
    return message.chat([_turn("user", [*seen, ("text", f"{message.text}\n{asked}")])])


def _unime(message: Message) -> str:
    seen, said = bool(message.media), bool(message.texts)
    what = " and ".join([*(["image"] if seen else []), *(["sentence"] if said else [])])
    asked = message.instruction or f"Summary above {what} in one word:"
    lines = [*["<image>" for _ in message.media], *([message.text] if said else []), f"{asked} [/INST]"]
    return "[INST] " + "\n".join(lines)


_SECOND_BY_SECOND = {"sampling": "fps", "fps": 1.0, "frames": 64}

#: By the name that a feature's table gives.
RECIPES = {
    "qwen3-vl-embedding": Recipe(
        _qwen3_vl,
        ("qwen3_vl", "qwen3_vl_moe"),
        ("text", "image", "video"),
        "Qwen3-VL-Embedding, src/models/qwen3_vl_embedding.py",
        special_tokens=True,
        max_tokens=8192,
        picture_tokens=(4, 1800),
        frames=_SECOND_BY_SECOND,
        differs="The pixels of a clip are bounded by max_side and the folder's own video processor.",
    ),
    "gme": Recipe(
        _gme,
        ("qwen2_vl",),
        ("text", "image"),
        "GME, gme_inference.py, and mteb, gme_v_models.py",
        special_tokens=True,
        max_tokens=1800,
        picture_tokens=(4, 1280),
        differs="A text that is too long is cut, and the end token, whose state is read, stays.",
    ),
    "vlm2vec-v2": Recipe(
        _vlm2vec,
        ("qwen2_vl",),
        ("text", "image", "video"),
        "VLM2Vec, src/model/processor.py, process_input_text",
        special_tokens=True,
        plain_positions=True,
        frames={"frames": 8},
        differs="A LoRA is to be merged into its Qwen2-VL first; a clip's pixels are bounded by max_side.",
    ),
    "lco-omni": Recipe(
        _lco,
        ("qwen2_5_omni", "qwen2_5_omni_thinker"),
        ("text", "image", "video", "audio"),
        "LCO-Embedding, README.md",
        frames={"sampling": "fps", "fps": 2.0, "frames": 64},
    ),
    "unime": Recipe(
        _unime,
        ("llava_next",),
        ("text", "image"),
        "UniME, README.md and self_evaluate/utils/utils.py (LLaVA-1.6)",
        special_tokens=True,
        differs="Words for a picture with a sentence are not published; they follow those for one of them.",
    ),
    "alpharec": Recipe(
        plain_text,
        ("llama",),
        ("text",),
        "AlphaRec (arXiv 2407.05441), the state of the last token of a title",
        normalize=False,
        special_tokens=True,
        max_tokens=128,
    ),
}  # fmt: skip
