"""CLIP through our pixels and batches: open_clip's vectors, and the right picture for a text."""

import json

import numpy as np
import open_clip
import pytest
import torch
from helpers import synthetic
from helpers.encoder_checks import (
    MODELS,
    cosines,
    encoded,
    encoder,
    in_any_batch,
    opened,
    pictures,
    pixels,
    resolve,
)
from PIL import Image

from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.media import Frames

CLIP = MODELS / "tiny-clip"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TEXTS = [
    "a red circle on a white background",
    "ring",
    "",
    "a blue star on a grey background, " * 30,
    "Ein grünes Quadrat, 绿色方块",
]


def load(**options):
    return encoder(**{"encoder": "open_clip", "model": str(CLIP), **options})


@pytest.fixture(scope="module")
def images():
    return load()


@pytest.fixture(scope="module")
def texts():
    return load(source="title")


@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_images_are_those_of_open_clip(copied, edit, resize_mode, interpolation):
    folder = copied("tiny-clip")
    body = json.loads((folder / "open_clip_config.json").read_text())["preprocess_cfg"]
    changed = {**body, "resize_mode": resize_mode, "interpolation": interpolation}
    edit(folder / "open_clip_config.json", preprocess_cfg=changed)
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    files = pictures(24)
    with torch.inference_mode():
        theirs = model.eval().encode_image(torch.stack([preprocess(i) for i in opened(files)]))
    ours = encoded(load(model=str(folder)), files)
    assert ours.dtype == np.float32
    assert cosines(ours, theirs.numpy()).min() >= 0.9999


def test_texts_are_those_of_open_clip_cut_at_its_context_length(texts):
    model = open_clip.create_model(f"local-dir:{CLIP}").eval()
    with torch.inference_mode():
        tokens = open_clip.get_tokenizer(f"local-dir:{CLIP}")(TEXTS)
        theirs = model.encode_text(tokens, normalize=True)
    assert tokens.shape[1] == texts.spec.inputs[0].prepare.max_tokens == 32
    np.testing.assert_allclose(texts.encode_texts(TEXTS), theirs.numpy(), atol=1e-5)


def test_a_text_is_the_same_vector_beside_longer_and_shorter_ones(texts):
    assert in_any_batch(texts.encode_texts, TEXTS * 3) >= 0.99999


def test_an_image_is_the_same_vector_in_any_batch(images):
    assert in_any_batch(images.encode_images, pixels(images.spec, pictures(20))) >= 0.99999


@pytest.mark.parametrize("draw", range(4))
def test_a_text_finds_its_picture_among_50_through_the_image_feature_alone(images, draw):
    pairs = np.random.default_rng(draw).permutation(len(synthetic.COMBOS))[:50]
    first = synthetic.HELD_OUT_FROM + (draw + 50) * 1000
    scenes = [synthetic.scene(first + i, *synthetic.COMBOS[pair]) for i, pair in enumerate(pairs)]
    side = images.spec.pixels.view.height
    rendered = np.stack([_centre(synthetic.render(s), side) for s in scenes])
    found = images.encode_texts([s.caption for s in scenes]) @ images.encode_images(rendered).T
    assert (found.argmax(1) == np.arange(50)).mean() >= 0.95


def _centre(picture, side):
    image, short = Image.fromarray(picture), min(picture.shape[:2])
    left, top = (image.width - short) // 2, (image.height - short) // 2
    return np.asarray(image.crop((left, top, left + short, top + short)).resize((side, side), 3))


def test_vectors_have_length_1_unless_they_shall_not(images):
    files = pictures(6)
    whole = encoded(load(normalize=False), files)
    np.testing.assert_allclose(np.linalg.norm(encoded(images, files), axis=1), 1, atol=1e-6)
    assert np.ptp(np.linalg.norm(whole, axis=1)) > 0.01
    assert cosines(encoded(images, files), whole).min() >= 0.99999


