"""decord's frames: those that were asked for, or the clip fails. Every frame carries its own number."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers.media_samples import AS_IS, KINDS, LIMITS, clip, number_of

from mmfeat.extract.fence.decode import MediaRequest, Wanted
from mmfeat.extract.fence.process import decode_fenced_all
from mmfeat.extract.modalities.decoders.video import render_clip
from mmfeat.extract.modalities.video import VIDEO, ClipDecoding
from mmfeat.extract.registry import resolve_all
from mmfeat.schemas.errors import ConfigError, ItemError, MissingExtra
from mmfeat.schemas.inputs import FrameSampling, Input, PixelView, VideoPrepare
from mmfeat.schemas.spec import FeatureConfig

UNIFORM = FrameSampling(count=8)
ASKED = [3, 11, 18, 26, 33, 41, 48, 56]
# What decord2 3.4.0 reads otherwise than asked, silently.
WRONG = {
    "h264, closed and open groups, B-pyramid",
    "h264, mpeg-ts",
    "hevc, open groups",
    "hevc, temporal layers",
}
VIEW = PixelView(mode="squash", height=8, width=8)


def by_decord(data, sampling=UNIFORM, view=AS_IS):
    return render_clip(data, sampling, [view], LIMITS, reader="decord")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_decord_gives_the_frames_that_were_asked_for_or_the_clip_fails(kind):
    data = clip(**KINDS[kind])
    try:
        frames = by_decord(data)
    except ItemError as error:
        assert kind in WRONG
        assert error.stage == "decode"
        assert "decord gives another picture than that of the frame at" in error.reason
        assert "leave reader out" in error.reason
        return
    assert kind not in WRONG
    assert [number_of(frame) for frame in frames.pixels] == ASKED
    assert frames.times == pytest.approx([number * 0.04 for number in ASKED])


def test_frames_of_a_variable_rate_are_those_of_their_true_times():
    steps = np.random.default_rng(3).choice([20, 40, 80, 400], 59)
    data = clip(times=np.concatenate([[0], np.cumsum(steps)]), container="matroska")
    sampling = FrameSampling(mode="fps", fps=2, count=20)
    own = render_clip(data, sampling, [AS_IS], LIMITS)[0]
    found = by_decord(data, sampling)
    assert found.times == own.times
    np.testing.assert_array_equal(found.pixels, own.pixels)


def test_repeated_frames_of_a_short_clip_are_decords_too():
    found = by_decord(clip(3), FrameSampling(count=8, short="repeat"))
    assert [number_of(frame) for frame in found.pixels] == [0, 0, 0, 1, 1, 2, 2, 2]


def test_a_clip_that_decord_cannot_read_fails_and_says_what_to_do():
    with pytest.raises(ItemError, match=r"decord .*; leave reader out") as raised:
        by_decord(clip(20, rotation=90))
    assert raised.value.stage == "decode"


def test_both_readers_serve_one_clip_in_one_request():
    plain = ClipDecoding(UNIFORM, VIEW)
    asked = [plain, replace(plain, reader="decord")]
    own, other = VIDEO.decode(clip(**KINDS["h264"]), asked, LIMITS)
    np.testing.assert_array_equal(own.pixels, other.pixels)
    own, failed = VIDEO.decode(clip(**KINDS["hevc, open groups"]), asked, LIMITS)
    assert len(own.times) == 8
    assert isinstance(failed, ItemError)


def test_decord_reads_behind_the_fence(tmp_path):
    file = tmp_path / "clip.mp4"
    file.write_bytes(clip(**KINDS["h264"]))
    wanted = Wanted("video", ClipDecoding(UNIFORM, AS_IS, reader="decord"))
    (decoded,) = decode_fenced_all([MediaRequest(str(file), (wanted,))], LIMITS)
    assert [number_of(frame) for frame in decoded.values[0].pixels] == ASKED


def spec(**options):
    table = {"source": "video", "encoder": "timm", "model": "test_resnet", "weights": "random:0", **options}
    return resolve_all({"clips": FeatureConfig(**table)})[0]


def test_the_reader_is_part_of_the_spec_and_without_it_nothing_changes():
    plain, read = spec(), spec(reader="decord")
    assert read.inputs[0].prepare.reader == "decord"
    assert plain.fingerprint != read.fingerprint
    assert "reader" not in plain.inputs[0].identity()["prepare"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling": "keyframes"}, "does not go with sampling 'keyframes'"),
        ({"cut": "accept"}, "cannot tell where a clip is cut"),
        ({"source": "cover"}, "'reader' goes with a clip"),
    ],
)
def test_what_decord_cannot_do_is_refused_before_a_run(options, message):
    with pytest.raises(ConfigError, match=message):
        spec(reader="decord", **options)


def test_a_missing_package_is_named_before_a_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(MissingExtra, match="'decord2'") as raised:
        spec(reader="decord")
    assert "mmfeat[decord]" in raised.value.hint


def test_a_preparation_of_before_is_read_as_pyavs():
    written = {"kind": "video", "view": VIEW.model_dump(), "sampling": {"mode": "uniform", "count": 8}}
    read = Input(source="video", modality="video", prepare=VideoPrepare.model_validate(written))
    assert VIDEO.decoding(read.prepare) == ClipDecoding(UNIFORM, VIEW)
