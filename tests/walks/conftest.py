"""The plug-ins of ``plugins/``, each installed as a package of its own."""

from __future__ import annotations

import io
import os
import shutil
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.plugins import write_plugin

PLUGINS = Path(__file__).parent / "plugins"


@pytest.fixture
def install(tmp_path_factory, monkeypatch) -> Callable[[str, str], None]:
    """``install("bands", "band_energies:BandEnergies")``: the file and the entry point that a package has."""

    def add(name: str, target: str) -> None:
        folder = write_plugin(tmp_path_factory.mktemp(name), {"mmfeat.encoders": {name: target}})
        shutil.copy(PLUGINS / f"{target.partition(':')[0]}.py", folder)
        monkeypatch.syspath_prepend(str(folder))
        # Where processes that a run starts look.
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))

    return add


@pytest.fixture
def tone() -> Callable[[float], bytes]:
    """A second of a tone: the bytes of a WAVE file."""

    def made(hertz: float, rate: int = 44_100) -> bytes:
        file = io.BytesIO()
        with wave.open(file, "wb") as output:
            output.setnchannels(1)
            output.setsampwidth(2)
            output.setframerate(rate)
            output.writeframes(_samples(hertz, rate).tobytes())
        return file.getvalue()

    return made


@pytest.fixture
def talkie() -> Callable[[float | None], bytes]:
    """A second of a grey clip with a tone, or without a track of sound."""

    def made(hertz: float | None, rate: int = 48_000) -> bytes:
        file = io.BytesIO()
        with av.open(file, "w", format="matroska") as output:
            pictures = output.add_stream("libx264", rate=10)
            pictures.height, pictures.width, pictures.pix_fmt = 48, 64, "yuv420p"
            sound = None if hertz is None else output.add_stream("pcm_s16le", rate=rate, layout="mono")
            grey = np.full((48, 64, 3), 90, np.uint8)
            for _ in range(10):
                output.mux(pictures.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
            output.mux(pictures.encode())
            if sound is not None and hertz is not None:
                frame = av.AudioFrame.from_ndarray(_samples(hertz, rate)[None], format="s16", layout="mono")
                frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
                output.mux(sound.encode(frame))
                output.mux(sound.encode())
        return file.getvalue()

    return made


def _samples(hertz: float, rate: int) -> np.ndarray:
    """int16 ``[rate]``."""
    return (12_000 * np.sin(2 * np.pi * hertz * np.arange(rate) / rate)).astype(np.int16)
