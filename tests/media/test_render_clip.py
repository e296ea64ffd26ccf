import io

import av
import numpy as np
import pytest
from helpers.media_samples import (
    AS_IS,
    CLIP_SIZE,
    KINDS,
    LIMITS,
    clip,
    encoded,
    moov_first,
    number_of,
    numbered,
    picture,
)

from mmfeat.extract.modalities.decoders.clip import Clip
from mmfeat.extract.modalities.decoders.hevc import never_referred_to
from mmfeat.extract.modalities.decoders.image import render_image
from mmfeat.extract.modalities.decoders.video import render_clip
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.inputs import FrameSampling, PixelView
from mmfeat.schemas.media import MediaLimits

UNIFORM = FrameSampling(count=8)
EVERY = FrameSampling(count=1000)
VIEW = PixelView(mode="shortest", height=32, width=32, resize=32)


@pytest.fixture(scope="module")
def clips():
    made: dict[str, bytes] = {}

    def get(kind: str) -> bytes:
        if kind not in made:
            made[kind] = clip(**KINDS[kind])
        return made[kind]

    return get


def taken(data: bytes, sampling: FrameSampling) -> tuple[list[int], list[float]]:
    frames = render_clip(data, sampling, [AS_IS], LIMITS)[0]
    assert frames.pixels.shape == (len(frames.times), *CLIP_SIZE, 3)
    assert frames.pixels.dtype == np.uint8
    return [number_of(frame) for frame in frames.pixels], [round(time, 6) for time in frames.times]


def refusal(data: bytes, limits: MediaLimits = LIMITS, sampling: FrameSampling = UNIFORM) -> str:
    with pytest.raises(ItemError) as caught:
        render_clip(data, sampling, [VIEW], limits)
    assert caught.value.stage == "decode"
    return caught.value.reason


def keyframes_of(data: bytes) -> list[int]:
    """The numbers of the keyframes, by decoding everything."""
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(video=0))
    return [i for i, frame in enumerate(frames) if frame.key_frame]


@pytest.mark.parametrize("kind", KINDS)
def test_each_sampling_takes_exactly_the_frames_it_names(clips, kind):
    data = clips(kind)
    for sampling, wanted in (
        (UNIFORM, [3, 11, 18, 26, 33, 41, 48, 56]),
        (FrameSampling(count=1), [30]),
        (FrameSampling(mode="middle", count=5), [28, 29, 30, 31, 32]),
        (FrameSampling(mode="fps", fps=2.5, count=8), [0, 10, 20, 30, 40, 50]),
        (FrameSampling(mode="fps", fps=50, count=5), [0, 0, 1, 1, 2]),
        (EVERY, list(range(60))),
    ):
        numbers, times = taken(data, sampling)
        assert numbers == wanted, sampling
        assert times == [round(number * 0.04, 6) for number in wanted], sampling


