"""An encoder without weights that fails on demand, and covers of which it knows the right values.

A cover's blue says what happens on it; its red and green are the vector, so that a shifted row shows.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmfeat.extract.base import Ask, Encoder, Placement, Reads
from mmfeat.schemas.inputs import ImagePrepare, PixelView
from mmfeat.schemas.outputs import VectorOut
from mmfeat.schemas.spec import FeatureSpec, ModelCard, Weights

#: By group of entry points.
POINTS = {"mmfeat.encoders": {"colours": "colours:Colours"}}
FEATURES = {"colour": {"source": "cover", "encoder": "colours"}}
FITS = 4
FINE, RAISES, DIES = 0, 50, 100


class Colours(Encoder):
    """``[red, green]`` of each picture; more than ``FITS`` pictures at once do not fit in memory."""

    reads = (Reads(("image",)),)
    example = ModelCard(
        method="colours", model="colours", reads=("image",), dims=2, licence="MIT", weights_from="nowhere"
    )

    @classmethod
    def resolve(cls, ask: Ask[Any]) -> FeatureSpec:
        view = PixelView(mode="squash", height=8, width=8)
        return ask.spec(
            inputs=(ask.only.prepared(ImagePrepare(view=view)),),
            output=VectorOut(dims=2),
            model="colours",
            weights=Weights(origin="random", ref="seed=0"),
        )

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        self.spec = spec

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """The pictures' own colours, unless one of them brings a fault."""
        if len(pixels) > FITS:
            raise MemoryError
        red, green, fault = pixels[:, 0, 0].astype(np.float32).T
        if (fault == DIES).any():
            os.kill(os.getpid(), signal.SIGKILL)
        if (fault == RAISES).any():
            raise ValueError("cannot do this picture")
        return np.stack([red, green], axis=1)


def write_covers(folder: Path, number: int, faults: Mapping[int, int | bytes]) -> Path:
    """``covers/item-000.png`` and so on: ``[n, 7 n]`` as red and green of the ``n``-th, its fault as blue.

    Covers that are there stay as they are.

    Args:
        faults: by number; bytes are those of a file that no decoder likes.
    """
    covers = folder / "covers"
    covers.mkdir(parents=True, exist_ok=True)
    for n in range(number):
        fault = faults.get(n, FINE)
        if isinstance(fault, bytes):
            (covers / f"item-{n:03d}.bmp").write_bytes(fault)
        elif not (cover := covers / f"item-{n:03d}.png").exists():
            Image.new("RGB", (16, 16), (n, 7 * n % 256, fault)).save(cover)
    return folder
