"""The video models of transformers that take a clip as a clip: what they are given and what is read of them.

Poolings are those of the models' own code and papers: the mean of all tokens of VideoMAE (arXiv 2203.12602),
V-JEPA 2 (arXiv 2506.09985; without its predictor) and VideoPrism (arXiv 2402.13217), the CLS token that
TimeSformer's and ViViT's classifiers read, and the head of X-CLIP, VideoPrism LVT and Perception Encoder AV
that is trained against texts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

ClipPooling = Literal["cls", "mean"]


@dataclass(frozen=True)
class VideoModel:
    """What is known of one kind of model.

    Attributes:
        pixels: the argument that takes float32 ``[n, frames, 3, height, width]``.
        frames: how many frames a clip of this configuration has.
        read: ``read(model, {pixels: ...})`` gives ``[n, tokens, dims]``; if there are no ``poolings``, the
            head's ``[n, dims]``.
        poolings: what can be made of the tokens, the usual one first. With ``cls`` the first token is CLS.
        step: a multiple of which other numbers of frames may be; None if a clip has exactly ``frames``.
        read_text: ``read_text(model, tokens)`` gives ``[n, dims]`` beside the clips'; None without texts.
        pad: how the tokenizer pads texts, to ``length`` tokens at most.
        unused: parts of names of weights that nothing reads.
        processor: the class of transformers whose ``from_pretrained`` gives its processor of frames.
        plain: whether pixels stay within 0 and 1, whatever its processor's file says of normalising.
    """

    pixels: str
    frames: Callable[[Any], int]
    read: Callable[[Any, dict[str, torch.Tensor]], torch.Tensor]
    poolings: tuple[ClipPooling, ...] = ()
    step: Callable[[Any], int] | None = None
    read_text: Callable[[Any, Any], torch.Tensor] | None = None
    pad: Literal["longest", "max_length"] = "longest"
    length: Callable[[Any], int] = lambda config: int(config.text_config.max_position_embeddings)
    unused: tuple[str, ...] = ()
    processor: str = "AutoVideoProcessor"
    plain: bool = False


def _tokens(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    tokens: torch.Tensor = model(**inputs).last_hidden_state
    return tokens


def _tokens_of_encoder(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    tokens: torch.Tensor = model(**inputs, skip_predictor=True).last_hidden_state
    return tokens


def _head(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    # VideoPrism's has one row per clip and a token's axis between.
    pooled: torch.Tensor = model.get_video_features(**inputs).pooler_output.flatten(1)
    return pooled


def _text_head(model: Any, tokens: Any) -> torch.Tensor:
    pooled: torch.Tensor = model.get_text_features(**tokens).pooler_output
    return pooled


def _perception(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """As ``PeVideoModel.forward`` makes ``video_embeds``, without the texts that it wants beside them."""
    tower = getattr(model, "video_model", model)
    embeds: torch.Tensor = tower.video_head(tower.video_encoder(**inputs).pooler_output)
    return embeds


def _perception_text(model: Any, tokens: Any) -> torch.Tensor:
    """As ``PeVideoModel.forward`` makes ``text_video_embeds``."""
    tower = getattr(model, "video_model", model)
    outputs = tower.text_model(**tokens, output_hidden_states=True)
    embeds: torch.Tensor = tower.text_video_head(outputs.hidden_states[-1][:, 0])
    return embeds


def _own_frames(config: Any) -> int:
    return int(getattr(config, "vision_config", config).num_frames)


_PERCEPTION = VideoModel(
    "pixel_values_videos", lambda _: 16, _perception, step=lambda _: 1, read_text=_perception_text
)

#: By ``model_type`` of a model's ``config.json``.
VIDEO_MODELS: dict[str, VideoModel] = {
    "videomae": VideoModel("pixel_values", _own_frames, _tokens, ("mean",)),
    "vjepa2": VideoModel(
        "pixel_values_videos",
        lambda config: int(config.frames_per_clip),
        _tokens_of_encoder,
        ("mean",),
        step=lambda config: int(config.tubelet_size),
        unused=("predictor.",),
    ),
    "timesformer": VideoModel("pixel_values", _own_frames, _tokens, ("cls", "mean")),
    "vivit": VideoModel("pixel_values", _own_frames, _tokens, ("cls", "mean"), unused=("pooler.",)),
    "videoprism_vision_model": VideoModel("pixel_values_videos", _own_frames, _tokens, ("mean",), plain=True),
    "videoprism": VideoModel(
        "pixel_values_videos",
        _own_frames,
        _head,
        read_text=_text_head,
        pad="max_length",
        plain=True,
    ),
    "xclip": VideoModel(
        "pixel_values", _own_frames, _head, read_text=_text_head, processor="AutoImageProcessor"
    ),
    "pe_video": _PERCEPTION,
    "pe_audio_video": _PERCEPTION,
}


def _answer(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """What a model of its own code says of clips: ``get_video_embeddings(...).visual_proj`` as Cosmos-Embed1,
    or ``get_video_features`` as transformers' own models, a tensor or its ``pooler_output``."""
    vectors: torch.Tensor
    if hasattr(model, "get_video_embeddings"):
        found = model.get_video_embeddings(**inputs)
        vectors = getattr(found, "visual_proj", found)
    else:
        found = model.get_video_features(**inputs)
        vectors = getattr(found, "pooler_output", found)
    return vectors


def _frames_of_code(config: Any) -> int:
    return int(getattr(config, "num_frames", None) or getattr(config, "num_video_frames", None) or 8)


#: A model that brings its own code.
OWN_CODE = VideoModel("", _frames_of_code, _answer, step=lambda _: 1)
