"""The network that comes in a package sees what is on a photograph."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.encoder_checks import cosines, encoded, encoder, in_any_batch, pictures, pixels, resolve
from PIL import Image
from torchvision import transforms

from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.media import Frames

PHOTOS = Path(__file__).parent / "photos"


def lite(**options):
    return encoder(encoder="efficientnet_lite", **options)


def in_torch(model):
    return model.network.network.module.network


@pytest.fixture(scope="module")
def plain():
    return lite()


def test_a_cup_of_espresso_and_a_cat_are_recognised(plain):
    files = [(PHOTOS / name).read_bytes() for name in ("coffee.jpg", "chelsea.jpg")]
    probabilities = plain.classify(pixels(plain.spec, files))
    assert (probabilities.shape, probabilities.dtype) == ((2, 1000), np.float32)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    coffee, cat = probabilities
    assert (plain.labels[coffee.argmax()], coffee.max() > 0.5) == ("espresso", True)
    best = {plain.labels[i] for i in np.argsort(-cat)[:3]}
    assert best == {"Egyptian cat", "tiger cat", "tabby"}


def test_there_are_1000_labels(plain):
    assert len(plain.labels) == 1000
    assert [plain.labels[i] for i in (0, 281, 504, 967, 999)] == [
        "tench",
        "tabby",
        "coffee mug",
        "espresso",
        "toilet tissue",
    ]


def test_the_vector_is_what_the_classifier_reads(plain):
    batch = pixels(plain.spec, pictures(5))
    vectors = plain.encode_images(batch)
    head = in_torch(plain).classifier
    with torch.inference_mode():
        expected = head(torch.from_numpy(vectors)).softmax(1).numpy()
    assert vectors.shape == (5, 1280)
    np.testing.assert_allclose(plain.classify(batch), expected, atol=1e-5)


def test_pixels_are_scaled_as_the_tensorflow_original_does(plain):
    """(x - 127) / 128 on the middle 260 pixels of 292, by torchvision on a Pillow image."""
    files = [(PHOTOS / name).read_bytes() for name in ("coffee.jpg", "chelsea.jpg")]
    bicubic = transforms.InterpolationMode.BICUBIC
    steps = transforms.Compose([transforms.Resize(292, bicubic), transforms.CenterCrop(260)])
    images = [steps(Image.open(PHOTOS / name)) for name in ("coffee.jpg", "chelsea.jpg")]
    inputs = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.inference_mode():
        theirs = in_torch(plain).global_pool(in_torch(plain).forward_features(inputs)).numpy()
    assert cosines(encoded(plain, files), theirs).min() >= 0.9999


def test_an_image_is_the_same_vector_in_any_batch(plain):
    assert in_any_batch(plain.encode_images, pixels(plain.spec, pictures(8)), size=3) >= 0.99999


def test_half_precision_is_near_full_precision(plain, record_testsuite_property):
    files = pictures(12)
    near = cosines(encoded(lite(dtype="bfloat16"), files), encoded(plain, files))
    record_testsuite_property("bf16 efficientnet_lite", f"{near.min():.5f}")
    assert near.min() >= 0.99


def test_a_clip_is_the_mean_of_its_frames(plain):
    model = lite(source="video", frames=3)
    flat = pixels(model.spec, pictures(3))
    mean = model.encode_clips([Frames(flat, (0, 1, 2))])
    np.testing.assert_allclose(mean[0], plain.encode_images(flat).mean(0), atol=1e-4)


def test_the_weights_are_the_packages_and_pinned():
    spec = resolve(encoder="efficientnet_lite")
    assert (spec.dims, spec.options["normalize"], spec.weights.origin) == (1280, False, "package")
    assert spec.weights.digest.startswith("sha256:9656183e")


@pytest.mark.parametrize(
    "option", [{"model": "efficientnet-lite0"}, {"pooling": "cls"}, {"weights": "random:0"}]
)
def test_an_option_that_it_lacks_is_refused(option):
    with pytest.raises(ConfigError, match=f"no option '{next(iter(option))}'"):
        resolve(encoder="efficientnet_lite", **option)
