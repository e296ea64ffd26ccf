"""The families of models whose vectors are frozen: a tiny seeded model each, inputs, and upstream's vectors.

One more family is one more line of :data:`FAMILIES`, or of the table of tiny models that it is made from;
then run ``write_vectors.py``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import timm
import torch
import transformers
from helpers import (
    sentence_models,
    sound_models,
    tiny_listeners,
    tiny_pictures,
    tiny_sounds,
    tiny_texts,
    tiny_videos,
)
from helpers.sound_checks import chord, heard
from helpers.tiny_weights import seeded
from PIL import Image
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from mmfeat.extract.base import Placement, Row
from mmfeat.extract.modalities.decoders.views import render_view
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.schemas.catalog import Column
from mmfeat.schemas.media import Frames, Pictures
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec

MODELS = Path(__file__).parents[1] / "models"
COLUMNS = {
    name: Column(name, modality, several=name == "photos")
    for name, modality in {
        "title": "text", "cover": "image", "photos": "image", "video": "video", "audio": "audio",
    }.items()
}  # fmt: skip
_RATE = 16_000

# Inputs as an item has them -----------------------------------------------------------------------------

_PICTURES = [
    sentence_models.picture(1),
    sentence_models.picture(2, 64, 32),
    sentence_models.picture(3, 96, 80),
]
_CLIPS = tiny_videos.clips(2)
_SOUNDS = [chord(seconds, _RATE, seed) for seed, seconds in enumerate((0.4, 1.3, 0.61))]
_TEXTS = ["a red shoe", "a blue hat of wool", "warm in any winter a hat of red wool"]
_SEEN = [
    ("A red shoe", Pictures((sentence_models.picture(1), sentence_models.picture(2, 64, 32)))),
    ("A blue hat of wool, warm in any winter", Pictures((sentence_models.picture(3),))),
    ("x", None),
]
_HEARD = [
    (*_SEEN[0], sentence_models.moving(20, 2), sentence_models.tone(440, 0.5)),
    (*_SEEN[1], None, sentence_models.tone(330, 0.3)),
    (*_SEEN[2], sentence_models.moving(30, 4), None),
]


@dataclass(frozen=True)
class Family:
    """One architecture.

    Attributes:
        reads: what its items are, in words.
        table: of a feature, but for its model.
        against: what upstream's vectors were computed by.
        build: makes the model's folder.
        items: an input each, before it is prepared.
        rows: prepares them for a spec.
        theirs: upstream's vectors of the items, one by one.
    """

    reads: str
    table: dict[str, Any]
    against: str
    build: Callable[[Path], Path]
    items: Sequence[Any]
    rows: Callable[[FeatureSpec, Sequence[Any]], list[Row]]
    theirs: Callable[[Path, Sequence[Any]], np.ndarray]

    def folder(self, place: Path) -> Path:
        """The model, with seeded weights."""
        return seeded(self.build(place / "model"))

    def method(self, folder: Path) -> Any:
        """Our encoder of it."""
        table = FeatureConfig(**self.table, model=str(folder))
        return load_method(resolve_all({"feature": table}, COLUMNS)[0], Placement(threads=1))


def ours(family: Family, method: Any) -> tuple[np.ndarray, np.ndarray]:
    """``[items, dims]`` of all items together, and of each alone."""
    rows = family.rows(method.spec, family.items)
    return np.stack(method.run(rows)), np.concatenate([np.stack(method.run([row])) for row in rows])


def inputs_digest(items: Sequence[Any]) -> str:
    """Of items before they are prepared."""
    total = hashlib.sha256()
    for part in chain.from_iterable(map(_arrays, items)):
        total.update(part)
    return total.hexdigest()[:16]


def _arrays(value: Any) -> Iterator[bytes]:
    if isinstance(value, tuple):
        yield from chain.from_iterable(map(_arrays, value))
    elif isinstance(value, Pictures):
        yield from (one.tobytes() for one in value.pixels)
    elif isinstance(value, Frames):
        yield value.pixels.tobytes()
    elif isinstance(value, Sound):
        yield value.samples.tobytes()
    else:
        yield value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()


# Pictures -----------------------------------------------------------------------------------------------


def _viewed(spec: FeatureSpec, pictures: Sequence[np.ndarray]) -> list[Row]:
    assert spec.pixels is not None
    return [(Frames(render_view(one, spec.pixels.view)[None], (0.0,)),) for one in pictures]


def _images(pictures: Sequence[np.ndarray]) -> list[Image.Image]:
    return [Image.fromarray(one) for one in pictures]


def _picture(name: str) -> Family:
    known = tiny_pictures.FAMILIES[name]
    return Family(
        "pictures, of a model of pictures and texts" if "text_config" in known.config else "pictures",
        {"source": "cover", "encoder": "transformers"},
        f"transformers {known.model}",
        partial(tiny_pictures.family, name),
        _PICTURES,
        _viewed,
        lambda folder, pictures: tiny_pictures.theirs(name, folder, _images(pictures)),
    )


def _open_clip(folder: Path, pictures: Sequence[np.ndarray]) -> np.ndarray:
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    with torch.inference_mode():
        seen = torch.stack([preprocess(one) for one in _images(pictures)])
        return model.eval().encode_image(seen).numpy()


def _tiny_clip(place: Path) -> Path:
    return Path(shutil.copytree(MODELS / "tiny-clip", place))


def _timm(architecture: str) -> Family:
    return Family(
        "pictures",
        {"source": "cover", "encoder": "timm"},
        f"timm {architecture}",
        partial(_timm_folder, architecture),
        [sentence_models.picture(n, 160, 160) for n in range(3)],
        _viewed,
        lambda folder, pictures: _by_timm(architecture, folder, pictures),
    )


def _timm_folder(architecture: str, place: Path) -> Path:
    place.mkdir()
    model = timm.create_model(architecture)
    save_file(model.state_dict(), place / "model.safetensors")
    shown = {"input_size": [3, 160, 160], "crop_pct": 1.0, "interpolation": "bicubic", "crop_mode": "center"}
    shown |= {"mean": [0.5] * 3, "std": [0.5] * 3, "num_classes": 1000}
    shown |= {name: model.pretrained_cfg[name] for name in ("classifier", "first_conv")}
    about = {"architecture": architecture, "num_classes": 1000, "pretrained_cfg": shown}
    (place / "config.json").write_text(json.dumps(about))
    return place


def _by_timm(architecture: str, folder: Path, pictures: Sequence[np.ndarray]) -> np.ndarray:
    model = timm.create_model(architecture)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    model.reset_classifier(0)
    shown = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    transform = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=shown))
    with torch.inference_mode():
        return model.eval()(torch.stack([transform(one) for one in _images(pictures)])).numpy()


# Clips --------------------------------------------------------------------------------------------------


def _clip(kind: Callable[[], Any]) -> Family:
    name = kind.__name__
    return Family(
        "clips",
        {
            "source": "video",
            "encoder": "transformers_video",
            "frames": tiny_videos.FRAMES,
            "normalize": False,
        },
        f"transformers {name}",
        partial(tiny_videos.saved, kind),
        _CLIPS,
        lambda spec, clips: [(tiny_videos.shown(spec, clip),) for clip in clips],
        lambda folder, clips: np.stack([tiny_videos.theirs(name, folder, clip) for clip in clips]),
    )


# Sound --------------------------------------------------------------------------------------------------


def _hearing(spec: FeatureSpec, sounds: Sequence[np.ndarray]) -> list[Row]:
    return [(one,) for one in heard(sounds, spec)]


def _sound(name: str) -> Family:
    windows = {"windows": "first"} if name == "AST" else {}
    return Family(
        "sound",
        {"source": "audio", "encoder": "transformers_audio", **windows},
        f"transformers {tiny_sounds.FAMILIES[name][0]}",
        partial(tiny_sounds.family, name),
        _SOUNDS,
        _hearing,
        lambda folder, sounds: tiny_sounds.theirs(folder, samples=sounds),
    )


def _clap(folder: Path, sounds: Sequence[np.ndarray]) -> np.ndarray:
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    model = transformers.ClapModel.from_pretrained(folder).eval()
    inputs = extractor(sounds, sampling_rate=48_000, return_tensors="pt")
    with torch.inference_mode():
        return model.get_audio_features(**inputs).pooler_output.numpy()


# Texts and whole items ----------------------------------------------------------------------------------


def _text(name: str) -> Family:
    return Family(
        "texts",
        {"source": "title", "encoder": "sentence_transformers"},
        f"sentence-transformers {tiny_texts.FAMILIES[name][0]}",
        partial(tiny_texts.family, name),
        _TEXTS,
        lambda spec, texts: [(text,) for text in texts],
        lambda folder, texts: np.stack([_library(folder).encode(text) for text in texts]),
    )


def _library(folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(folder), device="cpu")


def _message(kind: str, inputs: Sequence[str], items: Sequence[Row], pooling: str = "lasttoken") -> Family:
    return Family(
        "whole items: " + ", ".join(one.rstrip("?") for one in inputs),
        {"inputs": list(inputs), "encoder": "sentence_transformers"},
        f"sentence-transformers {kind}",
        lambda place: sentence_models.chat(kind, place, pooling),
        items,
        lambda spec, items: list(items),
        _messages,
    )


def _messages(folder: Path, items: Sequence[Row]) -> np.ndarray:
    model, prompt = _library(folder), sentence_models.PROMPTS["document"]
    found = []
    for item in items:
        clips = [value for value in item if isinstance(value, Frames) and len(value.times) > 1]
        told = sentence_models.told(clips)
        found.append(model.encode([sentence_models.theirs(item)], prompt=prompt, processing_kwargs=told))
    return np.concatenate(found)


def _asked(kind: str, theirs: Callable[[Path, Sequence[Row]], np.ndarray], *inputs: str) -> Family:
    """A language model as an embedder, by its folder's own template."""
    return Family(
        "whole items: title, photos" if len(inputs) > 1 else "texts",
        {"inputs": list(inputs), "encoder": "mllm"},
        f"transformers {kind}",
        partial(_listener, kind),
        [row[: len(inputs)] for row in _SEEN],
        lambda spec, items: list(items),
        theirs,
    )


