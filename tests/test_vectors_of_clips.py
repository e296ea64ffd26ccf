"""Clips with a vector of each frame or scene: what these are, what is known of each, and what finds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import media_samples, synthetic, worlds
from PIL import Image

import mmfeat
from mmfeat.extract.registry import resolve_all
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.featureset.arrow import from_arrow, to_arrow
from mmfeat.schemas.featureset.json import pieces, to_json
from mmfeat.schemas.spans import Span
from mmfeat.schemas.spec import FeatureConfig

SHOWN = synthetic.held_out(5)
#: Item to its shots: which scene is shown for how many frames, 10 a second.
SHOTS = {"one": [(0, 12)], "two": [(1, 12), (2, 20)], "three": [(3, 12), (0, 12), (4, 12)]}
FRAMES = {**worlds.CLIP, "source": "video", "sampling": "scenes", "frames": 2}
FEATURES = {
    "clip": FRAMES,
    "frames": {**FRAMES, "vector_per": "frame"},
    "scenes": {**FRAMES, "vector_per": "scene", "store_dtype": "float16"},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> mmfeat.FeatureStore:
    folder: Path = tmp_path_factory.mktemp("clips")
    (folder / "items" / "videos").mkdir(parents=True)
    for item_id, shots in SHOTS.items():
        pixels = [square(SHOWN[scene]) for scene, length in shots for _ in range(length)]
        (folder / "items" / "videos" / f"{item_id}.mp4").write_bytes(media_samples.film(pixels))
    mmfeat.extract(**worlds.job(folder / "items", folder / "store", FEATURES))
    return mmfeat.open(folder / "store")


def square(scene: synthetic.Scene) -> np.ndarray:
    return np.asarray(Image.fromarray(synthetic.render(scene)).resize((64, 64)))


def unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def test_a_scene_has_the_normalised_mean_of_its_frames_and_the_clip_that_of_all(store):
    found = store.lookup(list(SHOTS))
    for row, shots in enumerate(SHOTS.values()):
        frames, scenes = found["frames"].tokens[row], found["scenes"].tokens[row]
        assert (len(frames), len(scenes)) == (2 * len(shots), len(shots))
        np.testing.assert_allclose(scenes, unit(frames.reshape(-1, 2, 64).mean(axis=1)), atol=1e-3)
        np.testing.assert_allclose(found["clip"].matrix[row], unit(frames.mean(axis=0)), atol=1e-5)


def test_each_vector_says_when_in_the_clip_it_is(store):
    found = store.lookup(["three", "one"], ["frames", "scenes"])
    assert found["scenes"].spans[0] == (
        Span("video", 0.0, 1.2), Span("video", 1.2, 2.4), Span("video", 2.4, pytest.approx(3.6)),
    )  # fmt: skip
    assert [span.start for span in found["frames"].spans[1]] == [0.3, 0.9]
    assert all(span.start == span.end for span in found["frames"].spans[0])
    assert store.facts("scenes")["one"]["spans"] == [{"modality": "video", "start": 0.0, "end": 1.2}]


def test_what_is_known_of_each_vector_goes_where_the_vectors_go(store):
    found = store.lookup(["two", "unknown", "one", "two"], ["scenes", "clip"], unknown="mask")
    spans = found["scenes"].spans
    assert spans[1] is None and spans[0] == spans[3] and found["clip"].spans is None
    again = from_arrow(to_arrow(found))
    assert again["scenes"].spans == spans and again["clip"].spans is None
    plain = to_json(found)["features"]
    assert plain["scenes"]["spans"][2] == [{"modality": "video", "start": 0.0, "end": 1.2}]
    assert "spans" not in plain["clip"]
    assert b'"spans":[[{"modality":"video","start":0.0' in b"".join(pieces(found))


@pytest.mark.parametrize("scene", range(5))
def test_a_text_finds_the_clip_that_shows_it_in_one_of_its_scenes(store, scene):
    shown = SHOWN[scene]
    vector = store._encoders.text(store.spec("clip"), f"a {shown.colour} {shown.shape}")
    best = {i: max(store.lookup([i], ["scenes"])["scenes"].tokens[0].astype(float) @ vector) for i in SHOTS}
    hits = store.search("scenes", text=f"a {shown.colour} {shown.shape}")
    assert [hit.item_id for hit in hits] == sorted(best, key=lambda i: -best[i])
    assert hits[0].item_id in [i for i, shots in SHOTS.items() if scene in dict(shots)]


def test_ragged_vectors_are_offsets_and_values_and_tensors(store):
    found = store.lookup(["three", "unknown", "one"], ["scenes"], unknown="mask")["scenes"]
    assert found.ragged.offsets.tolist() == [0, 3, 3, 4]
    np.testing.assert_array_equal(found.ragged.values[:3], found.tokens[0])
    nested = found.to_nested()
    assert [len(own) for own in nested.unbind()] == [3, 0, 1]
    assert torch.equal(nested.unbind()[2], torch.tensor(found.tokens[2]))
    vectors, mask = found.to_padded()
    assert mask.tolist() == [[True] * 3, [False] * 3, [True, False, False]]
    assert vectors.shape == (3, 3, 64) and not vectors[~mask].any()
    np.testing.assert_array_equal(vectors[mask].numpy(), found.ragged.values)


def test_an_option_that_is_not_set_changes_no_identity(store):
    spec = store.spec("clip")
    assert "vector_per" not in spec.options and spec.options["time_pooling"] == "mean"
    assert "time_pooling" not in store.spec("frames").options
    assert len({store.spec(name).fingerprint for name in FEATURES}) == 3


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({**worlds.CLIP, "vector_per": "frame"}, "'vector_per' goes with a clip, not with 'cover'"),
        ({**FRAMES, "sampling": "uniform", "vector_per": "scene"}, 'goes with sampling = "scenes"'),
        ({**worlds.CLIP, "source": "title", "vector_per": "frame"}, "'vector_per' goes with pictures"),
        (
            {**worlds.DINO, "source": "video", "hidden_states": True, "vector_per": "frame"},
            "a frame has several vectors",
        ),
    ],
)
def test_what_has_no_frames_or_scenes_of_its_own_is_refused(table, message):
    with pytest.raises(ConfigError, match=message):
        resolve_all({"a": FeatureConfig(**table)})
