"""The tiny models are right about pictures they were not trained on, and fit to be shipped."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import synthetic
from PIL import Image

HERE = Path(__file__).parent
FOLDERS = ("tiny-clip", "tiny-dino", "tiny-vlm")
SMALL_FOLDERS = ("tiny-clap", "tiny-video", "tiny-audio-lm", "tiny-video-lm")


@pytest.mark.parametrize(
    ("folder", "most"), [*((f, 6_000_000) for f in FOLDERS), *((f, 1_500_000) for f in SMALL_FOLDERS)]
)
def test_a_folder_is_a_few_mb_of_safetensors_and_text(folder, most):
    files = [path for path in (HERE / folder).rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) < most
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja"}


@pytest.mark.parametrize("draw", range(4))
def test_clip_retrieves_the_right_picture_among_50(draw):
    import open_clip

    place = f"local-dir:{HERE / 'tiny-clip'}"
    model, _, preprocess = open_clip.create_model_and_transforms(place)
    tokenizer = open_clip.get_tokenizer(place)
    pairs = np.random.default_rng(draw).permutation(len(synthetic.COMBOS))[:50]
    first = synthetic.HELD_OUT_FROM + draw * 1000
    scenes = [synthetic.scene(first + i, *synthetic.COMBOS[pair]) for i, pair in enumerate(pairs)]
    pixels = torch.stack([preprocess(Image.fromarray(synthetic.render(s))) for s in scenes])
    with torch.inference_mode():
        images = model.eval().encode_image(pixels, normalize=True)
        texts = model.encode_text(tokenizer([s.caption for s in scenes]), normalize=True)
    best = (texts @ images.T).argmax(dim=1)
    assert (best == torch.arange(50)).float().mean() >= 0.95


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_nearest_neighbour_by_dino_has_the_same_colour_and_shape(pooling):
    from transformers import AutoImageProcessor, AutoModel

    processor = AutoImageProcessor.from_pretrained(HERE / "tiny-dino")
    model = AutoModel.from_pretrained(HERE / "tiny-dino").eval()
    scenes = synthetic.held_out(4 * len(synthetic.COMBOS), seed=2)
    images = [Image.fromarray(synthetic.render(s)) for s in scenes]
    with torch.inference_mode():
        tokens = model(**processor(images, return_tensors="pt")).last_hidden_state
    vectors = tokens[:, 0] if pooling == "cls" else tokens[:, 1:].mean(dim=1)
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    alike = vectors @ vectors.T
    alike.fill_diagonal_(-2)
    names = [(s.colour, s.shape) for s in scenes]
    right = [names[i] == names[j] for i, j in enumerate(alike.argmax(dim=1).tolist())]
    assert np.mean(right) >= 0.95


def test_a_scene_is_the_same_pixels_whenever_it_is_drawn():
    item = synthetic.held_out(1)[0]
    np.testing.assert_array_equal(synthetic.render(item), synthetic.render(item))
    assert synthetic.render(item).shape == (item.height, item.width, 3)


def test_the_shape_of_a_clip_moves_across_it():
    item = synthetic.scene(synthetic.HELD_OUT_FROM, "red", "circle")
    frames = synthetic.clip(item, 5).astype(int)
    redness = frames[..., 0] - frames[..., 2]
    columns = [float((np.clip(f, 60, None) - 60).sum(0) @ np.arange(f.shape[1])) for f in redness]
    mass = [float((np.clip(f, 60, None) - 60).sum()) for f in redness]
    centres = [c / m for c, m in zip(columns, mass, strict=True)]
    assert centres == sorted(centres)
    assert centres[-1] - centres[0] > 5