def _listener(kind: str, place: Path) -> Path:
    getattr(tiny_listeners, kind)(place)
    return place


def _last_states(folder: Path, items: Sequence[Row]) -> np.ndarray:
    """Of the last token of each item's message, behind the final norm and of length 1."""
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()
    found = []
    for text, pictures in items:
        shown = _images(pictures.pixels) if pictures else None
        content = [{"type": "text", "text": text}, *[{"type": "image"}] * len(shown or ())]
        said = processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        asked = processor(text=[said], images=shown, return_tensors="pt", add_special_tokens=False)
        found.append(_last_state(model, asked))
    return np.stack(found)


def _last_states_of_texts(folder: Path, items: Sequence[Row]) -> np.ndarray:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    found = []
    for (text,) in items:
        has_template = tokenizer.chat_template is not None
        asked = [{"role": "user", "content": text}]
        said = (
            tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
            if has_template
            else text
        )
        inputs = tokenizer(said, return_tensors="pt", add_special_tokens=not has_template)
        found.append(_last_state(model, inputs))
    return np.stack(found)


def _last_state(model: Any, asked: Any) -> np.ndarray:
    with torch.inference_mode():
        state = model(**asked, output_hidden_states=True).hidden_states[-1][0, -1]
        return torch.nn.functional.normalize(state, dim=0).numpy()


