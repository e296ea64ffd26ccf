"""Sounds, and clips with sound, whose right answer is known, written on the spot."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
from av.stream import Disposition

from helpers.media_samples import encoded, numbered, picture


def tone(hertz: float, seconds: float, rate: int, loud: float = 0.5) -> np.ndarray:
    """float32 ``[samples]``"""
    return (loud * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def sound(
    channels: np.ndarray, rate: int, codec: str = "pcm_s16le", container: str = "wav", layout: str = ""
) -> bytes:
    """A file of these channels, float32 ``[channels, samples]`` or ``[samples]``: always the same bytes."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, options={"fflags": "+bitexact"}) as output:
        _mux(output, [Track(np.atleast_2d(channels), rate, codec, layout)])
    return file.getvalue()


class Track:
    def __init__(self, channels, rate, codec, layout="", *, delay=0.0, default=None):
        self.layout = layout or {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[len(channels)]
        self.channels, self.rate, self.codec, self.delay = channels, rate, codec, delay
        self.default = default

    def packets(self, stream: av.AudioStream) -> list[av.Packet]:
        interleaved = np.ascontiguousarray(self.channels.T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=self.layout)
        frame.sample_rate, frame.time_base = self.rate, Fraction(1, self.rate)
        frame.pts = round(self.delay * self.rate)
        return [*(stream.encode(frame) if self.channels.size else ()), *stream.encode()]


def _mux(output: av.container.OutputContainer, tracks: list[Track], frames: int = 0) -> None:
    """``frames`` numbered pictures, 25 a second, beside the tracks."""
    packets = []
    if frames:
        pictures = output.add_stream("mpeg4" if output.format.name == "avi" else "libx264", rate=25)
        pictures.height, pictures.width, pictures.pix_fmt = 96, 160, "yuv420p"
    streams = [output.add_stream(t.codec, rate=t.rate, layout=t.layout) for t in tracks]
    for stream, track in zip(streams, tracks, strict=True):
        stream.bit_rate = 128_000
        if track.default is not None:
            stream.disposition = Disposition.default if track.default else Disposition.dub
    for i in range(frames):
        packets += pictures.encode(av.VideoFrame.from_ndarray(numbered(i), format="rgb24"))
    if frames:
        packets += pictures.encode()
    for stream, track in zip(streams, tracks, strict=True):
        packets += track.packets(stream)
    if not packets:
        output.start_encoding()
    for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
        output.mux(packet)


def talkie(*tracks: Track, container: str = "mp4", frames: int = 50) -> bytes:
    """A clip of numbered frames with these sound tracks."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        _mux(output, list(tracks), frames)
    return file.getvalue()


def covered(track: Track, container: str) -> bytes:
    """A sound file with a cover, which its container has as a track of pictures."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(track.codec, rate=track.rate, layout=track.layout)
        cover = output.add_stream("mjpeg")
        cover.width = cover.height = 64
        cover.pix_fmt = "yuvj420p"
        cover.disposition = Disposition.attached_pic
        packet = av.Packet(encoded(picture(64, 64), "JPEG"))
        packet.stream, packet.time_base, packet.pts, packet.dts = cover, Fraction(1, 1000), 0, 0
        packets = track.packets(stream)
        output.mux(packet)
        output.mux(packets)
    return file.getvalue()
