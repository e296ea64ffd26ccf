"""Pixels are resized without torch to the pixels that torch makes, and torch is imported once that pays."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfeat.extract.canary import FILES
from mmfeat.extract.fence.decode import MediaRequest, decode_media, picture_of
from mmfeat.extract.fence.process import DecoderProcess
from mmfeat.extract.modalities.decoders import resize
from mmfeat.extract.modalities.decoders.resize import TorchNeeded, resized
from mmfeat.schemas.inputs import PixelView
from mmfeat.schemas.media import MediaLimits

SQUARE = PixelView(mode="squash", height=64, width=64)
REQUEST = MediaRequest(str(FILES["image"]), (picture_of(SQUARE),))
DECODES = f"""
import json, sys
from mmfeat.extract.fence.decode import MediaRequest, decode_media, picture_of
from mmfeat.extract.modalities.decoders import resize
from mmfeat.schemas.inputs import PixelView
from mmfeat.schemas.media import MediaLimits
request = MediaRequest({REQUEST.location!r}, (picture_of(PixelView(**{SQUARE.model_dump()!r})),))
resize.TORCH_PAYS_FROM = 20
found = []
for _ in range(11):
    pixels = decode_media(request, MediaLimits()).values[0].pixels
    found.append([int(pixels.sum()), "torch" in sys.modules])
print(json.dumps(found))
"""


@pytest.fixture
def without_torch(monkeypatch):
    """A process that has not imported it."""
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(resize, "_passes", 0)


def by_torch(pixels: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    """Rows before columns."""
    for part in ((pixels.shape[0], size[1]), size):
        if pixels.shape[:2] != part:
            planes = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
            scaled = torch.nn.functional.interpolate(planes, part, mode=mode, antialias=True)
            pixels = np.ascontiguousarray(scaled[0].permute(1, 2, 0).numpy())
    return pixels


def noise(size: tuple[int, int], seed: int, extreme: bool) -> np.ndarray:
    """Pixels of any value, or black and white ones alone, beside which a cubic leaves the range of a byte."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2, (*size, 3)) * 255 if extreme else rng.integers(0, 256, (*size, 3))
    return values.astype(np.uint8)


#: A width of which one of the bicubic weights for 224 is half a number, but for float64's last digits.
IN_DOUBT = 2306
SIDES = st.integers(1, 300)


@settings(max_examples=120, deadline=None)
@given(
    size=st.tuples(SIDES, SIDES) | st.tuples(st.integers(1, 3), st.integers(1, 3000)),
    target=st.tuples(st.integers(1, 260), st.integers(1, 260)),
    mode=st.sampled_from(("bilinear", "bicubic")),
    seed=st.integers(0, 99),
    extreme=st.booleans(),
)
def test_without_torch_pixels_are_those_of_torch_to_the_bit(size, target, mode, seed, extreme):
    pixels = noise(size, seed, extreme)
    wanted = by_torch(pixels, target, mode)
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "torch")
        patch.setattr(resize, "_passes", 0)
        found = resized(pixels, target, mode)
        assert "torch" not in sys.modules
    np.testing.assert_array_equal(found, wanted)


def test_a_size_whose_weights_rounding_may_turn_is_left_to_torch(without_torch):
    with pytest.raises(TorchNeeded):
        resized(noise((2, IN_DOUBT), 0, extreme=False), (2, 224), "bicubic")


@pytest.mark.slow
@pytest.mark.parametrize("side", [224, 256, 336, 384])
def test_sizes_of_covers_are_hardly_ever_left_to_torch(side):
    left = 0
    for length in range(1, 3001):
        try:
            resize._Weights.of(length, side, "bicubic")
        except TorchNeeded:
            left += 1
    assert left <= 5


def test_a_decoding_process_makes_its_first_pictures_without_torch():
    child = DecoderProcess()
    child.wait_until_ready()
    child.send(pickle.dumps((REQUEST, MediaLimits())))
    found = child.answer(REQUEST).values[0]
    libraries = Path(f"/proc/{child.process.pid}/maps").read_text(encoding="utf-8")
    child.process.kill()
    assert "simplejpeg" in libraries and "libtorch" not in libraries
    np.testing.assert_array_equal(found.pixels, decode_media(REQUEST, MediaLimits()).values[0].pixels)


def test_torch_is_imported_by_the_picture_from_which_on_it_pays_and_changes_none():
    done = subprocess.run([sys.executable, "-c", DECODES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    here = decode_media(REQUEST, MediaLimits()).values[0].pixels
    assert [imported for _, imported in found] == [False] * 10 + [True]
    assert {total for total, _ in found} == {int(here.sum())}
