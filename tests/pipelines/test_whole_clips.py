"""A job over clips: a video model sees their order, short ones count, and decord's wrong frames are told."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import media_samples, worlds

import mmfeat

VIDEOMAE = {
    "source": "video",
    "encoder": "transformers_video",
    "model": str(worlds.MODELS / "tiny-videomae"),
    "weights": "random:0",
}
FEATURES = {
    "motion": VIDEOMAE,
    "strided": {**VIDEOMAE, "sampling": "middle", "stride": 2},
    "published": {**VIDEOMAE, "reader": "decord"},
    "frames": {**worlds.CLIP, "source": "video", "frames": 4},
}


def light(at: int) -> np.ndarray:
    """A white bar on blue, further right from frame to frame: uint8 ``[48, 64, 3]``."""
    picture = np.full((48, 64, 3), (20, 40, 160), np.uint8)
    picture[:, 6 * at : 6 * at + 8] = 255
    return picture


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Clips of a light that moves right and left, one of two frames, and one that decord reads otherwise."""
    media = tmp_path_factory.mktemp("clips") / "media"
    (media / "videos").mkdir(parents=True)
    right = [light(k) for k in range(10)]
    files = {
        "right": media_samples.film(right),
        "left": media_samples.film(right[::-1]),
        "short": media_samples.film(right[:2]),
        "open": media_samples.clip(**media_samples.KINDS["hevc, open groups"]),
    }
    for name, data in files.items():
        (media / "videos" / f"{name}.mp4").write_bytes(data)
    uri = str(media.parent / "store")
    resources = {"executor": "local"}
    mmfeat.extract(
        "folder", media, store=uri, features=FEATURES, resources=resources, run={"max_failed": 1.0}
    )
    return mmfeat.open(uri)


def values(store, feature, ids):
    found = store.lookup(ids, [feature])[feature]
    assert list(found.status) == ["ok"] * len(ids)
    return found.values


def test_a_video_model_tells_right_from_left_and_the_mean_of_frames_does_not(store):
    motion, frames = (values(store, name, ["right", "left"]) for name in ("motion", "frames"))
    apart = [np.abs(found[0] - found[1]).max() / np.abs(found).max() for found in (motion, frames)]
    # Compression differs a little from one direction to the other.
    assert apart[0] > 4 * apart[1]


def test_a_clip_of_two_frames_has_a_vector_of_the_four_that_the_model_takes(store):
    for name in ("motion", "strided"):
        assert np.isfinite(values(store, name, ["short"])).all()


def test_a_stride_is_another_feature_with_other_values(store):
    one, other = (values(store, name, ["right"]) for name in ("motion", "strided"))
    assert np.abs(one - other).max() > 1e-4


def test_a_clip_that_decord_reads_otherwise_is_failed_and_the_others_are_as_by_pyav(store):
    np.testing.assert_array_equal(*(values(store, n, ["right", "left"]) for n in ("motion", "published")))
    assert list(store.lookup(["open"], ["published"])["published"].status) == ["failed"]
    assert list(store.lookup(["open"], ["motion"])["motion"].status) == ["ok"]
    (row,) = store.lookup(["open"], ["published"])["published"].reason
    assert "leave reader out" in row