@pytest.mark.parametrize("kind", KINDS)
def test_keyframes_are_chosen_uniformly_among_the_keyframes(clips, kind):
    keys = keyframes_of(clips(kind))
    assert taken(clips(kind), FrameSampling(mode="keyframes", count=1000))[0] == keys
    if len(keys) >= 4:
        wanted = [keys[(2 * i + 1) * len(keys) // 8] for i in range(4)]
        numbers, times = taken(clips(kind), FrameSampling(mode="keyframes", count=4))
        assert numbers == wanted
        assert np.abs(np.array(times) - np.array(wanted) * 0.04).max() <= 0.041


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_a_variable_frame_rate_is_sampled_by_true_times(container):
    steps = np.random.default_rng(3).choice([20, 40, 80, 400], 59)
    stamps = 3000 + np.concatenate([[0], np.cumsum(steps)])
    data = clip(times=stamps, container=container)
    numbers, times = taken(data, EVERY)
    assert numbers == list(range(60))
    assert np.allclose(times, (stamps - 3000) / 1000, atol=0.0011)
    numbers, _ = taken(data, FrameSampling(mode="fps", fps=2, count=100))
    ticks = np.arange(0, (stamps[-1] - 3000) / 1000, 0.5)
    assert numbers[: len(ticks)] == [
        int(np.searchsorted((stamps - 3000) / 1000, t, "right")) - 1 for t in ticks
    ]


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_the_display_matrix_turns_the_frames(rotation):
    frames = render_clip(clip(20, rotation=rotation), FrameSampling(count=4), [AS_IS], LIMITS)[0].pixels
    upright = np.rot90(frames, -rotation // 90, axes=(1, 2))
    assert upright.shape == (4, *CLIP_SIZE, 3)
    assert [number_of(frame) for frame in upright] == [2, 7, 12, 17]
    assert np.abs(upright[0].astype(int) - numbered(2)).mean() < 6


def test_all_views_of_a_sampling_come_from_the_same_frames():
    other = PixelView(mode="squash", height=24, width=40, interpolation="lanczos")
    pixels, squashed, cropped = render_clip(clip(), UNIFORM, [AS_IS, other, VIEW], LIMITS)
    for view, found in ((other, squashed), (VIEW, cropped)):
        assert found.times == pixels.times
        for frame, rendered in zip(pixels.pixels, found.pixels, strict=True):
            assert np.array_equal(rendered, render_image(encoded(frame, "PNG"), [view], LIMITS)[0].pixels[0])


def test_decoding_starts_at_a_keyframe_near_each_frame(monkeypatch):
    data = clip(300, group=10, options={"x264-params": "bframes=0"})
    decoded = []
    decode = Clip.decode
    monkeypatch.setattr(Clip, "decode", lambda self, packet: decoded.append(packet) or decode(self, packet))
    taken(data, FrameSampling(count=3))
    assert 3 <= len(decoded) <= 3 * 10
    decoded.clear()
    taken(data, FrameSampling(mode="keyframes", count=3))
    assert len([packet for packet in decoded if packet is not None]) == 3


@pytest.mark.parametrize("kind", ["h264", "hevc, open groups", "hevc, B-pyramid", "hevc, temporal layers"])
def test_the_frames_are_those_of_decoding_everything_in_order(clips, kind):
    data = clips(kind)
    with av.open(io.BytesIO(data)) as container:
        wanted = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert np.array_equal(render_clip(data, EVERY, [AS_IS], LIMITS)[0].pixels, wanted)
    assert np.array_equal(
        render_clip(data, UNIFORM, [AS_IS], LIMITS)[0].pixels, wanted[[3, 11, 18, 26, 33, 41, 48, 56]]
    )


@pytest.mark.parametrize("kind", ["h264, one keyframe", "hevc, B-pyramid", "hevc, temporal layers"])
def test_frames_that_no_other_refers_to_are_not_decoded_unless_they_are_wanted(clips, kind, monkeypatch):
    given = []
    decode = Clip.decode

    def counted(self, packet):
        frames = decode(self, packet)
        given.extend(frames)
        return frames

    monkeypatch.setattr(Clip, "decode", counted)
    assert taken(clips(kind), UNIFORM)[0] == [3, 11, 18, 26, 33, 41, 48, 56]
    assert len(given) < 45
    given.clear()
    assert taken(clips(kind), EVERY)[0] == list(range(60))
    assert len(given) == 60


def test_without_a_record_of_its_layout_every_frame_of_an_hevc_clip_is_decoded(clips):
    with av.open(io.BytesIO(clips("hevc, B-pyramid"))) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        record = stream.codec_context.extradata
        assert 15 < sum(never_referred_to(packets, record)) < 45
        for unknown in (None, b"", b"\x00\x00\x00\x01" + record):
            assert never_referred_to(packets, unknown) == [False] * 60


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_cut_short_never_passes_as_a_whole_one(clips, kind, kept):
    data = clips(kind)
    assert refusal(data[: int(len(data) * kept)]).startswith("clip is cut short")


@pytest.mark.parametrize(
    "sampling", [UNIFORM, FrameSampling(count=1), FrameSampling(mode="keyframes", count=1)]
)
def test_a_cut_clip_with_its_index_in_front_is_refused_though_early_frames_are_there(sampling):
    data = moov_first(clip(options={"crf": "1"}))
    assert taken(data, UNIFORM)[0] == [3, 11, 18, 26, 33, 41, 48, 56]
    assert refusal(data[: len(data) * 6 // 10], sampling=sampling).startswith("clip is cut short")
    # A box of frames that claims no size runs to the end of the file: the index tells.
    at = data.index(b"mdat")
    open_ended = data[: at - 4] + bytes(4) + data[at:]
    assert taken(open_ended, UNIFORM)[0] == [3, 11, 18, 26, 33, 41, 48, 56]
    assert refusal(open_ended[: len(data) * 6 // 10], sampling=sampling).startswith("clip is cut short")


def test_what_is_no_clip_says_so():
    assert refusal(b"") == "file is empty"
    assert refusal(b"no clip at all\n" * 50) == "not a clip that can be read: it is plain text"
    assert refusal(encoded(picture(50, 50), "JPEG")) == "not a clip that can be read: it is a JPEG picture"
    assert refusal(clip(0)) == "clip has no frame"
    fragmented = clip(**KINDS["h264, fragmented"])
    assert refusal(fragmented[: fragmented.index(b"moof") - 4]) == "clip has no frame"


def test_a_playlist_cannot_make_the_reader_open_other_files(tmp_path):
    inner = tmp_path / "inner.ts"
    inner.write_bytes(clip(container="mpegts"))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.4,\n{inner}\n#EXT-X-ENDLIST\n"
    assert refusal(playlist.encode()).startswith("not a clip that can be read: it is a playlist")
    concat = f"ffconcat version 1.0\nfile {inner}\n"
    assert refusal(concat.encode()) == "not a clip that can be read: it is plain text"


def test_a_file_with_sound_alone_says_so():
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    assert refusal(file.getvalue()) == "clip has no picture track"


def test_limits_are_kept_by_the_header():
    data = clip()
    assert refusal(data, MediaLimits(clip_seconds=2)).startswith(
        "too large: clip is 2.4 s long, over the limit of 2.0 s"
    )
    assert refusal(data, MediaLimits(clip_pixels=1000)).startswith("too large: 160 x 96 pixels")
    assert refusal(data, MediaLimits(clip_bytes=1000)).startswith("too large: file is 0.0 MB, over")
    assert render_clip(data, UNIFORM, [VIEW], MediaLimits(clip_seconds=2.5))[0].pixels.shape == (8, 32, 32, 3)


def test_damage_within_the_clip_is_an_error_or_leaves_the_frames_as_they_were():
    whole = clip(options={"crf": "1"})
    wanted = taken(whole, UNIFORM)[0]
    start = whole.index(b"mdat") + 4
    for seed in range(8):
        rng = np.random.default_rng(seed)
        data = bytearray(whole)
        at = int(rng.integers(start, len(whole) // 2))
        data[at : at + 400] = rng.bytes(400)
        try:
            numbers = taken(bytes(data), UNIFORM)[0]
        except ItemError as error:
            assert error.reason.startswith("clip is damaged"), error.reason
        else:
            assert len(numbers) == len(wanted)
