"""What the encoders' tests share: files of pictures, our way through them, and how vectors compare."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from helpers import synthetic
from mmfeat.extract.base import Encoder, Row
from mmfeat.extract.modalities.decoders.image import render_image
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec

MODELS = Path(__file__).parents[1] / "models"


def resolve(**options: object) -> FeatureSpec:
    return resolve_all({"feature": FeatureConfig(**{"source": "cover", **options})})[0]


def encoder(**options: object) -> Encoder:
    model = load_method(resolve(**options))
    assert isinstance(model, Encoder)
    return model


def pictures(number: int, seed: int = 0, side: int | None = None) -> list[bytes]:
    """Image files of many sizes and shapes, or squares of ``side`` pixels; JPEG and PNG in turn."""
    files = []
    for i, scene in enumerate(synthetic.held_out(number, seed)):
        file = io.BytesIO()
        picture = Image.fromarray(synthetic.render(scene))
        picture = picture.resize((side, side)) if side else picture
        picture.save(file, **({"format": "PNG"} if i % 2 else {"format": "JPEG", "quality": 92}))
        files.append(file.getvalue())
    return files


def opened(files: Sequence[bytes]) -> list[Image.Image]:
    return [Image.open(io.BytesIO(data)).convert("RGB") for data in files]


def pixels(spec: FeatureSpec, files: Sequence[bytes]) -> np.ndarray:
    assert spec.pixels is not None
    views = [spec.pixels.view]
    return np.concatenate([render_image(data, views, MediaLimits())[0].pixels for data in files])


def shown(spec: FeatureSpec, files: Sequence[bytes]) -> list[Row]:
    """Rows of a feature of pictures, of whatever sizes its view leaves them."""
    assert spec.pixels is not None
    return [(render_image(data, [spec.pixels.view], MediaLimits())[0],) for data in files]


def encoded(model: Encoder, files: Sequence[bytes]) -> np.ndarray:
    return model.encode_images(pixels(model.spec, files))


def cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Vector by vector."""
    assert ours.shape == theirs.shape
    return (ours * theirs).sum(-1) / np.linalg.norm(ours, axis=-1) / np.linalg.norm(theirs, axis=-1)


def in_any_batch(encode: Callable, inputs: Sequence, size: int = 7) -> float:
    """The least cosine between a vector computed with all others, alone, in batches, and shuffled."""
    together = encode(inputs)
    alone = np.concatenate([encode(inputs[i : i + 1]) for i in range(len(inputs))])
    batched = np.concatenate([encode(inputs[i : i + size]) for i in range(0, len(inputs), size)])
    order = np.random.default_rng(0).permutation(len(inputs))
    shuffled = np.empty_like(together)
    shuffled[order] = encode([inputs[i] for i in order] if isinstance(inputs, list) else inputs[order])
    return min(cosines(together, other).min() for other in (alone, batched, shuffled))
