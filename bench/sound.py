"""``python -m bench.sound [--seconds S]``: the sound of a clip alone, and beside its frames.

A clip of 30 s (H.264, 1280x720, 25 frames a second; AAC, 48 kHz stereo) is decoded in one process with one
core: 8 uniform frames at 224x224, the sound at 16 kHz, both as a run decodes them (each opens the file for
itself), and for comparison the file opened and all its packets read without decoding any, which is the most
that one pass for both could save. Beside it PyAV's own loop over the sound, with FFmpeg's resampler.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np

from bench import media
from mmfeat.extract.modalities.decoders.sound import render_sound
from mmfeat.extract.modalities.decoders.video import render_clip
from mmfeat.schemas.inputs import AudioPrepare, FrameSampling, PixelView
from mmfeat.schemas.media import MediaLimits

SECONDS, ROUNDS = 30, 3
RATE, PLAIN_RATE = 48_000, 16_000
VIEW = PixelView(mode="squash", height=224, width=224)
WINDOWS = AudioPrepare(sample_rate=PLAIN_RATE, seconds=10, windows="uniform", count=8)
WHOLE = AudioPrepare(sample_rate=PLAIN_RATE)
MINUTES = 120


def main() -> None:
    """Milliseconds of processor time per clip, in rounds, and seconds of a long sound."""
    parser = argparse.ArgumentParser(prog="python -m bench.sound", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    seconds = parser.parse_args().seconds
    clip, limits = talking_clip(), MediaLimits()

    def frames() -> None:
        render_clip(clip, FrameSampling(mode="uniform", count=8), [VIEW], limits)

    def sound() -> None:
        render_sound(clip, [WINDOWS], limits)

    def both() -> None:
        frames()
        sound()

    sides: dict[str, Callable[[], object]] = {
        "8 frames": frames,
        "sound, 8 windows": sound,
        "sound, whole": lambda: render_sound(clip, [WHOLE], limits),
        "sound, plain PyAV loop": lambda: plain(clip),
        "8 frames and sound": both,
        "packets alone": lambda: packets(clip),
    }
    for side in sides.values():
        side()
    for number in range(ROUNDS):
        found = {name: milliseconds(side, seconds) for name, side in sides.items()}
        print(f"round {number + 1}: " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in found.items()))
    long = wave(60 * MINUTES)
    began = time.process_time()
    render_sound(long, [WINDOWS], limits)
    print(f"{MINUTES} minutes of WAV, {len(long) >> 20} MiB, 8 windows: {time.process_time() - began:.2f} s")


def milliseconds(side: Callable[[], object], seconds: float) -> float:
    """Of the processor for one call, over as many as fit."""
    began, calls = time.process_time(), 0
    while time.process_time() - began < seconds:
        side()
        calls += 1
    return 1000 * (time.process_time() - began) / calls


def plain(clip: bytes) -> None:
    """The usual loop: FFmpeg's own mixing and resampling."""
    with av.open(io.BytesIO(clip)) as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=PLAIN_RATE)
        pieces = [
            one.to_ndarray() for frame in container.decode(audio=0) for one in resampler.resample(frame)
        ]
        np.concatenate(pieces, axis=1)


def packets(clip: bytes) -> None:
    """Every packet, and nothing decoded."""
    with av.open(io.BytesIO(clip)) as container:
        for _ in container.demux():
            pass


def wave(seconds: int) -> bytes:
    """16-bit sound of 8 kHz."""
    file = io.BytesIO()
    second = (8000 * np.sin(np.arange(8000) / 5)).astype(np.int16)
    with av.open(file, "w", format="wav") as output:
        stream = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        for number in range(seconds):
            output.mux(stream.encode(_frame(second[None], 8000, "s16", "mono", number * 8000)))
        output.mux(stream.encode())
    return file.getvalue()


def talking_clip() -> bytes:
    """30 s of a slow pan, with noise that swells."""
    rng = np.random.default_rng(0)
    width, height = media.CLIP_SIZE
    still = media.picture(rng, width + 400, height)
    file, number = io.BytesIO(), SECONDS * media.CLIP_RATE
    codec, options = media.CODECS["h264"]
    with av.open(file, "w", format="mp4") as output:
        pictures = output.add_stream(codec, rate=media.CLIP_RATE)
        pictures.width, pictures.height, pictures.pix_fmt = width, height, "yuv420p"
        pictures.options = options
        sound = output.add_stream("aac", rate=RATE, layout="stereo")
        for index in range(number):
            left = int(400 * index / number)
            frame = np.ascontiguousarray(still[:, left : left + width])
            output.mux(pictures.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
            samples = RATE // media.CLIP_RATE
            noise = rng.normal(0, 0.1 + 0.1 * np.sin(index / 20), (1, 2 * samples)).astype(np.float32)
            output.mux(sound.encode(_frame(noise, RATE, "flt", "stereo", index * samples)))
        output.mux(pictures.encode())
        output.mux(sound.encode())
    return file.getvalue()


def _frame(samples: np.ndarray, rate: int, form: str, layout: str, at: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(samples, format=form, layout=layout)
    frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), at
    return frame


if __name__ == "__main__":
    main()
