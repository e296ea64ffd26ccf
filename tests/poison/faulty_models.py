"""An encoder that fails on demand, installed as other packages install theirs: by entry point.

No real model fails on demand. A cover's blue value says what happens on it; its red and green are
the vector, so that a shifted row shows.
"""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from typing import ClassVar

import numpy as np

from mmfeat.extract.base import Encoder
from mmfeat.schemas.spec import FeatureSpec, ImagePreprocess, ModelCard, PixelView, Weights

SIDE = 8
FITS = 4
FINE, WAITS, RAISES, NOT_A_NUMBER, INFINITE, CRASHES, TOO_LARGE = 0, 25, 50, 100, 150, 200, 250


class Faulty(Encoder):
    """``[red, green]`` of each picture; more than ``FITS`` pictures at once do not fit in memory."""

    batch_size = 32
    #: Of every call, in order.
    sizes: ClassVar[list[int]] = []
    #: Whether this process has met a picture that waits: the first one goes on at once.
    passed: ClassVar[bool] = False

    def __init__(self, spec: FeatureSpec, device: str) -> None:
        self.spec = spec

    @classmethod
    def resolve(cls, name, config, upstream):
        return FeatureSpec(
            name=name, source=config.source, output="vector", method="faulty", model="m", dims=2,
            weights=Weights(origin="random", ref="seed=0"), store_dtype="float32",
            image=ImagePreprocess(view=PixelView(mode="squash", height=SIDE, width=SIDE)),
        )  # fmt: skip

    @classmethod
    def card(cls, spec):
        return ModelCard(
            method="faulty", model="m", reads=("cover",), dims=2, licence="Apache-2.0", weights_from="nowhere"
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


def _wait_for(gate: Path) -> None:
    """Until somebody makes this file; an error after a minute."""
    until = time.monotonic() + 60
    while not gate.exists():
        if time.monotonic() > until:
            raise ValueError("nobody opened the gate")
        time.sleep(0.05)
