"""Tags say that they are tags, and name the labels that the network sees."""

import numpy as np
import pytest

from mmfeat.extract.base import Placement, Row
from mmfeat.extract.describers.imagenet_tags import ImageNetTags
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.schemas.errors import ConfigError, ItemError
from mmfeat.schemas.media import Frames
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec


def spec(**options: object) -> FeatureSpec:
    asked = FeatureConfig(**{"source": "cover", "captioner": "imagenet_tags", **options})
    return resolve_all({"tags": asked})[0]


def item(seed: int, frames: int = 1) -> Row:
    view = spec().pixels.view
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (frames, 4, 4, 3), dtype=np.uint8)
    pixels = coarse.repeat(-(-view.height // 4), axis=1).repeat(-(-view.width // 4), axis=2)
    return (Frames(pixels[:, : view.height, : view.width], (0.0,) * frames),)


@pytest.fixture(scope="module")
def tagger() -> ImageNetTags:
    return ImageNetTags(spec(), Placement())


def test_the_spec_says_tags_and_never_caption():
    assert (spec().form, spec().role, spec().options["top_k"], spec().prompt) == ("text", "tags", 5, None)
    assert spec(top_k=3).fingerprint != spec().fingerprint
    assert "not captions" in ImageNetTags.card(spec()).notes


def test_an_items_tags_are_the_same_in_any_batch(tagger):
    inputs = [item(0), item(1, frames=3), item(2), item(3, frames=2)]
    together = tagger.caption(inputs)
    assert [tagger.caption([i])[0] for i in inputs] == together
    assert all(c.text.startswith("tags: ") and c.finish_reason == "stop" for c in together)


def test_the_tags_are_the_best_labels_in_order(tagger):
    pixels = item(4)[0].pixels
    probabilities = tagger.cnn.classify(pixels)[0]
    assert tagger.caption([item(4)])[0].text.startswith(f"tags: {tagger.cnn.labels[probabilities.argmax()]}")


def test_a_still_clip_has_the_tags_of_its_picture(tagger):
    picture = item(5)
    still = (Frames(picture[0].pixels.repeat(4, axis=0), (0.0, 1.0, 2.0, 3.0)),)
    assert tagger.caption([still]) == tagger.caption([picture])


def test_one_tag_is_named_when_one_is_asked_for(tagger):
    best = tagger.cnn.classify(item(6)[0].pixels)[0].argmax()
    one = ImageNetTags(spec(top_k=1), Placement()).caption([item(6)])[0]
    assert one.text == f"tags: {tagger.cnn.labels[best]}"


def test_an_item_without_frames_fails(tagger):
    view = spec().pixels.view
    with pytest.raises(ItemError, match="no frame"):
        tagger.caption([(Frames(np.zeros((0, view.height, view.width, 3), np.uint8), ()),)])


@pytest.mark.parametrize("option", [{"prompt": "describe"}, {"pooling": "mean"}, {"model": "resnet"}])
def test_an_option_that_tags_lack_is_refused(option):
    with pytest.raises(ConfigError, match=f"no option '{next(iter(option))}'"):
        spec(**option)


def test_tags_and_vectors_of_the_same_pictures_take_one_pass_through_the_network(tagger):
    asked = FeatureConfig(source="cover", encoder="efficientnet_lite")
    encoder = load_method(resolve_all({"cnn": asked})[0])
    passes = []
    hook = encoder.network.network.module.register_forward_hook(lambda *_: passes.append(1))
    # As a run does: one feature through every batch of a block, then the next feature.
    batches = [item(20), item(21)]
    vectors = [encoder.encode_images(batch[0].pixels) for batch in batches]
    tags = [tagger.caption([batch])[0].text for batch in batches]
    hook.remove()
    assert len(passes) == 2
    assert not np.array_equal(*vectors)
    for batch, text in zip(batches, tags, strict=True):
        probabilities = encoder.classify(batch[0].pixels)[0]
        assert text.startswith(f"tags: {encoder.labels[probabilities.argmax()]}")
