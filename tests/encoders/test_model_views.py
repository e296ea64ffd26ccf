"""The resize of models' own processors in the decode stage: to the bit, for every family and any shape."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    Gemma3ImageProcessor,
    GotOcr2ImageProcessor,
    Idefics3ImageProcessor,
    LlavaImageProcessor,
    LlavaNextImageProcessor,
    LlavaOnevisionImageProcessor,
    PixtralImageProcessor,
    Qwen2VLImageProcessor,
    SmolVLMImageProcessor,
)

from mmfeat.extract.base import Placement
from mmfeat.extract.describers.captions.transformers import TransformersCaptioner
from mmfeat.extract.modalities.decoders.image import render_image
from mmfeat.extract.modalities.decoders.views import render_view
from mmfeat.extract.probes import probe
from mmfeat.extract.registry import resolve_all
from mmfeat.schemas.errors import ConfigError, ItemError
from mmfeat.schemas.inputs import PixelView
from mmfeat.schemas.media import Frames, MediaLimits
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec

MODELS = Path(__file__).parents[1] / "models"
SQUARE = {"height": 48, "width": 48}

#: By family: its processor, with the settings of a model whose pictures are small, and what its models' own
#: code says in a call beside that.
FAMILIES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "Qwen2-VL": (lambda: Qwen2VLImageProcessor(size=_pixels(4 * 28 * 28, 64 * 28 * 28)), {}),
    "Qwen3-VL": (lambda: Qwen2VLImageProcessor(size=_pixels(9 * 32 * 32, 99 * 999), patch_size=16), {}),
    "SmolVLM": (lambda: SmolVLMImageProcessor(size=_long(96), max_image_size=_long(24)), {}),
    "SmolVLM of one tile": (lambda: SmolVLMImageProcessor(size=_long(48), max_image_size=_long(48)), {}),
    "Idefics3": (lambda: Idefics3ImageProcessor(size=_long(104), max_image_size=_long(26)), {}),
    "Gemma 3": (lambda: Gemma3ImageProcessor(size=SQUARE), {"do_pan_and_scan": False}),
    "InternVL": (lambda: GotOcr2ImageProcessor(size=SQUARE, max_patches=1), {"crop_to_patches": True}),
    "LLaVA": (lambda: LlavaImageProcessor(size={"shortest_edge": 48}, crop_size=SQUARE), {}),
    "LLaVA 1.5": (lambda: CLIPImageProcessor(size={"shortest_edge": 48}, crop_size=SQUARE), {}),
}


def _pixels(least: int, most: int) -> dict[str, int]:
    return {"shortest_edge": least, "longest_edge": most}


def _long(side: int) -> dict[str, int]:
    return {"longest_edge": side}


def spec(processor: Path, **options: Any) -> FeatureSpec:
    """Of a caption that a server is asked for, whose model has this processor."""
    asked = {"source": "cover", "captioner": "openai", "model": "served", "resize": str(processor), **options}
    return resolve_all({"caption": FeatureConfig(**asked)})[0]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def views(tmp_path_factory) -> dict[str, PixelView]:
    """The view of each family, by the files that its processor saves."""
    found = {}
    for name, (make, _) in FAMILIES.items():
        folder = tmp_path_factory.mktemp("processor")
        make().save_pretrained(folder)
        found[name] = spec(folder).pixels.view
    return found


def _sees_the_same(name: str, view: PixelView, picture: np.ndarray) -> None:
    make, told = FAMILIES[name]
    processor = make()
    finished = render_view(picture, view)
    theirs, ours = (
        processor([Image.fromarray(pixels)], return_tensors="pt", **told) for pixels in (picture, finished)
    )
    assert set(theirs) == set(ours)
    assert all(torch.equal(torch.as_tensor(theirs[key]), torch.as_tensor(ours[key])) for key in theirs)


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 320), width=st.integers(1, 320))
def test_a_finished_picture_gives_a_model_the_pixels_of_the_original_to_the_bit(name, height, width, views):
    try:
        _sees_the_same(name, views[name], noise(height, width))
    except ItemError:
        assert max(height, width) > 100 * min(height, width)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("shape", [(1, 1), (27, 28), (900, 1400), (1201, 799), (48, 48), (17, 1000)])
def test_small_large_and_long_pictures_too(name, shape, views):
    _sees_the_same(name, views[name], noise(*shape))


def test_fewer_pixels_are_those_of_a_processor_with_that_limit(tmp_path):
    Qwen2VLImageProcessor().save_pretrained(tmp_path)
    limit = 40 * 28 * 28
    view = spec(tmp_path, max_pixels=limit).pixels.view
    finished = Image.fromarray(render_view(noise(300, 411), view))
    bounded = Qwen2VLImageProcessor(size=_pixels(56 * 56, limit))
    theirs = bounded([Image.fromarray(noise(300, 411))], return_tensors="pt")["pixel_values"]
    # The model's own limit is far higher, and changes nothing of it.
    assert torch.equal(Qwen2VLImageProcessor()([finished], return_tensors="pt")["pixel_values"], theirs)


def test_the_decode_stage_finishes_a_file(views):
    stream = io.BytesIO()
    Image.fromarray(noise(200, 301)).save(stream, "PNG")
    (frames,) = render_image(stream.getvalue(), [views["Qwen2-VL"]], MediaLimits())
    assert np.array_equal(frames.pixels[0], render_view(noise(200, 301), views["Qwen2-VL"]))


@pytest.mark.parametrize("shape", [(1, 201), (28 * 160, 23)])
def test_a_strip_that_the_model_itself_refuses_fails_alone(shape, views):
    with pytest.raises(ItemError, match=r"takes no strip|again and again") as raised:
        render_view(noise(*shape), views["Qwen2-VL"])
    assert raised.value.stage == "decode"


def test_a_local_model_says_the_same_of_finished_pictures(tmp_path):
    folder = shutil.copytree(MODELS / "tiny-vlm", tmp_path / "one-tile")
    config = json.loads((folder / "processor_config.json").read_text())
    config["image_processor"] |= {"do_image_splitting": True, "size": _long(48)}
    (folder / "processor_config.json").write_text(json.dumps(config))
    asked = {"source": "cover", "captioner": "transformers", "model": str(folder), "resize": "model"}
    (finished,) = resolve_all({"caption": FeatureConfig(**asked)})
    model = TransformersCaptioner(finished, Placement())
    pictures = [synthetic.render(scene)[:80] for scene in synthetic.held_out(3)]
    views = [render_view(picture, finished.pixels.view) for picture in pictures]
    assert {view.shape for view in views} == {(48, 48, 3)} != {picture.shape for picture in pictures}
    original, ours = (model.caption([(Frames(one[None], (0.0,)),) for one in s]) for s in (pictures, views))
    assert original == ours


def test_a_model_is_proved_with_pictures_of_its_own_sizes(tmp_path):
    Qwen2VLImageProcessor().save_pretrained(tmp_path)
    for (frames,) in probe(spec(tmp_path)):
        assert all(side % 28 == 0 for side in frames.pixels.shape[1:3])


def test_without_resize_the_spec_is_what_it_was(tmp_path):
    Gemma3ImageProcessor(size=SQUARE).save_pretrained(tmp_path)
    plain = resolve_all({"c": FeatureConfig(source="cover", captioner="openai", model="served")})[0]
    assert set(plain.inputs[0].identity()["prepare"]["view"]) == {
        "mode", "height", "width", "interpolation", "fill", "crop_rounding", "jpeg"
    }  # fmt: skip
    assert spec(tmp_path).fingerprint != plain.fingerprint


REFUSED: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "LLaVA-Next": (LlavaNextImageProcessor, {}, "tiles and a small whole picture"),
    "LLaVA-OneVision": (LlavaOnevisionImageProcessor, {}, "tiles and a small whole picture"),
    "InternVL": (GotOcr2ImageProcessor, {}, "tiles and a small whole picture"),
    "Gemma 3 with crops": (lambda: Gemma3ImageProcessor(do_pan_and_scan=True), {}, "in a way that"),
    "Idefics3 without tiles": (lambda: Idefics3ImageProcessor(do_image_splitting=False), {}, "in a way"),
    "LLaVA on a square": (lambda: LlavaImageProcessor(do_pad=True), {}, "in a way that"),
    "another": (PixtralImageProcessor, {}, "no family"),
    "a side": (Qwen2VLImageProcessor, {"max_side": 512}, "'max_side' does not go with 'resize'"),
    "too many pixels": (Qwen2VLImageProcessor, {"max_pixels": 10**9}, "takes 3,136 to"),
    "pixels of a square": (CLIPImageProcessor, {"max_pixels": 999}, "pictures of any size"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_picture_can_stand_for_is_refused_before_a_run(name, tmp_path):
    make, options, words = REFUSED[name]
    make().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=words):
        spec(tmp_path, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_pixels": 9999}, "'max_pixels' goes with resize"),
        ({"source": "video", "as": "video", "resize": "model"}, "'resize' goes with pictures"),
    ],
)
def test_options_of_sizes_that_do_not_go_together_are_refused(options, words):
    asked = {
        "source": "cover",
        "captioner": "transformers",
        "model": str(MODELS / "tiny-video-lm"),
        **options,
    }
    with pytest.raises(ConfigError, match=words):
        resolve_all({"caption": FeatureConfig(**asked)})
