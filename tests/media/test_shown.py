"""Frames of clips as players show them, and the clips that players show: order, size, track, light."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition
from helpers.media_samples import (
    AS_IS,
    CLIP_SIZE,
    LIMITS,
    clip,
    encoded,
    film,
    moov_first,
    number_of,
    numbered,
)
from PIL import Image

from mmfeat.extract.modalities.decoders.tone import tone_mapped
from mmfeat.extract.modalities.decoders.video import render_clip
from mmfeat.extract.modalities.video import VIDEO
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.inputs import FrameSampling, PixelView, SceneCuts
from mmfeat.schemas.media import Frames

EVERY = FrameSampling(count=1000)
SMALL = PixelView(mode="shortest", height=32, width=32, resize=32)
OPAQUE, HALF, CLEAR = 255, 128, 0


def frames_of(data: bytes, sampling: FrameSampling = EVERY, view: PixelView = AS_IS) -> Frames:
    return render_clip(data, sampling, [view], LIMITS)[0]


def numbers(data: bytes, sampling: FrameSampling = EVERY) -> list[int]:
    return [number_of(frame) for frame in frames_of(data, sampling).pixels]


def spaced(count: int) -> list[float]:
    return [round(0.04 * i, 6) for i in range(count)]


def times(data: bytes) -> list[float]:
    return [round(time, 6) for time in frames_of(data).times]


def coloured(
    codec: str, container: str, layout: str, *, alpha: int | None = None, frames: int = 10, **options: str
) -> bytes:
    """A clip of numbered frames, the right half of each of this alpha."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = CLIP_SIZE
        stream.pix_fmt = layout
        if alpha is not None:
            stream.metadata["alpha_mode"] = "1"
        for i in range(frames):
            pixels = np.dstack([numbered(i), np.full(CLIP_SIZE, OPAQUE, np.uint8)])
            pixels[:, CLIP_SIZE[1] // 2 :, 3] = OPAQUE if alpha is None else alpha
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba")
            frame.pts = i
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return file.getvalue()


# --- which way up


def with_matrix(data: bytes, a: float, b: float, c: float, d: float) -> bytes:
    """An MP4 whose first track is shown by this matrix: ``x' = a x + c y``, ``y' = b x + d y``."""
    at = data.index(b"tkhd") + 44
    matrix = (a, b, 0, c, d, 0, 0, 0)
    fixed = struct.pack(">9i", *(round(65536 * number) for number in matrix), 1 << 30)
    return data[:at] + fixed + data[at + 36 :]


def moved(picture: np.ndarray, a: int, b: int, c: int, d: int) -> np.ndarray:
    """A picture, each pixel where the matrix takes it."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width]
    across, down = a * x + c * y, b * x + d * y
    across, down = across - across.min(), down - down.min()
    found = np.empty((down.max() + 1, across.max() + 1, 3), np.uint8)
    found[down, across] = picture
    return found


MATRICES = [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]


@pytest.mark.parametrize("matrix", MATRICES, ids=str)
def test_the_whole_display_matrix_is_followed_turned_and_mirrored(matrix):
    base = clip(6)
    plain, found = frames_of(base).pixels, frames_of(with_matrix(base, *matrix)).pixels
    for frame, shown in zip(plain, found, strict=True):
        assert np.array_equal(shown, moved(frame, *matrix))


@pytest.mark.parametrize("matrix", MATRICES, ids=str)
def test_every_sampling_and_view_follows_the_matrix(matrix):
    base = clip(30)
    data = with_matrix(base, *matrix)
    for sampling in (
        FrameSampling(mode="keyframes", count=2),
        FrameSampling(mode="fps", fps=5, count=2),
        FrameSampling(mode="scenes", count=1, scenes=SceneCuts(**CUTS)),
    ):
        plain = frames_of(base, sampling).pixels[0]
        assert np.array_equal(frames_of(data, sampling).pixels[0], moved(plain, *matrix))


CUTS = {"detector": "content", "threshold": 27.0, "min_seconds": 1.0, "max_scenes": 4}


def test_a_matrix_that_is_scaled_turns_as_one_that_is_not_and_one_of_zeros_turns_nothing():
    base = clip(3)
    plain = frames_of(base).pixels
    assert np.array_equal(frames_of(with_matrix(base, -2, 0, 0, 2)).pixels, plain[:, :, ::-1])
    assert np.array_equal(frames_of(with_matrix(base, 0, 0, 0, 0)).pixels, plain)


# --- how wide


def stretched(aspect: Fraction, container: str = "mp4", rotation: float | None = None) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream("libx264", rate=25)
        stream.height, stream.width = CLIP_SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for i in range(4):
            frame = av.VideoFrame.from_ndarray(numbered(i), format="rgb24")
            frame.pts = i
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return file.getvalue()


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "avi"])
@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        (Fraction(4, 3), (96, 213)),
        (Fraction(64, 45), (96, 228)),
        (Fraction(1, 2), (192, 160)),
        (Fraction(1), (96, 160)),
    ],
)
def test_pixels_that_are_no_squares_are_shown_in_their_true_proportions(container, aspect, size):
    found = frames_of(stretched(aspect, container)).pixels
    assert found.shape[1:3] == size
    assert [number_of(frame) for frame in found] == [0, 1, 2, 3]


def test_a_turned_clip_is_stretched_as_its_pixels_lie_and_turned_then():
    assert frames_of(stretched(Fraction(4, 3), rotation=90)).pixels.shape[1:3] == (213, 96)


def test_every_view_starts_from_the_true_proportions():
    data, square = stretched(Fraction(2)), frames_of(stretched(Fraction(2))).pixels[0]
    assert square.shape[:2] == (96, 320)
    cropped = frames_of(data, view=SMALL).pixels[0]
    wanted = np.asarray(Image.fromarray(square).resize((106, 32), Image.Resampling.BICUBIC))[:, 37:69]
    assert np.abs(cropped.astype(int) - wanted).mean() < 4


def test_a_pixel_that_cannot_be_so_wide_is_taken_for_a_square():
    assert frames_of(stretched(Fraction(200))).pixels.shape[1:3] == CLIP_SIZE


# --- on what


ALPHA = {
    "vp8": ("libvpx", "webm", "yuva420p", {"auto-alt-ref": "0"}),
    "vp9": ("libvpx-vp9", "webm", "yuva420p", {"auto-alt-ref": "0"}),
    "animation": ("qtrle", "mov", "argb", {}),
    "png": ("png", "mov", "rgba", {}),
    "ffv1": ("ffv1", "matroska", "bgra", {}),
    "prores": ("prores_ks", "mov", "yuva444p10le", {"alpha_bits": "16"}),
    "apng": ("apng", "apng", "rgba", {}),
}


@pytest.mark.parametrize("kind", ALPHA)
@pytest.mark.parametrize("alpha", [CLEAR, HALF, OPAQUE])
def test_clips_are_laid_on_white_where_they_are_transparent_as_pictures_are(kind, alpha):
    codec, container, layout, options = ALPHA[kind]
    found = frames_of(coloured(codec, container, layout, alpha=alpha, **options)).pixels
    assert len(found) == 10
    wanted = np.array([60, 90, 120]) * (alpha / 255) + 255 - alpha
    for frame in found:
        assert np.abs(frame[70:90, 100:150].reshape(-1, 3).mean(axis=0) - wanted).max() < 6
        assert np.abs(frame[70:90, 10:70].reshape(-1, 3).mean(axis=0) - [200, 30, 30]).max() < 6


def test_an_animated_gif_is_laid_on_white():
    colours = [Image.new("RGBA", (40, 30), (10 * i, 0, 200, 255)) for i in range(1, 5)]
    for image in colours:
        image.paste((0, 0, 0, 0), (20, 0, 40, 30))
    data = encoded(colours[0], "GIF", save_all=True, append_images=colours[1:], duration=100, disposal=2)
    found = frames_of(data).pixels
    assert (found[:, :, 20:] == 255).all()
    assert np.abs(found[:, 15, 10].astype(int) - [[10 * i, 0, 200] for i in range(1, 5)]).max() < 8


# --- how bright

BARS = np.array(
    [
        [230, 30, 30],
        [30, 200, 40],
        [40, 60, 220],
        [240, 240, 240],
        [120, 120, 120],
        [20, 20, 20],
        [200, 140, 100],
    ]
)
TO_BT2020 = np.linalg.inv(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]]
)
PQ, HLG, BT2020, BT709 = 16, 18, 9, 1


def light(bars: np.ndarray) -> np.ndarray:
    """Linear light of sRGB, in BT.2020's primaries, 1 for white."""
    signal = bars / 255
    linear = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    return np.clip(linear @ TO_BT2020.T, 0, 1)


def pq(linear: np.ndarray, white: float = 203) -> np.ndarray:
    """uint16: SMPTE ST 2084."""
    power = np.power(linear * white / 10_000, 2610 / 16384)
    signal = np.power((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power), 2523 / 32)
    return np.rint(65535 * signal).astype(np.uint16)


def hlg(linear: np.ndarray) -> np.ndarray:
    """uint16: ARIB STD-B67, for a screen of 1,000 cd/m2 on which white has 203."""
    shown = linear * 0.203
    luma = shown @ [0.2627, 0.6780, 0.0593]
    scene = shown * np.power(np.maximum(luma, 1e-9), -1 / 6)[..., None]
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    root = np.sqrt(3 * scene)
    return np.rint(65535 * np.where(scene <= 1 / 12, root, a * np.log(np.maximum(12 * scene - b, 1e-9)) + c))


@pytest.mark.parametrize(("transfer", "signal"), [(PQ, pq), (HLG, hlg)], ids=["PQ", "HLG"])
def test_hdr_is_brought_back_to_the_colours_that_it_was_made_from(transfer, signal):
    deep = signal(light(BARS)).astype(np.uint16)[None].repeat(300, 0)
    found = tone_mapped(deep, transfer, BT2020)
    assert found.shape == (300, len(BARS), 3)
    assert np.abs(found.astype(int) - BARS).max() <= 5


def test_highlights_are_rolled_off_and_keep_their_order_and_hue():
    levels = np.array([0.5, 0.8, 1, 1.5, 2, 3, 4.9, 20])[:, None, None] * np.ones(3)
    found = tone_mapped(pq(levels), PQ, BT2020)[:, 0, 0]
    assert (np.diff(found.astype(int))[:-1] > 0).all()
    assert found[-1] == found[-2] == 255
    red = tone_mapped(pq(np.array([[[4.0, 0.4, 0.4]]])), PQ, BT709)[0, 0]
    assert red[0] > 240
    assert red[1] == red[2] < 130


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_an_hdr_clip_is_tone_mapped(transfer):
    names = {PQ: "smpte2084", HLG: "arib-std-b67"}
    deep = (pq if transfer == PQ else hlg)(light(BARS)).astype(np.uint16)
    picture = np.repeat(np.repeat(deep[None], 64, 0), 32, 1)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        params = f"log-level=none:colorprim=bt2020:transfer={names[transfer]}:colormatrix=bt2020nc:qp=4"
        stream = output.add_stream("libx265", rate=25, options={"x265-params": params})
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "yuv420p10le"
        for i in range(4):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb48le")
            frame = frame.reformat(format="yuv420p10le", dst_colorspace=BT2020)
            frame.pts = i
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    data = file.getvalue()
    found = frames_of(data).pixels[:, 32, 16::32].astype(int)
    assert np.abs(found - BARS).max() < 12
    assert VIDEO.changed(data, 1)


# --- which track


def tracks(*made: tuple[int, str, Disposition], container: str = "matroska") -> bytes:
    """A clip of several picture tracks: how many frames each has, its codec and what it is."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        streams = []
        for _, codec, disposition in made:
            stream = output.add_stream(codec, rate=25)
            stream.height, stream.width = CLIP_SIZE
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.disposition = disposition
            streams.append(stream)
        for (frames, _, _), stream in zip(made, streams, strict=True):
            for i in range(frames):
                frame = av.VideoFrame.from_ndarray(numbered(i), format="rgb24")
                frame.pts = i
                output.mux(stream.encode(frame))
            output.mux(stream.encode())
    return file.getvalue()


NOTHING = Disposition(0)


@pytest.mark.parametrize(
    "made",
    [
        [(1, "mjpeg", NOTHING), (12, "libx264", Disposition.default)],
        [(1, "libx264", NOTHING), (12, "libx264", Disposition.default)],
        [(1, "mjpeg", NOTHING), (12, "libx264", NOTHING)],
        [(1, "mjpeg", Disposition.default), (12, "libx264", Disposition.default)],
        [(12, "libx264", Disposition.default), (1, "mjpeg", NOTHING)],
        [(12, "libx264", NOTHING), (1, "libx264", NOTHING)],
    ],
    ids=lambda made: ", ".join(f"{frames} {codec} {int(kind)}" for frames, codec, kind in made),
)
def test_the_default_track_is_taken_and_no_thumbnail(made):
    assert numbers(tracks(*made)) == list(range(12))


def two_films(container: str, first: int, second: int) -> bytes:
    """A small H.264 track and a larger one, neither the only default one: how many frames each has."""
    # Where no track of an MP4 is said to be, FFmpeg writes the first as the default one.
    kind = Disposition.default if container in ("mp4", "mov") else NOTHING
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        streams = [output.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, size in zip(streams, ((24, 32), CLIP_SIZE), strict=True):
            stream.height, stream.width = size
            stream.pix_fmt, stream.options, stream.disposition = "yuv420p", {"bf": "0"}, kind
        packets = []
        for stream, frames in zip(streams, (first, second), strict=True):
            for i in range(frames):
                frame = av.VideoFrame.from_ndarray(numbered(i), format="rgb24")
                frame.pts = i
                packets.extend(stream.encode(frame.reformat(stream.width, stream.height)))
            packets.extend(stream.encode())
        output.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base))
    return file.getvalue()


@pytest.mark.parametrize("container", ["matroska", "mpegts", "avi", "mp4", "mov"])
def test_a_track_of_one_frame_is_not_taken_for_the_clip_whatever_it_is_made_of(container):
    data = two_films(container, 1, 25)
    assert frames_of(data).pixels.shape[:3] == (25, *CLIP_SIZE)
    assert VIDEO.changed(data, 1)
    assert not VIDEO.changed(two_films(container, 25, 1), 1) or container == "avi"


# --- files that players read


JOINABLE = {
    "h264": lambda size: clip(30, container="mpegts", size=size),
    "hevc": lambda size: clip(30, "libx265", "mpegts", options={"x265-params": "log-level=none"}, size=size),
    "m2ts": lambda size: clip(30, container="mpegts", container_options={"mpegts_m2ts_mode": "1"}, size=size),
    "mpeg2": lambda size: coloured("mpeg2video", "mpegts", "yuv420p", frames=30, bf="2"),
    "program stream": lambda size: coloured("mpeg2video", "mpeg", "yuv420p", frames=30, bf="2"),
}


@pytest.mark.parametrize("kind", JOINABLE)
def test_files_written_one_behind_the_other_give_the_frames_of_all_with_times_that_run_on(kind):
    data = JOINABLE[kind](CLIP_SIZE)
    for parts in (2, 3):
        assert numbers(data * parts) == [*range(30)] * parts
        assert times(data * parts) == spaced(30 * parts)


def test_joined_files_whose_times_leap_ahead_run_on_too():
    late = clip(30, container="mpegts", times=[10_000_000 + 40 * i for i in range(30)])
    assert times(clip(30, container="mpegts") + late) == spaced(60)


def test_joined_files_of_several_sizes_are_shown_in_the_size_of_the_first():
    small, large = (JOINABLE["h264"](size) for size in (CLIP_SIZE, (192, 320)))
    for data, size in ((small + large, CLIP_SIZE), (large + small, (192, 320))):
        found = frames_of(data).pixels
        assert found.shape == (60, *size, 3)
        assert [number_of(frame) for frame in found] == [*range(30)] * 2
    by_scenes = FrameSampling(mode="scenes", count=2, scenes=SceneCuts(**CUTS))
    assert frames_of(small + large, by_scenes).pixels.shape[1:] == (*CLIP_SIZE, 3)
    upright = JOINABLE["h264"]((160, 96))
    tall = frames_of(small + upright).pixels[-1]
    # Fitted whole, black at the sides.
    assert (tall[:, :18] < 8).all()
    assert (tall[:, -18:] < 8).all()


def test_a_transport_stream_that_lost_parts_is_still_refused():
    data = clip(60, container="mpegts", options={"crf": "1"})
    for lost in range(10, len(data) // 188 - 10, 9):
        with pytest.raises(ItemError, match=r"cut short|damaged"):
            frames_of(data[: 188 * lost] + data[188 * (lost + 3) :])


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"x264-params": "bframes=4:b-pyramid=normal"}),
        ("libx264", {"x264-params": "bframes=2:open-gop=1"}),
        ("libx264", {"x264-params": "bframes=0"}),
        ("mpeg4", {"bf": "2"}),
        ("mpeg4", {}),
    ],
    ids=str,
)
def test_an_avi_gives_its_frames_in_the_order_in_which_they_are_shown(codec, options):
    data = clip(60, codec, "avi", options=options)
    assert numbers(data) == list(range(60))
    assert times(data) == spaced(60)
    assert numbers(data, FrameSampling(count=8)) == [3, 11, 18, 26, 33, 41, 48, 56]


OTHER_CONTAINERS = {
    "3gp": lambda: clip(10, container="3gp"),
    "gif": lambda: coloured("gif", "gif", "rgb8"),
    "apng": lambda: coloured("apng", "apng", "rgb24"),
    "ogg": lambda: coloured("libvpx", "ogg", "yuv420p"),
}


@pytest.mark.parametrize("container", OTHER_CONTAINERS)
def test_other_containers_of_clips_are_read(container):
    assert numbers(OTHER_CONTAINERS[container]()) == list(range(10))
    assert times(OTHER_CONTAINERS[container]()) == spaced(10)


# --- clips that are cut short


def accepted(data: bytes, sampling: FrameSampling = EVERY) -> Frames:
    return render_clip(data, sampling, [AS_IS], LIMITS, accept_cut=True)[0]


@pytest.mark.parametrize("kept", [0.6, 0.8, 0.95])
@pytest.mark.parametrize(
    "make",
    [
        lambda: moov_first(clip(options={"crf": "1"})),
        lambda: clip(container="matroska"),
        lambda: clip(container="mpegts"),
        lambda: clip(codec="mpeg4", container="avi", options={"qmax": "2"}, size=(384, 640)),
        lambda: clip(container_options={"movflags": "frag_keyframe+empty_moov"}),
    ],
    ids=["mp4", "matroska", "mpegts", "avi", "fragmented"],
)
def test_of_a_cut_clip_the_frames_that_are_there_are_accepted_and_said_to_be_of_one(make, kept):
    data = make()
    part = data[: int(len(data) * kept) // 188 * 188 + 100]
    with pytest.raises(ItemError, match="cut short"):
        frames_of(part)
    found = accepted(part)
    assert found.cut
    # What a lost frame was needed for is lost too.
    there = [number_of(frame) for frame in found.pixels]
    assert there == sorted(set(there))
    assert there[0] == 0
    assert 1 <= len(there) <= 60
    assert [round(time, 6) for time in found.times] == [round(0.04 * number, 6) for number in there]


def test_a_whole_clip_is_the_same_whether_cut_ones_are_accepted_or_not():
    data = clip()
    assert not accepted(data).cut
    assert np.array_equal(accepted(data).pixels, frames_of(data).pixels)


def test_a_clip_whose_index_is_lost_says_so():
    data = clip(options={"crf": "1"})
    with pytest.raises(ItemError, match="cut short: the index of its frames is lost"):
        accepted(data[: len(data) // 2])


# --- which files the fixes touch

TOUCHED = {
    "mirrored": lambda: with_matrix(clip(3), -1, 0, 0, 1),
    "anamorphic": lambda: stretched(Fraction(4, 3)),
    "alpha": lambda: coloured("libvpx-vp9", "webm", "yuva420p", alpha=HALF, **{"auto-alt-ref": "0"}),
    "alpha in mov": lambda: coloured("png", "mov", "rgba", alpha=HALF),
    "second track": lambda: tracks((1, "mjpeg", NOTHING), (12, "libx264", Disposition.default)),
    "avi with B-frames": lambda: clip(30, container="avi"),
    "joined": lambda: JOINABLE["h264"](CLIP_SIZE) * 2,
    "joined sizes": lambda: JOINABLE["h264"](CLIP_SIZE) + JOINABLE["h264"]((192, 320)),
    "gif": OTHER_CONTAINERS["gif"],
    "ogg": OTHER_CONTAINERS["ogg"],
}
UNTOUCHED = {
    "mp4": lambda: clip(30),
    "turned mp4": lambda: clip(30, rotation=90),
    "half turned mp4": lambda: clip(30, rotation=180),
    "matroska": lambda: clip(30, container="matroska"),
    "hevc": lambda: clip(30, "libx265", options={"x265-params": "log-level=none"}),
    "vp8": lambda: clip(30, "libvpx", "webm"),
    "vp9": lambda: clip(30, "libvpx-vp9", "webm"),
    "mpegts": lambda: JOINABLE["h264"](CLIP_SIZE),
    "mpeg": lambda: JOINABLE["program stream"](CLIP_SIZE),
    "avi": lambda: clip(30, "mpeg4", "avi"),
    "film": lambda: film([numbered(i) for i in range(9)]),
    "cut": lambda: clip(30, container="matroska")[:2000],
    "page": lambda: b"<html>",
}


@pytest.mark.parametrize("touched", TOUCHED)
def test_rows_of_a_clip_that_a_fix_touches_are_out_of_date(touched):
    assert VIDEO.changed(TOUCHED[touched](), 1)
    assert not VIDEO.changed(TOUCHED[touched](), VIDEO.rule)


@pytest.mark.parametrize("untouched", UNTOUCHED)
def test_rows_of_all_other_clips_stay(untouched):
    assert not VIDEO.changed(UNTOUCHED[untouched](), 1)