def test_a_clip_is_the_normalised_mean_of_its_frames(images):
    model = load(source="video", frames=4)
    assert (model.spec.pixels.sampling.count, model.spec.options["time_pooling"]) == (4, "mean")
    flat = pixels(model.spec, pictures(7))
    means = model.encode_clips([Frames(flat[:4], (0, 1, 2, 3)), Frames(flat[4:], (0, 1, 2))])
    vectors = images.encode_images(flat)
    expected = np.stack([vectors[:4].mean(0), vectors[4:].mean(0)])
    np.testing.assert_allclose(means, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)


def test_half_precision_is_near_full_precision(images, texts, record_testsuite_property):
    files = pictures(40)
    half = load(dtype="bfloat16")
    near = cosines(encoded(half, files), encoded(images, files))
    near_texts = cosines(half.encode_texts(TEXTS), texts.encode_texts(TEXTS))
    record_testsuite_property("bf16 open_clip", f"images {near.min():.5f}, texts {near_texts.min():.5f}")
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    assert encoded(half, files).dtype == np.float32
    assert near.min() >= 0.99
    assert near_texts.min() >= 0.99


def test_pixels_of_another_size_are_refused(images):
    with pytest.raises(Exception, match="wants uint8 pixels of 48 x 48"):
        images.encode_images(np.zeros((1, 64, 64, 3), np.uint8))


def test_random_weights_are_the_seeds_and_leave_other_random_numbers_alone():
    noise = pixels(resolve(encoder="open_clip", model=str(CLIP)), pictures(2))
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (load(weights=f"random:{n}").encode_images(noise) for n in (1, 1, 2))
    assert torch.equal(torch.rand(1), before)
    np.testing.assert_array_equal(first, again)
    assert cosines(first, other).max() < 0.9


def test_a_listed_architecture_has_its_own_size_and_width():
    large = {"encoder": "open_clip", "model": "ViT-L-14-336", "weights": "random:0"}
    spec = resolve(**large)
    assert (spec.dims, spec.pixels.view.height, spec.options["normalize"]) == (768, 336, True)
    assert [one.prepare.kind for one in spec.inputs] == ["image"]
    assert resolve(**large, source="title").pixels is None


def test_pretrained_weights_are_pinned_to_a_commit_and_bring_their_preprocessing(hub, tmp_path):
    files = tmp_path / "siglip"
    files.mkdir()
    (files / "open_clip_config.json").write_text("{}")
    hub("timm/ViT-B-16-SigLIP", COMMIT, files)
    spec = resolve(encoder="open_clip", model="ViT-B-16-SigLIP", weights="webli")
    assert (spec.weights.origin, spec.weights.ref, spec.weights.revision) == ("hub", "webli", COMMIT)
    assert (spec.weights.digest, spec.weights.location) == (None, None)
    other = resolve(encoder="open_clip", model="ViT-B-16-SigLIP", weights="WebLI")
    assert other.fingerprint == spec.fingerprint
    view = spec.pixels.view
    assert (view.mode, view.height, view.resize, view.interpolation) == ("squash", 224, None, "bicubic")
    assert (spec.pixels.mean, spec.pixels.std) == ((0.5,) * 3, (0.5,) * 3)
    assert spec.dims == 768


