"""Decoding the sound of a file, or of a clip's own track, once for every preparation that is wanted.

PyAV (FFmpeg's libraries) decodes and resamples. One channel is made of several before resampling: the
arithmetic mean of all of them, as librosa's and torchaudio's users make it (libswresample's own downmix
weighs them, and depends on the number type). The decoder's samples are taken one after the other: what
encoders put in front to start up is left out where the file says how much that is, and gaps in a track's
timestamps are closed.

Memory: the file, a few thousand samples on their way, and the windows that are kept. Windows that are
spread over the whole sound need its length in samples. Of a sound that is no longer than all its windows
together everything is kept, and cut up when its end is there. Of others what the file says of the length
is tried first; where decoding finds another one, the sound is decoded once more.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import reduce
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from mmfeat.extract.media.limits import check_bytes
from mmfeat.extract.modalities.decoders.container import declared_size
from mmfeat.extract.modalities.decoders.kinds import unreadable
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.inputs import AudioPrepare
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.sound import Sound

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Nothing else: playlists, for one, make FFmpeg open further files and URLs.
_CONTAINERS = "wav,aiff,mp3,flac,ogg,aac,mov,matroska,avi,flv,mpegts,mpeg,asf"
_CUT_SHORT = "sound is cut short"
# Containers whose header says how long the sound is. Of others FFmpeg guesses by what is there.
_SAY_LENGTH = frozenset({"wav", "aiff", "flac", "mov", "matroska"})
# Containers in which every packet has a time of its own, and silence may be left out.
_MAY_HAVE_GAPS = frozenset({"mov", "matroska"})
# Such lengths are rounded and count what encoders add at the ends.
_SLACK = Fraction(1, 4)
# An MP3 file says how many frames it has in its first one, behind its tags.
_MP3_LENGTHS = (b"Xing", b"Info", b"VBRI")
_MP3_FRAME = 2048
# Hz. Other rates are damage, and resampling from them could need any amount of memory.
_LOWEST_RATE, _HIGHEST_RATE = 100, 1_000_000
# Samples that go through numpy and the resampler together.
_BATCH = 1 << 14
# Silence behind the end, in samples of the lower rate: more than libswresample's filter holds back.
_TAIL = 64
# Of frames that go together: sample format, number of channels, sample rate.
_Kind = tuple[str, int, int]
# How many samples a sound has before resampling: of each stretch of one rate, its samples and the rate.
_Length = list[tuple[int, int]]


def render_sound(data: bytes, wanted: Sequence[AudioPrepare], limits: MediaLimits) -> list[Sound] | None:
    """Decode the sound of a file once and prepare it in every wanted way.

    Of several tracks it takes the first that the file marks as default, else the first. Decoding stops
    when every wanted window is complete, so what is missing or damaged after it is not noticed; neither
    are undecodable bytes before and after the sound, such as tags.

    That a file was cut short is seen from the sizes, the index or the length in its header. AAC, Ogg, FLV,
    MPEG, WMA and live files have none, nor has an MP3 that does not count its frames.

    Args:
        data: a WAV, AIFF, MP3, FLAC, Ogg, AAC, MP4, QuickTime, Matroska, WebM, AVI, FLV, MPEG or WMA file.
        wanted: a failure fails them all.

    Returns:
        per preparation, in order, its sound; None if the file has no sound track.

    Raises:
        ItemError: stage ``decode``: nothing that can be read, cut short before a wanted window is
            complete, damaged, without a sample, or over the limits.
    """
    import av

    if not data:
        raise ItemError("decode", "file is empty")
    try:
        with _opened(data, limits) as track:
            if track is None:
                return None
            guess = track.guess
            takes = _taken(track, wanted, guess)
        if not all(take.settled(track.length, guess) for take in takes):
            length = track.length
            del takes
            with _opened(data, limits) as track:
                assert track is not None
                takes = _taken(track, wanted, length)
            for take in takes:
                take.settled(length, length)
        return [take.sound(track.start) for take in takes]
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise ItemError("decode", f"sound is damaged ({error.strerror})") from error


@contextmanager
def _opened(data: bytes, limits: MediaLimits) -> Iterator[_Track | None]:
    """The sound track, from its start; None if there is none."""
    import av

    try:
        container = av.open(
            io.BytesIO(data), "r", options={"format_whitelist": _CONTAINERS}, metadata_errors="replace"
        )
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError) as error:
        reason = _cut_short(data) or unreadable("a sound or clip", data)
        raise ItemError("decode", reason) from error
    with container:
        most = limits.sound_bytes if _picture_track(container) is None else limits.clip_bytes
        check_bytes("decode", len(data), most)
        tracks = container.streams.audio
        if not tracks:
            yield None
            return
        stream = next((s for s in tracks if s.disposition & s.disposition.default), tracks[0])
        yield _Track(container, stream, data, limits)


def _taken(track: _Track, wanted: Sequence[AudioPrepare], length: _Length) -> list[_Take]:
    """Decode a track from its start to the end of the last window; to its own end if that is to be known."""
    takes = [_Take(prepare, length) for prepare in wanted]
    rates = [
        _Rate(rate, [take for take in takes if take.prepare.sample_rate == rate])
        for rate in dict.fromkeys(prepare.sample_rate for prepare in wanted)
    ]
    to_end = _needs_length(wanted)
    for piece, piece_rate in track.pieces():
        for rate in rates:
            rate.feed(piece, piece_rate)
        if not to_end and all(take.complete for take in takes):
            break
    else:
        track.check_whole()
        for rate in rates:
            rate.finish()
    return takes


def _needs_length(wanted: Sequence[AudioPrepare]) -> bool:
    return any(prepare.windows == "uniform" for prepare in wanted)


def _cut_short(data: bytes) -> str | None:
    if (declared := declared_size(data)) > len(data):
        return f"{_CUT_SHORT}: {len(data):,} of {declared:,} bytes are there"
    return None


class _Track:
    """A file's sound track and a decoder for it; to be decoded once.

    Attributes:
        guess: what the file says of ``length``; empty if it says nothing.
        length: of what was decoded so far.
        start: when the first sample sounds, seconds; known once there is one.
    """

    def __init__(
        self, container: InputContainer, stream: AudioStream, data: bytes, limits: MediaLimits
    ) -> None:
        self.container, self.stream, self.data, self.limits = container, stream, data, limits
        if stream.codec_context is None:
            raise ItemError("decode", "sound is of a kind that cannot be decoded")
        self.decoder: AudioCodecContext = stream.codec_context
        # A run decodes many files at a time, one per core.
        self.decoder.thread_type, self.decoder.thread_count = "NONE", 1
        self.time_base = stream.time_base or Fraction(1, 1_000_000)
        self.declared = _declared(container, stream, data)
        if self.declared is not None:
            self._check_seconds(self.declared)
        self.start = self.seconds = Fraction(0)
        self.length: _Length = []
        self.first: AudioFrame | None = None
        self.last: AudioFrame | None = None
        self.corrupt = False

    @property
    def guess(self) -> _Length:
        rate = self.decoder.sample_rate
        return [(round(self.declared * rate), rate)] if self.declared and rate else []

    def pieces(self) -> Iterator[tuple[np.ndarray, int]]:
        """The sound in order: float32 ``[samples]``, one channel, and its sample rate."""
        from av.audio.resampler import AudioResampler

        batch: list[np.ndarray] = []
        kind, waiting = ("", 0, 0), 0
        for frame in self._frames():
            if waiting and (_kind(frame) != kind or waiting >= _BATCH):
                yield self._piece(batch, kind)
                batch, waiting = [], 0
            if _kind(frame) != kind:
                kind = _kind(frame)
                # To interleaved floats: PyAV reads planes beyond the last of frames with eight or more.
                convert = AudioResampler(format="flt").resample
            batch += [converted.to_ndarray()[0] for converted in convert(frame)]
            waiting += frame.samples
        if waiting:
            yield self._piece(batch, kind)

    def check_whole(self) -> None:
        """Refuse a track that ends before its end, once it was decoded."""
        # FFmpeg also says so of the end of a WAV file whose header leaves its length open.
        corrupt = self.corrupt and self.container.format.name != "wav"
        entries_end = max((entry.pos + entry.size for entry in self.stream.index_entries), default=0)
        if corrupt or entries_end > len(self.data):
            raise ItemError("decode", f"{_CUT_SHORT}: parts of it are missing at its end")
        if reason := _cut_short(self.data):
            raise ItemError("decode", reason)
        if self.declared is not None and (reached := self._reached()) < self.declared - _SLACK:
            there, whole = float(reached), float(self.declared)
            raise ItemError("decode", f"{_CUT_SHORT} or damaged: {there:,.1f} of {whole:,.1f} s are there")
        if not self.length:
            raise ItemError("decode", "sound has no sample")

    def _frames(self) -> Iterator[AudioFrame]:
        import av

        undecodable = None
        for packet in chain((p for p in self.container.demux(self.stream) if p.size), (None,)):
            self.corrupt |= packet is not None and packet.is_corrupt
            try:
                frames = [frame for frame in self.decoder.decode(packet) if frame.samples]
            except MemoryError:
                raise
            except av.FFmpegError as error:
                undecodable = error
                continue
            if frames and undecodable is not None:
                if self.first is not None:
                    raise undecodable
                undecodable = None
            for frame in frames:
                if not _LOWEST_RATE <= frame.sample_rate <= _HIGHEST_RATE:
                    reason = f"sound is damaged (its sample rate is {frame.sample_rate:,} Hz)"
                    raise ItemError("decode", reason)
                if self.first is None:
                    self._begin(frame)
                self.last = frame
                yield frame
        if undecodable is not None and self.first is None:
            raise undecodable

    def _begin(self, frame: AudioFrame) -> None:
        self.first = frame
        pictures = _picture_track(self.container)
        shown = None if pictures is None else _seconds(pictures.start_time, pictures.time_base)
        begins = _seconds(frame.pts, self.time_base)
        if begins is not None and shown is not None:
            self.start = begins - shown

    def _reached(self) -> Fraction:
        """Seconds from the first sample to the end of the last one."""
        first, last = self.first, self.last
        if first is None or last is None or first.pts is None or last.pts is None:
            return self.seconds
        if _kinds(self.container).isdisjoint(_MAY_HAVE_GAPS):
            return self.seconds
        span = (last.pts - first.pts) * self.time_base + Fraction(last.samples, last.sample_rate)
        return max(span, self.seconds)

    def _piece(self, interleaved: Sequence[np.ndarray], kind: _Kind) -> tuple[np.ndarray, int]:
        _, channels, rate = kind
        mono = _mono(np.concatenate(interleaved).reshape(-1, channels))
        if not np.isfinite(mono).all():
            raise ItemError("decode", "sound is damaged (it has samples that are not numbers)")
        before = self.length.pop()[0] if self.length and self.length[-1][1] == rate else 0
        self.length.append((before + len(mono), rate))
        self.seconds += Fraction(len(mono), rate)
        self._check_seconds(self.seconds)
        return mono, rate

    def _check_seconds(self, seconds: Fraction) -> None:
        if seconds > self.limits.sound_seconds:
            raise ItemError(
                "decode",
                f"too large: sound is {float(seconds):,.1f} s long, "
                f"over the limit of {self.limits.sound_seconds:,.1f} s",
            )


def _kinds(container: InputContainer) -> frozenset[str]:
    return frozenset(container.format.name.split(","))


def _picture_track(container: InputContainer) -> VideoStream | None:
    """What is shown beside the sound: not the cover, which audio files carry as such a track."""
    tracks = container.streams.video
    return next((s for s in tracks if not s.disposition & s.disposition.attached_pic), None)


def _declared(container: InputContainer, stream: AudioStream, data: bytes) -> Fraction | None:
    """Seconds that the file says its track has; None if it says nothing that can be relied on."""
    kinds = _kinds(container)
    # A clip's tracks differ in length, and to one that starts late FFmpeg gives the length of the clip.
    if _picture_track(container) is not None:
        return None
    if not (kinds & _SAY_LENGTH or ("mp3" in kinds and _counts_mp3_frames(data))):
        return None
    if (seconds := _seconds(stream.duration, stream.time_base)) is not None:
        return seconds
    if container.duration is not None and len(container.streams) == 1:
        return Fraction(container.duration, 1_000_000)
    return None


def _counts_mp3_frames(data: bytes) -> bool:
    start = 0
    if data.startswith(b"ID3"):
        # Seven bits a byte (ID3v2, 3.1).
        start = 10 + sum(byte << 7 * (3 - i) for i, byte in enumerate(data[6:10]))
    return any(name in data[start : start + _MP3_FRAME] for name in _MP3_LENGTHS)


def _seconds(ticks: int | None, time_base: Fraction | None) -> Fraction | None:
    return None if ticks is None or time_base is None else ticks * time_base


def _kind(frame: AudioFrame) -> _Kind:
    return frame.format.name, frame.layout.nb_channels, frame.sample_rate


def _mono(channels: np.ndarray) -> np.ndarray:
    """float32 ``[samples]``: the mean over the channels of float32 ``[samples, channels]``."""
    with np.errstate(over="ignore", invalid="ignore"):
        total: np.ndarray = reduce(np.add, channels.T)
        return total / np.float32(channels.shape[1])


class _Rate:
    """Resamples to one rate and deals out the samples to all that are wanted at it.

    A stretch of ``n`` samples at another rate gives ``ceil(n * sample_rate / rate)``.
    """

    def __init__(self, sample_rate: int, takes: Sequence[_Take]) -> None:
        self.sample_rate, self.takes = sample_rate, takes
        self.given = 0
        self.rate = sample_rate
        self.resampler: AudioResampler | None = None
        # Of the present stretch: samples that came in, samples that went out.
        self.samples_in = self.samples_out = 0

    def feed(self, piece: np.ndarray, rate: int) -> None:
        """float32 ``[samples]`` at ``rate``, the next of the sound."""
        if all(take.complete for take in self.takes):
            return
        if rate != self.rate:
            self.finish()
            self._start(rate)
        self.samples_in += len(piece)
        self._resample(piece)

    def finish(self) -> None:
        """What the resampler still holds."""
        if self.resampler is not None:
            self._resample(np.zeros(_TAIL * math.ceil(max(1, self.rate / self.sample_rate)), np.float32))
            self._resample(None)

    def _start(self, rate: int) -> None:
        from av.audio.resampler import AudioResampler

        self.rate, self.samples_in, self.samples_out = rate, 0, 0
        self.resampler = None
        if rate != self.sample_rate:
            self.resampler = AudioResampler(format="fltp", layout="mono", rate=self.sample_rate)

    def _resample(self, piece: np.ndarray | None) -> None:
        import av

        if self.resampler is None:
            if piece is not None:
                self._give(piece)
            return
        frame = None
        if piece is not None:
            frame = av.AudioFrame.from_ndarray(piece[np.newaxis], format="fltp", layout="mono")
            frame.sample_rate = self.rate
        for resampled in self.resampler.resample(frame):
            self._give(resampled.to_ndarray()[0])

    def _give(self, samples: np.ndarray) -> None:
        samples = samples[: _resampled(self.samples_in, self.rate, self.sample_rate) - self.samples_out]
        # Resampling and lossy decoders overshoot.
        samples = np.clip(samples, -1, 1)
        for take in self.takes:
            take.feed(self.given, samples)
        self.samples_out += len(samples)
        self.given += len(samples)


def _resampled(samples: int, rate: int, to: int) -> int:
    return -(-samples * to // rate)


class _Take:
    """Keeps the windows of one preparation.

    Attributes:
        runs: from where to where samples are kept (None: to the end); both ascend.
        kept: per run, its samples so far, float32.
        whole: whether the sound is thought to be no longer than its windows together, which are then cut
            out of the one run when its end is there.
    """

    def __init__(self, prepare: AudioPrepare, length: _Length) -> None:
        self.prepare = prepare
        total = self._total(length)
        self.whole = prepare.windows == "uniform" and total <= self._most
        self.runs = [(0, self._most)] if self.whole else _runs(prepare, total)
        self.kept = [bytearray() for _ in self.runs]
        self.unfinished = 0
        self.energy = 0.0

    @property
    def _most(self) -> int:
        """Samples of all windows together."""
        return (self.prepare.window or 0) * self.prepare.count

    def _total(self, length: _Length) -> int:
        return sum(_resampled(n, rate, self.prepare.sample_rate) for n, rate in length)

    def settled(self, length: _Length, guess: _Length) -> bool:
        """Whether what is kept are the windows of a sound that turned out to have this length; a sound that
        was kept whole is cut up into them."""
        if self.prepare.windows != "uniform":
            return True
        total = self._total(length)
        if self.whole and total <= self._most:
            self._cut_up(total)
            return True
        return not self.whole and length == guess

    def _cut_up(self, total: int) -> None:
        (whole,) = self.kept
        size = np.float32().itemsize
        self.whole, self.runs = False, _runs(self.prepare, total)
        self.kept = [whole[size * start : size * (stop or total)] for start, stop in self.runs]
        squares = (np.square(np.frombuffer(run, np.float32), dtype=np.float64) for run in self.kept)
        self.energy = float(sum(one.sum() for one in squares))

    @property
    def complete(self) -> bool:
        return self.unfinished == len(self.runs)

    def feed(self, at: int, samples: np.ndarray) -> None:
        """Float32 ``[samples]``, of which the first is the sound's number ``at``."""
        end = at + len(samples)
        for i in range(self.unfinished, len(self.runs)):
            start, stop = self.runs[i]
            if start >= end:
                break
            part = samples[max(0, start - at) : None if stop is None else stop - at]
            # Grows in place: as a list of parts, all would be in memory twice in the end.
            self.kept[i] += part.tobytes()
            self.energy += float(np.square(part, dtype=np.float64).sum())
            if stop is not None and stop <= end:
                self.unfinished = i + 1

    def sound(self, begins: Fraction) -> Sound:
        """What was kept of a sound whose first sample is at ``begins`` seconds."""
        rate = self.prepare.sample_rate
        windows: list[tuple[float, float, int]] = []
        for (first, _), kept in zip(self.runs, self.kept, strict=True):
            samples = len(kept) // np.float32().itemsize
            n = self.prepare.window or samples
            for start in range(first, first + samples, n):
                end = min(start + n, first + samples)
                times = [float(begins + Fraction(edge, rate)) for edge in (start, end)]
                windows.append((times[0], times[1], end - start))
        runs = [np.frombuffer(kept, np.float32) for kept in self.kept]
        joined = runs[0] if len(runs) == 1 else np.concatenate(runs)
        return Sound(joined, rate, tuple(windows), math.sqrt(self.energy / len(joined)))


def _runs(prepare: AudioPrepare, total: int) -> list[tuple[int, int | None]]:
    """Where samples are kept of a sound of ``total``, by the rules of :class:`AudioPrepare`."""
    n = prepare.window
    if n is None:
        return [(0, None)]
    if prepare.windows != "uniform":
        return [(0, n * prepare.count)]
    k = min(prepare.count, -(-total // n))
    starts = (((2 * i + 1) * total - k * n) // (2 * k) for i in range(k))
    return [(start, start + n) for start in (max(0, min(start, total - n)) for start in starts)]