_LOOKS = ("title", "photos?")
_LISTENS = ("title", "photos?", "video?", "audio?")
_WATCHES = [row[:3] for row in _HEARD]

_CALLED = {
    "videomae": "VideoMAE",
    "vjepa2": "V-JEPA 2",
    "timesformer": "TimeSformer",
    "vivit": "ViViT",
    "videoprism": "VideoPrism",
    "videoprism_lvt": "VideoPrism LVT",
    "xclip": "X-CLIP",
    "pe_video": "Perception Encoder AV",
}
_BY_TIMM = {"ViT": "test_vit", "ResNet": "test_resnet", "EfficientNet": "test_efficientnet"}
_BY_MLLM = {"Qwen2-VL": "qwen2_vl", "Qwen2.5-VL": "qwen2_5_vl", "Qwen3-VL": "qwen3_vl", "SmolVLM": "smolvlm"}

#: By name.
FAMILIES: dict[str, Family] = {
    **{name: _picture(name) for name in tiny_pictures.FAMILIES},
    **{f"{name} by timm": _timm(architecture) for name, architecture in _BY_TIMM.items()},
    "CLIP by open_clip": Family(
        "pictures, of a model of pictures and texts",
        {"source": "cover", "encoder": "open_clip"},
        "open_clip CLIP",
        _tiny_clip,
        # Of its own size: Pillow's resize, which open_clip and timm take, rounds otherwise than torch's.
        [sentence_models.picture(n, 48, 48) for n in range(3)],
        _viewed,
        _open_clip,
    ),
    "CLIP by sentence-transformers": Family(
        "pictures, of a model of pictures and texts",
        {"source": "cover", "encoder": "sentence_transformers"},
        "sentence-transformers CLIPModel",
        sentence_models.clip,
        _PICTURES,
        _viewed,
        lambda folder, pictures: np.stack([_library(folder).encode(one) for one in _images(pictures)]),
    ),
    "Qwen2.5-VL": _message("qwen2_5_vl", _LISTENS[:3], _WATCHES),
    "Qwen3-VL": _message("qwen3_vl", _LISTENS[:3], _WATCHES),
    "SmolVLM": _message("smolvlm", _LOOKS, _SEEN),
    "Qwen2.5-Omni": _message("qwen2_5_omni", _LISTENS, _HEARD, "mean"),
    "Qwen3-Omni": _message("qwen3_omni", _LISTENS, _HEARD, "mean"),
    **{f"{name} by mllm": _asked(kind, _last_states, *_LOOKS) for name, kind in _BY_MLLM.items()},
    "LLaMA by mllm": _asked("llama", _last_states_of_texts, "title"),
    "Qwen3 by mllm": _asked("qwen3", _last_states_of_texts, "title"),
    **{_CALLED[kind.__name__]: _clip(kind) for kind in tiny_videos.KINDS},
    **{name: _sound(name) for name in tiny_sounds.FAMILIES},
    "CLAP": Family(
        "sound, of a model of sound and texts",
        {"source": "audio", "encoder": "clap"},
        "transformers ClapModel",
        sound_models.clap,
        [chord(seconds, 48_000, seed) for seed, seconds in enumerate((0.3, 2, 10))],
        _hearing,
        _clap,
    ),
    **{name: _text(name) for name in tiny_texts.FAMILIES},
}
