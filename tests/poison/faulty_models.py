"""Encoders that fail on demand, installed as other packages install theirs: by entry point.

No real model fails on demand. A cover's blue value says what happens on it; its red and green are
the vector, so that a shifted row shows.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from mmfeat.extract.base import Ask, Encoder, Placement, Reads
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.inputs import AudioPrepare, ImagePrepare, PixelView
from mmfeat.schemas.outputs import VectorOut
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import FeatureSpec, ModelCard, Weights

SIDE = 8
FITS = 4
FINE, WAITS, RAISES, NOT_A_NUMBER, INFINITE, CRASHES, TOO_LARGE = 0, 25, 50, 100, 150, 200, 250


class Faulty(Encoder):
    """``[red, green]`` of each picture; more than ``FITS`` pictures at once do not fit in memory."""

    reads = (Reads(("image",)),)
    example = ModelCard(
        method="faulty", model="m", reads=("image",), dims=2, licence="Apache-2.0", weights_from="nowhere"
    )
    batch_size = 32
    #: Of every call, in order.
    sizes: ClassVar[list[int]] = []
    #: Whether this process has met a picture that waits: the first one goes on at once.
    passed: ClassVar[bool] = False

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        self.spec = spec

    @classmethod
    def resolve(cls, ask: Ask[Frozen]) -> FeatureSpec:
        view = PixelView(mode="squash", height=SIDE, width=SIDE)
        return ask.spec(
            inputs=(ask.only.prepared(ImagePrepare(view=view)),),
            output=VectorOut(dims=2),
            model="m",
            weights=Weights(origin="random", ref="seed=0"),
        )

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """The pictures' own colours, unless one of them brings a fault."""
        self.sizes.append(len(pixels))
        if len(pixels) > FITS:
            raise MemoryError
        red, green, fault = pixels[:, 0, 0].astype(np.float32).T
        if (fault == WAITS).any():
            if self.passed:
                _wait_for(Path(os.environ["FAULTY_GATE"]))
            Faulty.passed = True
        if (fault == TOO_LARGE).any():
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        if (fault == CRASHES).any():
            ctypes.string_at(0)
        if (fault == RAISES).any():
            raise ValueError("cannot do this picture")
        vectors = np.stack([red, green], axis=1)
        vectors[fault == NOT_A_NUMBER, 0] = np.nan
        vectors[fault == INFINITE, 1] = np.inf
        return vectors


class Heard(Encoder):
    """``[first sample, number of samples]`` of each sound, so that a shifted row shows."""

    reads = (Reads(("audio",)),)
    example = ModelCard(
        method="heard", model="m", reads=("audio",), dims=2, licence="Apache-2.0", weights_from="nowhere"
    )

    @classmethod
    def resolve(cls, ask: Ask[Frozen]) -> FeatureSpec:
        return ask.spec(
            inputs=(ask.only.prepared(AudioPrepare(sample_rate=8_000)),),
            output=VectorOut(dims=2),
            model="m",
            weights=Weights(origin="random", ref="seed=0"),
        )

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        self.spec = spec

    def encode_sounds(self, sounds: Sequence[Sound]) -> np.ndarray:
        return np.array([[one.samples[0], len(one.samples)] for one in sounds], np.float32)


def _wait_for(gate: Path) -> None:
    """Until somebody makes this file; an error after a minute."""
    until = time.monotonic() + 60
    while not gate.exists():
        if time.monotonic() > until:
            raise ValueError("nobody opened the gate")
        time.sleep(0.05)
