"""A newcomer adds an encoder that reads a clip as a clip: ``plugins/motion.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import media_samples

import mmfeat
from mmfeat.extract.registry import METHODS, resolve_all
from mmfeat.extract.testing import check_method
from mmfeat.schemas.media import Frames
from mmfeat.schemas.spec import FeatureConfig

MOTION = {"source": "video", "encoder": "motion"}


@pytest.fixture(autouse=True)
def motion(install) -> None:
    install("motion", "motion:Motion")


def light(at: float) -> np.ndarray:
    """A white bar on black, from the left (0) to the right (1): uint8 ``[48, 64, 3]``."""
    picture = np.zeros((48, 64, 3), np.uint8)
    left = round(at * 56)
    picture[:, left : left + 8] = 255
    return picture


RIGHT = [light(k / 9) for k in range(10)]


@pytest.fixture
def media(tmp_path) -> Path:
    """The same ten frames forwards and backwards, and a still clip."""
    folder = tmp_path / "media" / "videos"
    folder.mkdir(parents=True)
    clips = {"right": RIGHT, "left": RIGHT[::-1], "still": [light(0.5)] * 10}
    for name, pictures in clips.items():
        (folder / f"{name}.mp4").write_bytes(media_samples.film(pictures))
    return folder.parent


def test_the_plug_in_keeps_the_contract_of_methods():
    other_size = Frames(np.zeros((2, 7, 5, 3), np.uint8), (0.0, 1.0))
    check_method(METHODS["encoder"].get("motion"), {**MOTION, "frames": 6}, failing=[(other_size,)])


def test_the_order_of_frames_decides_the_value(media):
    store = str(media.parent / "store")
    features = {"motion": {**MOTION, "frames": 5}}
    mmfeat.extract("folder", media, store=store, features=features, resources={"executor": "local"})
    found = mmfeat.open(store).lookup(["right", "left", "still"], ["motion"])["motion"].values
    across = found[:, ::2]  # where the light is first, and how far right of that it is later
    assert across[0, 0] < -0.5 < 0.5 < across[1, 0]
    assert across[0, 1] > 0.3
    assert across[0, 3] > 1
    assert across[1, 3] < -1
    np.testing.assert_allclose(across[2, 1:], 0, atol=0.05)


def test_options_that_choose_frames_are_part_of_the_fingerprint():
    tables = [MOTION, {**MOTION, "frames": 8}, {**MOTION, "frames": 4}, {**MOTION, "sampling": "middle"}]
    specs = resolve_all({f"f{n}": FeatureConfig(**table) for n, table in enumerate(tables)})
    plain, written, fewer, middle = (spec.fingerprint for spec in specs)
    assert plain == written
    assert len({plain, fewer, middle}) == 3
