import io
import subprocess
import sys
from textwrap import dedent

import av
import numpy as np
import pytest
from helpers.media_samples import LIMITS, clip, encoded, moov_first, picture
from helpers.sound_samples import Track, covered, sound, talkie, tone
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mmfeat.extract.modalities.decoders import sound as decoder
from mmfeat.extract.modalities.decoders.sound import render_sound
from mmfeat.extract.modalities.decoders.video import render_clip
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.inputs import AudioPrepare, FrameSampling, PixelView
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.sound import Sound

# Codec, container and the rate that both allow.
KINDS = {
    "wav": ("pcm_s16le", "wav", 44100),
    "wav, u8": ("pcm_u8", "wav", 44100),
    "wav, s24": ("pcm_s24le", "wav", 44100),
    "wav, s32": ("pcm_s32le", "wav", 44100),
    "wav, float": ("pcm_f32le", "wav", 44100),
    "wav, double": ("pcm_f64le", "wav", 44100),
    "aiff": ("pcm_s16be", "aiff", 44100),
    "mp3": ("libmp3lame", "mp3", 44100),
    "flac": ("flac", "flac", 44100),
    "alac, m4a": ("alac", "ipod", 44100),
    "aac, m4a": ("aac", "ipod", 44100),
    "aac": ("aac", "adts", 44100),
    "opus": ("libopus", "ogg", 48000),
    "flac, ogg": ("flac", "ogg", 44100),
    "wma": ("wmav2", "asf", 44100),
    "aac, mp4": ("aac", "mp4", 44100),
    "pcm, mov": ("pcm_s16le", "mov", 44100),
    "mp3, avi": ("libmp3lame", "avi", 44100),
    "opus, webm": ("libopus", "webm", 48000),
    "flac, mkv": ("flac", "matroska", 44100),
    "aac, mpeg-ts": ("aac", "mpegts", 44100),
    "aac, flv": ("aac", "flv", 44100),
    "mp2, mpeg": ("mp2", "mpeg", 44100),
}
WHOLE = AudioPrepare(sample_rate=16000)


def tones(hertz: list[int], rate: int) -> np.ndarray:
    """One second of each."""
    return np.concatenate([tone(each, 1, rate) for each in hertz])


def rendered(data: bytes, *wanted: AudioPrepare, limits: MediaLimits = LIMITS) -> list[Sound]:
    sounds = render_sound(data, wanted or [WHOLE], limits)
    assert sounds is not None
    for one, prepare in zip(sounds, wanted or [WHOLE], strict=True):
        assert one.samples.dtype == np.float32
        assert one.samples.shape == (sum(samples for _, _, samples in one.windows),)
        assert np.abs(one.samples).max() <= 1
        assert one.sample_rate == prepare.sample_rate
        assert one.rms == pytest.approx(np.sqrt(np.mean(one.samples.astype(float) ** 2)))
    return sounds


def refusal(data: bytes, *wanted: AudioPrepare, limits: MediaLimits = LIMITS) -> str:
    with pytest.raises(ItemError) as caught:
        render_sound(data, wanted or [WHOLE], limits)
    assert caught.value.stage == "decode"
    return caught.value.reason