def test_a_hub_model_gives_what_its_folder_gives(hub, images):
    hub("someone/tiny-clip", COMMIT, CLIP)
    model = load(model="hf-hub:someone/tiny-clip")
    assert (model.spec.model, model.spec.weights.revision) == ("someone/tiny-clip", COMMIT)
    files = pictures(3)
    np.testing.assert_allclose(encoded(model, files), encoded(images, files), atol=1e-6)
    texts = load(model="hf-hub:someone/tiny-clip", source="title")
    np.testing.assert_allclose(texts.encode_texts(TEXTS), images.encode_texts(TEXTS), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"model": "ViT-B-23"}, "no model 'ViT-B-23'", "'ViT-B-32'"),
        ({"model": "ViT-B-32"}, "no weights None", "laion2b_s34b_b79k"),
        ({"model": "ViT-B-32", "weights": "laion2b_s34b_b97k"}, "no weights", "'laion2b_s34b_b79k'"),
        ({"model": "ViT-B-32", "weights": "openai"}, "another activation", "ViT-B-32-quickgelu"),
        ({"model": None}, "needs a model", "ViT-B-32"),
        ({"model": "./nowhere"}, "no open_clip_config.json", "layout"),
        ({"revision": "main"}, "a folder has no revision", None),
        ({"pooling": "cls"}, "no option 'pooling'", "normalize"),
        ({"max_tokens": 5, "source": "title"}, "no option 'max_tokens'", "normalize"),
        ({"crop": "pad", "source": "title"}, "'crop' goes with pictures, not with 'title'", None),
        (
            {"crop": "pad", "frames": 2, "source": "title"},
            "'crop', 'frames' go with pictures, not with 'title'",
            None,
        ),
        ({"source": "audio"}, "cannot read 'audio', which is sound", "It reads: image, video, text."),
    ],
)
def test_a_setting_that_cannot_be_carried_out_is_refused(options, message, hint):
    with pytest.raises(ConfigError, match=message) as raised:
        resolve(**{"encoder": "open_clip", "model": str(CLIP), **options})
    assert "'feature'" in raised.value.message
    assert (hint or "") in (raised.value.hint or "")


def tower_of(copied, edit, **text_cfg):
    """A model with random weights whose text tower is another one; all tokens that its tower is given."""
    folder = copied("tiny-clip")
    body = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    custom = {"custom_text": True} if text_cfg.pop("custom_text", False) else {}
    changed = {**body, **custom, "text_cfg": {**body["text_cfg"], **text_cfg}}
    edit(folder / "open_clip_config.json", model_cfg=changed)
    model = load(model=str(folder), weights="random:0", source="title")
    given = []
    tower = getattr(model.model, "text", model.model)
    tower.token_embedding.register_forward_hook(lambda module, inputs, output: given.append(output.shape[1]))
    return model, given


@pytest.mark.parametrize(
    "text_cfg",
    [{}, {"custom_text": True}, {"custom_text": True, "pool_type": "eos", "eos_id": 49407}],
    ids=["argmax", "a tower apart", "eos"],
)
def test_a_causal_tower_is_given_no_more_tokens_than_the_longest_text_of_a_batch_has(copied, edit, text_cfg):
    model, given = tower_of(copied, edit, **text_cfg)
    found = model.encode_texts(["a red square", "two small blue circles"])
    assert given == [6]  # with a token before and one behind
    with torch.inference_mode():
        tokens = model.tokenizer(["a red square", "two small blue circles"])
        theirs = model.model.encode_text(tokens, normalize=True).numpy()
    assert given == [6, 32]
    np.testing.assert_allclose(found, theirs, atol=1e-6)


@pytest.mark.parametrize(
    "text_cfg",
    [
        {"custom_text": True, "pool_type": "last"},
        {"custom_text": True, "pool_type": "first"},
        {"custom_text": True, "no_causal_mask": True},
        {"custom_text": True, "embed_cls": True},
    ],
    ids=["last", "first", "sees all", "a token of its own"],
)
def test_a_tower_that_sees_its_padding_gets_all_of_it(copied, edit, text_cfg):
    model, given = tower_of(copied, edit, **text_cfg)
    found = model.encode_texts(["a red square"])
    assert given == [32]
    with torch.inference_mode():
        theirs = model.model.encode_text(model.tokenizer(["a red square"]), normalize=True).numpy()
    np.testing.assert_allclose(found, theirs, atol=1e-6)


def test_the_model_is_as_before_after_texts_were_cut(texts):
    before = {name: value.shape for name, value in texts.model.state_dict(keep_vars=True).items()}
    texts.encode_texts(["x"])
    assert {name: value.shape for name, value in texts.model.state_dict(keep_vars=True).items()} == before
    assert texts.model.attn_mask.shape == (32, 32)