def pitch(samples: np.ndarray, rate: int) -> float:
    """Hz of the loudest frequency."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 1 << 18))
    return float(spectrum.argmax()) * rate / (1 << 18)


def pitches(one: Sound) -> list[int]:
    """Hz of the loudest frequency of every window, to the nearest ten."""
    ends = np.cumsum([samples for _, _, samples in one.windows])
    windows = np.split(one.samples, ends[:-1])
    return [round(pitch(window, one.sample_rate) / 10) * 10 for window in windows]


@pytest.mark.parametrize("kind", KINDS)
def test_a_tone_is_heard_at_its_pitch_and_loudness_from_every_kind_of_file(kind):
    codec, container, rate = KINDS[kind]
    wave = tone(440, 2, rate)
    data = sound(np.stack([wave, wave]), rate, codec, container)
    for to in (16000, 48000):
        one = rendered(data, AudioPrepare(sample_rate=to))[0]
        # Lossy encoders work in blocks; some of their files do not say what was added or left out.
        assert len(one.samples) / to == pytest.approx(2, abs=0.1)
        assert one.windows[0][0] == 0
        assert one.windows[0][1] == len(one.samples) / to
        assert pitch(one.samples, to) == pytest.approx(440, abs=0.5)
        assert np.abs(one.samples[to // 2 : to]).max() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000, 192000])
def test_any_rate_becomes_the_wanted_one(rate):
    one = rendered(sound(tone(440, 2, rate), rate, "pcm_f32le"))[0]
    assert len(one.samples) == 32000
    inner = slice(200, -200)
    assert np.abs(one.samples - tone(440, 2, 16000))[inner].max() < 1e-3


def test_what_the_wanted_rate_cannot_carry_is_left_out():
    one = rendered(sound(tone(12000, 1, 48000), 48000))[0]
    assert np.abs(one.samples[200:-200]).max() < 0.005


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
def test_samples_at_their_own_rate_are_those_of_the_file(codec):
    wave = np.linspace(-1, 127 / 128, 256, dtype=np.float32)
    one = rendered(sound(wave, 16000, codec))[0]
    assert np.array_equal(one.samples, wave)


def test_stereo_of_opposite_phase_is_silence():
    wave = tone(440, 1, 48000)
    one = rendered(sound(np.stack([wave, -wave]), 48000, "pcm_f32le"))[0]
    assert one.rms == 0.0
    assert not one.samples.any()


@pytest.mark.parametrize(
    ("channels", "codec", "container"),
    [
        (2, "pcm_s16le", "wav"),
        (6, "flac", "flac"),
        (6, "ac3", "matroska"),
        (6, "aac", "mp4"),
        (8, "pcm_s16le", "wav"),
        (8, "aac", "mp4"),
        (8, "libopus", "ogg"),
    ],
)
def test_channels_are_averaged(channels, codec, container):
    waves = np.zeros((channels, 48000), np.float32)
    waves[0] = tone(440, 1, 48000, loud=0.8)
    one = rendered(sound(waves, 48000, codec, container))[0]
    assert pitch(one.samples, 16000) == pytest.approx(440, abs=1)
    assert np.abs(one.samples[4000:12000]).max() == pytest.approx(0.8 / channels, rel=0.06)


def test_channels_and_rate_may_change_on_the_way():
    low = sound(tone(440, 1, 22050), 22050, "aac", "adts")
    high = sound(np.stack([tone(880, 1, 44100)] * 2), 44100, "aac", "adts")
    one = rendered(low + high)[0]
    assert len(one.samples) / 16000 == pytest.approx(2, abs=0.15)
    assert pitch(one.samples[:15000], 16000) == pytest.approx(440, abs=1)
    assert pitch(one.samples[-15000:], 16000) == pytest.approx(880, abs=1)


def test_windows_are_where_their_rules_say():
    data = sound(np.linspace(-1, 1, 10_500, dtype=np.float32), 1000, "pcm_f32le")

    def windows(**prepare):
        return list(rendered(data, AudioPrepare(sample_rate=1000, **prepare))[0].windows)

    assert windows() == [(0.0, 10.5, 10_500)]
    assert windows(seconds=4) == [(0.0, 4.0, 4000)]
    assert windows(seconds=20) == [(0.0, 10.5, 10_500)]
    assert windows(seconds=0.0001) == [(0.0, 0.001, 1)]
    assert windows(windows="all", seconds=4, count=2) == [(0.0, 4.0, 4000), (4.0, 8.0, 4000)]
    assert windows(windows="all", seconds=4, count=9) == [
        (0.0, 4.0, 4000),
        (4.0, 8.0, 4000),
        (8.0, 10.5, 2500),
    ]
    assert windows(windows="all", seconds=10.5, count=9) == [(0.0, 10.5, 10_500)]
    assert windows(windows="uniform", seconds=1) == [(4.75, 5.75, 1000)]
    assert windows(windows="uniform", seconds=1, count=3) == [
        (1.25, 2.25, 1000),
        (4.75, 5.75, 1000),
        (8.25, 9.25, 1000),
    ]
    # As many as cover all of it, the outer ones moved inwards.
    assert windows(windows="uniform", seconds=4, count=9) == [
        (0.0, 4.0, 4000),
        (3.25, 7.25, 4000),
        (6.5, 10.5, 4000),
    ]
    assert windows(windows="uniform", seconds=20, count=9) == [(0.0, 10.5, 10_500)]


def test_samples_are_those_of_the_windows_in_order():
    wave = np.linspace(-1, 1, 10_500, dtype=np.float32)
    data = sound(wave, 1000, "pcm_f32le")
    for prepare in (
        AudioPrepare(sample_rate=1000, seconds=3),
        AudioPrepare(sample_rate=1000, seconds=3, windows="all", count=3),
        AudioPrepare(sample_rate=1000, seconds=3, windows="uniform", count=2),
        AudioPrepare(sample_rate=1000, seconds=3, windows="uniform", count=9),
    ):
        one = rendered(data, prepare)[0]
        starts = [round(start * 1000) for start, _, _ in one.windows]
        parts = [wave[s : s + n] for s, (_, _, n) in zip(starts, one.windows, strict=True)]
        assert np.array_equal(one.samples, np.concatenate(parts))


@pytest.mark.parametrize("kind", ["wav", "mp3", "aac, mp4", "opus", "opus, webm", "mp3, avi", "aac, mpeg-ts"])
def test_uniform_windows_of_a_long_sound_hear_the_right_tones(kind):
    codec, container, rate = KINDS[kind]
    names = [400 + 50 * i for i in range(60)]
    data = sound(tones(names, rate), rate, codec, container)
    uniform = AudioPrepare(sample_rate=16000, seconds=0.5, windows="uniform", count=4)
    assert pitches(rendered(data, uniform)[0]) == [names[15 * i + 7] for i in range(4)]
    every = AudioPrepare(sample_rate=16000, seconds=1, windows="all", count=100)
    assert pitches(rendered(data, every)[0])[:60] == names


def test_uniform_windows_go_by_what_is_decoded_where_the_header_lies():
    rate, names = 8000, [400 + 50 * i for i in range(30)]
    data = bytearray(sound(tones(names, rate), rate, "flac", "flac"))
    uniform = AudioPrepare(sample_rate=8000, seconds=0.4, windows="uniform", count=5)
    wanted = [(2.8 + 6 * i, 3.2 + 6 * i, 3200) for i in range(5)]
    assert rendered(bytes(data), uniform)[0].windows == tuple(wanted)
    # The lower 32 bits of the number of samples, in the header of a FLAC file.
    assert int.from_bytes(data[22:26], "big") == 30 * rate
    for lie in (0, 10 * rate):
        data[22:26] = lie.to_bytes(4, "big")
        assert rendered(bytes(data), uniform)[0].windows == tuple(wanted)


@settings(max_examples=25, deadline=None)
@given(
    samples=st.integers(1, 6000),
    window=st.integers(10, 2000),
    count=st.integers(1, 5),
    clip_rate=st.sampled_from([None, 8000, 16000]),
)
def test_uniform_windows_are_cut_alike_whether_the_file_says_its_length(samples, window, count, clip_rate):
    """Of a WAV file the length is known before, of a clip's track it is not."""
    noise = np.random.default_rng(samples).uniform(-0.5, 0.5, samples).astype(np.float32)
    rate = clip_rate or 8000
    data = sound(noise, rate, "pcm_f32le")
    if clip_rate is not None:
        data = talkie(Track(noise[None], rate, "pcm_f32le"), container="matroska", frames=2)
    prepare = AudioPrepare(sample_rate=rate, seconds=window / rate, windows="uniform", count=count)
    (one,) = rendered(data, prepare)
    k, n = min(count, -(-samples // window)), min(window, samples)
    starts = [((2 * i + 1) * samples - k * window) // (2 * k) for i in range(k)]
    starts = [max(0, min(start, samples - window)) for start in starts]
    np.testing.assert_array_equal(one.samples, np.concatenate([noise[at : at + n] for at in starts]))


def test_a_sound_no_longer_than_its_windows_together_is_decoded_once(monkeypatch):
    opened = []
    whole = decoder._opened
    monkeypatch.setattr(decoder, "_opened", lambda *args: opened.append(1) or whole(*args))
    data = talkie(Track(tone(440, 2, 16000)[None], 16000, "aac"))
    # Eight windows of the two seconds are four seconds, or one.
    for window, times in {0.5: 1, 0.125: 2}.items():
        opened.clear()
        rendered(data, AudioPrepare(sample_rate=16000, seconds=window, windows="uniform", count=8))
        assert len(opened) == times


def test_one_call_for_several_preparations_equals_several_calls():
    data = talkie(Track(np.stack([tone(440, 2, 48000)] * 2), 48000, "aac"))
    wanted = [
        AudioPrepare(sample_rate=16000),
        AudioPrepare(sample_rate=48000, seconds=0.5, windows="uniform", count=3),
        AudioPrepare(sample_rate=16000, seconds=0.3, windows="all", count=4),
        AudioPrepare(sample_rate=22050, seconds=1),
        AudioPrepare(sample_rate=16000),
    ]
    together = rendered(data, *wanted)
    for one, prepare in zip(together, wanted, strict=True):
        alone = rendered(data, prepare)[0]
        assert np.array_equal(one.samples, alone.samples)
        assert (one.windows, one.rms) == (alone.windows, alone.rms)


def test_a_file_without_a_sound_track_has_no_sound():
    assert render_sound(clip(10), [WHOLE], LIMITS) is None
    assert render_sound(clip(10, container="matroska"), [WHOLE], LIMITS) is None
    assert render_sound(clip(10), [], LIMITS) is None


def test_a_track_without_a_sample_is_refused():
    for container in ("wav", "flac"):
        codec = "flac" if container == "flac" else "pcm_s16le"
        assert refusal(sound(np.zeros((1, 0), np.float32), 8000, codec, container)) == "sound has no sample"
    for container, codec in (("matroska", "aac"), ("flv", "aac"), ("avi", "libmp3lame")):
        silent = Track(np.zeros((1, 0), np.float32), 44100, codec)
        assert refusal(talkie(silent, container=container)) == "sound has no sample"


@pytest.mark.parametrize(("codec", "container"), [("libmp3lame", "mp3"), ("aac", "mp4")])
def test_a_cover_in_a_sound_file_is_no_clip(codec, container):
    file = covered(Track(np.atleast_2d(tone(440, 2, 44100)), 44100, codec), container)
    with av.open(io.BytesIO(file)) as opened:
        assert len(opened.streams.video) == 1
    one = rendered(file)[0]
    assert pitch(one.samples, 16000) == pytest.approx(440, abs=1)
    assert one.windows[0][0] == 0
    limits = MediaLimits(sound_bytes=1000)
    assert refusal(file, limits=limits).startswith("too large: file is 0.0 MB, over")


def test_of_several_tracks_the_default_one_is_heard_else_the_first():
    def track(hertz, default=None):
        return Track(np.atleast_2d(tone(hertz, 2, 48000)), 48000, "aac", default=default)

    for container in ("mp4", "matroska"):
        for tracks, heard in (
            ((track(440), track(880)), 440),
            ((track(440, False), track(880, True), track(1320, True)), 880),
        ):
            one = rendered(talkie(*tracks, container=container))[0]
            assert pitch(one.samples, 16000) == pytest.approx(heard, abs=1), container


@pytest.mark.parametrize(
    ("container", "codec", "error"),
    [
        ("mp4", "aac", 0.03),
        ("mov", "pcm_s16le", 0.001),
        ("matroska", "flac", 0.002),
        ("matroska", "libopus", 0.01),
        ("mpegts", "aac", 0.03),
        ("flv", "aac", 0.03),
    ],
)
@pytest.mark.parametrize("delay", [0.0, 0.4])
def test_times_are_those_of_the_clips_own_clock(container, codec, error, delay):
    rate = 44100 if container == "flv" else 48000
    wave = tone(440, 1.6, rate)
    wave[: round(0.6 * rate)] = 0
    data = talkie(Track(np.atleast_2d(wave), rate, codec, delay=delay), container=container)
    frames = render_clip(
        data, FrameSampling(count=1000), [PixelView(mode="bound", height=9, width=9)], LIMITS
    )
    assert frames[0].times[0] == 0
    one = rendered(data)[0]
    start, end, samples = one.windows[0]
    assert end - start == pytest.approx(samples / 16000)
    loud = int(np.flatnonzero(np.abs(one.samples) > 0.1)[0])
    assert start + loud / 16000 == pytest.approx(delay + 0.6, abs=error)
    later = rendered(data, AudioPrepare(sample_rate=16000, seconds=0.5, windows="all", count=3))[0]
    assert [at for at, _, _ in later.windows] == pytest.approx([start, start + 0.5, start + 1.0])


CUT_TOLD = [
    "wav",
    "aiff",
    "mp3",
    "flac",
    "alac, m4a",
    "aac, m4a",
    "aac, mp4",
    "pcm, mov",
    "mp3, avi",
    "flac, mkv",
]


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", CUT_TOLD)
def test_a_sound_cut_short_never_passes_as_a_whole_one(kind, kept):
    codec, container, rate = KINDS[kind]
    data = sound(tone(440, 4, rate), rate, codec, container)
    cut = data[: int(len(data) * kept)]
    assert refusal(cut).startswith("sound is cut short")
    uniform = AudioPrepare(sample_rate=16000, seconds=0.1, windows="uniform")
    assert refusal(cut, uniform).startswith("sound is cut short")


def test_a_window_that_was_complete_before_the_cut_is_heard():
    prepare = AudioPrepare(sample_rate=16000, seconds=0.5, windows="all", count=2)
    longer = AudioPrepare(sample_rate=16000, seconds=3)
    mp4 = moov_first(sound(tone(440, 4, 48000), 48000, "aac", "mp4"))
    for data in (sound(tone(440, 4, 48000), 48000), mp4):
        cut = data[: len(data) // 2]
        assert np.array_equal(rendered(cut, prepare)[0].samples, rendered(data, prepare)[0].samples)
        assert refusal(cut, longer).startswith("sound is cut short")
        assert refusal(cut, prepare, longer).startswith("sound is cut short")


def test_a_wave_file_that_was_written_into_a_pipe_is_whole():
    data = bytearray(sound(tone(440, 1, 16000), 16000))
    at = data.index(b"data") + 4
    for size in (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000):
        data[4:8] = data[at : at + 4] = size.to_bytes(4, "little")
        assert len(rendered(bytes(data))[0].samples) == 16000
    # So is one whose outermost size is wrong.
    data[at : at + 4] = (32000).to_bytes(4, "little")
    assert len(rendered(bytes(data))[0].samples) == 16000


def test_what_is_no_sound_says_so():
    assert refusal(b"") == "file is empty"
    for data in (b"no sound at all\n" * 50, bytes(50_000), np.random.default_rng(0).bytes(50_000)):
        assert refusal(data).startswith("not a sound or clip that can be read")
    jpeg = encoded(picture(50, 50), "JPEG")
    assert refusal(jpeg) == "not a sound or clip that can be read: it is a JPEG picture"


def test_a_playlist_cannot_make_the_reader_open_other_files(tmp_path):
    inner = tmp_path / "inner.mp3"
    inner.write_bytes(sound(tone(440, 1, 44100), 44100, "libmp3lame", "mp3"))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.4,\n{inner}\n#EXT-X-ENDLIST\n"
    for text in (playlist, f"ffconcat version 1.0\nfile {inner}\n"):
        assert refusal(text.encode()).startswith("not a sound or clip that can be read")


def test_bytes_before_and_after_the_sound_are_no_damage():
    data = sound(tone(440, 2, 44100), 44100, "libmp3lame", "mp3")
    for around in (data + b"TAG" + bytes(125), data + bytes(3000), bytes(3000) + data):
        assert pitch(rendered(around)[0].samples, 16000) == pytest.approx(440, abs=1)


def test_damage_within_the_sound_is_an_error_unless_it_comes_after_the_windows():
    for kind in ("mp3", "aac, mp4", "flac"):
        codec, container, rate = KINDS[kind]
        noise = np.random.default_rng(0).normal(0, 0.2, 4 * rate).clip(-1, 1).astype(np.float32)
        data = bytearray(sound(noise, rate, codec, container))
        prepare = AudioPrepare(sample_rate=16000, seconds=1)
        early = rendered(bytes(data), prepare)[0]
        at = len(data) * 6 // 10
        data[at : at + 20_000] = bytes(20_000)
        assert refusal(bytes(data)).startswith(("sound is damaged", "sound is cut short")), kind
        assert np.array_equal(rendered(bytes(data), prepare)[0].samples, early.samples)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("codec", ["pcm_f32le", "pcm_f64le"])
def test_samples_that_are_not_numbers_are_damage(value, codec):
    wave = tone(440, 1, 16000)
    wave[8000] = value
    data = sound(np.stack([wave, tone(440, 1, 16000)]), 16000, codec)
    assert refusal(data) == "sound is damaged (it has samples that are not numbers)"


@pytest.mark.parametrize("rate", [3, 889_236_548])
def test_a_sample_rate_that_no_sound_has_is_damage(rate):
    data = bytearray(sound(tone(440, 1, 16000), 16000))
    data[24:28] = rate.to_bytes(4, "little")
    short = AudioPrepare(sample_rate=16000, seconds=0.01)
    assert refusal(bytes(data), short) == f"sound is damaged (its sample rate is {rate:,} Hz)"


def test_samples_beyond_the_range_are_cut_off():
    one = rendered(sound(tone(440, 1, 16000, loud=3), 16000, "pcm_f32le"))[0]
    assert one.samples.max() == 1.0
    assert one.samples.min() == -1.0


def test_limits_are_kept():
    data = sound(tone(440, 3, 8000), 8000)
    reason = "too large: sound is 3.0 s long, over the limit of 2.0 s"
    short = AudioPrepare(sample_rate=8000, seconds=0.1)
    assert refusal(data, short, limits=MediaLimits(sound_seconds=2)) == reason
    assert refusal(data, limits=MediaLimits(sound_bytes=1000)).startswith("too large: file is 0.0 MB, over")
    assert len(rendered(data, short, limits=MediaLimits(sound_seconds=3))[0].samples) == 800
    # A transport stream says nothing of its length.
    stream = sound(tone(440, 3, 48000), 48000, "aac", "mpegts")
    assert refusal(stream, limits=MediaLimits(sound_seconds=2)).startswith("too large: sound is 2.")
    talking = talkie(Track(np.atleast_2d(tone(440, 2, 48000)), 48000, "aac"))
    assert rendered(talking, limits=MediaLimits(sound_bytes=1000))
    assert refusal(talking, limits=MediaLimits(clip_bytes=1000)).startswith("too large: file is 0.0 MB")


@settings(max_examples=60, deadline=None)
@given(
    rate=st.integers(4000, 96000),
    to=st.integers(4000, 96000),
    channels=st.integers(1, 2),
    samples=st.integers(1, 20_000),
    loud=st.floats(0, 0.7),
    seconds=st.none() | st.floats(0.001, 2),
)
def test_counts_and_loudness_follow_from_rate_and_length(rate, to, channels, samples, loud, seconds):
    wave = tone(rate / 40, samples / rate, rate, loud)
    data = sound(np.stack([wave] * channels), rate, "pcm_f32le")
    one, every = rendered(
        data,
        AudioPrepare(sample_rate=to, seconds=seconds),
        AudioPrepare(sample_rate=to, seconds=0.1, windows="all", count=4096),
    )
    whole = -(-samples * to // rate)
    window = whole if seconds is None else max(1, round(seconds * to))
    assert [n for _, _, n in one.windows] == [min(whole, window)]
    assert sum(n for _, _, n in every.windows) == whole
    assert len(every.windows) == -(-whole // round(0.1 * to))
    if samples > 8000 and whole > 8000 and to > rate / 16 and window >= whole:
        assert one.rms == pytest.approx(loud / np.sqrt(2), rel=0.05, abs=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sample_rate": 0},
        {"sample_rate": 192_001},
        {"seconds": 0},
        {"seconds": float("inf")},
        {"windows": "uniform"},
        {"windows": "all", "count": 3},
        {"count": 2, "seconds": 1},
        {"windows": "all", "seconds": 1, "count": 0},
        {"windows": "middle", "seconds": 1},
        {"rate": 3},
    ],
)
def test_a_preparation_without_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        AudioPrepare(**{"sample_rate": 16000, **wrong})


def test_memory_holds_the_windows_and_not_the_sound():
    # Two hours of 8-bit sound, 58 MB; as floats at 16 kHz they would be 461 MB.
    program = """
        import io, resource, struct
        import numpy as np
        from mmfeat.extract.modalities.decoders.sound import render_sound
        from mmfeat.schemas.media import MediaLimits
        from mmfeat.schemas.inputs import AudioPrepare, FrameSampling, PixelView

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

        def wave(seconds):
            pattern = np.random.default_rng(0).integers(0, 256, 8000, dtype=np.uint8).tobytes()
            body = pattern * seconds
            form = struct.pack("<HHIIHH", 1, 1, 8000, 8000, 1, 8)
            head = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(body))
            return b"RIFF" + struct.pack("<I", len(head) + len(body)) + head + body

        wanted = [AudioPrepare(sample_rate=16000, seconds=1, windows="uniform", count=5)]
        wanted.append(AudioPrepare(sample_rate=16000, seconds=10, windows="all", count=2))
        render_sound(wave(60), wanted, MediaLimits())
        data = wave(7200)
        before = peak()
        sounds = render_sound(data, wanted, MediaLimits())
        print(peak() - before, *(len(sound.samples) for sound in sounds))
    """
    done = subprocess.run([sys.executable, "-c", dedent(program)], check=True, capture_output=True, text=True)
    grown, *kept = map(int, done.stdout.split())
    assert kept == [5 * 16000, 20 * 16000]
    assert grown < 40
