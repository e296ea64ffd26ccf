"""Media that crashes, hangs or fills its decoder is ``failed`` with the reason, and costs nobody else."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import decoding
import hostile_media as hostile
import numpy as np
import pytest
from helpers import media_samples
from helpers.sound_samples import Track, sound, talkie, tone

from mmfeat.extract.fence import process as fence
from mmfeat.extract.fence.decode import MediaRequest, Wanted, decode_media, picture_of
from mmfeat.schemas.errors import MmfeatError
from mmfeat.schemas.inputs import AudioPrepare
from mmfeat.schemas.media import MediaLimits

GOOD = media_samples.encoded(media_samples.picture(60, 80), "PNG")
GOOD_SOUND = sound(tone(440, 1, 16_000), 16_000)

LIES = {
    "a PNG of 100,000 x 100,000": (
        lambda: hostile.png(100_000, 100_000, bytes(1000)),
        "too large: 100,000 x",
    ),
    "a GIF of 65,535 x 65,535": (hostile.huge_gif, "too large: 65,535 x 65,535 pixels"),
    "a JPEG of 65,535 x 65,535": (hostile.huge_jpeg, "too large: 65,535 x 65,535 pixels"),
    "a WebP of 16,384 x 16,384": (hostile.huge_webp, "too large: 16,384 x 16,384 pixels"),
    "a comment of 100 MB in a PNG": (lambda: hostile.png_text_bomb(100), "too large: Decompressed data"),
    "a drawing": (hostile.svg, "not an image that can be read"),
    "noise": (lambda: hostile.noise(10_000), "not an image that can be read"),
}
CLIP_LIES = {
    "ten hours": (hostile.ten_hour_clip, "too large: clip is 36,000.0 s long"),
    "a million tracks": (lambda: hostile.mp4_of_tracks(1_000_000), "too large"),
    "two thousand million frames": (lambda: hostile.mp4_that_claims_frames(2**31 - 1), "not a clip"),
}


SOUND_LIES = {
    "seven weeks": (hostile.flac_that_claims_samples, "too large: sound is 4,294,967.3 s long"),
    "four thousand million frames": (hostile.mp3_that_claims_frames, "too large: sound is"),
    "two thousand million packets": (lambda: hostile.m4a_that_claims_packets(2**31 - 1), "not a sound"),
    "a million tracks": (lambda: hostile.mp4_of_tracks(1_000_000), "too large"),
    "65,535 channels": (lambda: hostile.wave_that_claims(channels=65_535), "sound is damaged"),
    "65,535 channels in frames": (
        lambda: hostile.wave_that_claims(channels=65_535, frame=65_534),
        "sound is damaged",
    ),
    "889,236,548 samples a second": (lambda: hostile.wave_that_claims(rate=889_236_548), "sound is damaged"),
    "4,294,967,295 samples a second": (lambda: hostile.wave_that_claims(rate=2**32 - 1), "not a sound"),
    "2 GB": (lambda: hostile.wave_that_claims(size=0x7FFE0000), "sound is cut short: 32,044 of 2,147,"),
    "a picture": (lambda: GOOD, "not a sound or clip that can be read"),
    "a drawing": (hostile.svg, "not a sound or clip that can be read"),
    "noise": (lambda: hostile.noise(10_000), "not a sound or clip that can be read"),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_image_that_lies_of_its_size_is_refused_before_it_is_decoded(decode, lie):
    make, reason = LIES[lie]
    assert decode(make(), item_memory=256 * hostile.MB).failure.reason.startswith(reason)


@pytest.mark.parametrize("lie", CLIP_LIES)
def test_a_clip_that_lies_of_its_length_is_refused(decode, lie):
    make, reason = CLIP_LIES[lie]
    assert decode(make(), "video").failure.reason.startswith(reason)


@pytest.mark.parametrize("lie", SOUND_LIES)
def test_a_sound_that_lies_is_refused_and_the_next_is_heard(decode, lie):
    make, reason = SOUND_LIES[lie]
    assert decode(make(), "audio", item_memory=256 * hostile.MB).failure.reason.startswith(reason)
    assert decode(GOOD_SOUND, "audio").failure is None


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(("codec", "container"), [("pcm_s16le", "wav"), ("flac", "flac"), ("aac", "ipod")])
def test_a_cut_sound_is_refused_as_a_clip_is(decode, codec, container, kept):
    whole = sound(tone(440, 4, 16_000), 16_000, codec, container)
    assert decode(whole, "audio").failure is None
    failure = decode(whole[: int(len(whole) * kept)], "audio").failure
    assert failure.stage == "decode"
    assert failure.reason.startswith("sound is cut short")


def test_a_sound_that_never_ends_is_refused_when_it_has_lasted_too_long(decode):
    failure = decode(hostile.endless_aac(100_000), "audio", sound_seconds=60).failure
    assert failure.reason == "too large: sound is 60.1 s long, over the limit of 60.0 s"


def test_a_sound_that_needs_more_memory_than_an_item_may_use_is_too_large_and_the_next_is_heard(
    decode, monkeypatch
):
    # A process of its own: the heap that earlier files left free is room which the limit does not count.
    fence.stop_fence()
    long = hostile.endless_aac(60_000)
    failure = decode(long, "audio", item_memory=32 * hostile.MB).failure
    assert failure.stage == "decode"
    assert failure.reason == "too large: out of memory while decoding (an item may use 32 MB)"
    assert decode(GOOD_SOUND, "audio", item_memory=32 * hostile.MB).failure is None


def test_a_cover_that_lies_of_its_size_costs_a_sound_nothing(decode):
    data = hostile.mp3_with_cover(hostile.png(100_000, 100_000, bytes(1000)))
    assert decode(data, "audio", item_memory=256 * hostile.MB).failure is None


def test_a_clip_whose_sound_is_damaged_keeps_its_frames(decode):
    rate = 48_000
    data = bytearray(talkie(Track(np.full((1, rate), 0.25, np.float32), rate, "pcm_f32le"), container="mov"))
    at = data.index(np.full(100, 0.25, np.float32).tobytes())
    data[at : at + 4] = np.float32(np.nan).tobytes()
    outcome = decode(bytes(data), "video", "audio")
    assert outcome.failure is None
    frames, *sounds = outcome.values
    decoding.check_whole(frames)
    assert [(one.stage, one.reason) for one in sounds] == [
        ("decode", "sound is damaged (it has samples that are not numbers)")
    ] * 2


def test_a_clip_that_is_cut_short_says_so_of_its_frames_and_of_its_sound(decode):
    """Neither is failed in the other's words."""
    whole = talkie(Track(np.atleast_2d(tone(440, 1, 48_000)), 48_000, "aac"))
    outcome = decode(whole[: len(whole) // 2], "audio", "video")
    reasons = [one.reason.partition(":")[0] for one in outcome.values]
    assert reasons == ["sound is cut short", "sound is cut short", "clip is cut short"]


def test_a_clip_has_no_sound_where_it_has_no_track(decode):
    assert decode(media_samples.clip(10), "audio").values == (None, None)


def test_the_sound_of_a_clip_may_be_taken_of_any_file_that_a_clip_may_be(decode):
    data = talkie(Track(np.atleast_2d(tone(440, 1, 48_000)), 48_000, "aac"))
    assert decode(data, "audio", sound_bytes=1000).failure is None
    assert decode(data, "audio", clip_bytes=1000).failure.reason.startswith("too large: file is")
    failure = decode(GOOD_SOUND, "audio", sound_bytes=1000).failure
    assert failure.reason.startswith("too large: file is")


def test_thousands_of_windows_in_many_ways_come_back_whole(decode, tmp_path):
    (tmp_path / "long").write_bytes(sound(tone(440, 5, 8_000), 8_000))
    windows = {"windows": "all", "count": 4096}
    wanted = [
        Wanted("audio", AudioPrepare(sample_rate=rate, seconds=0.00123, **windows))
        for rate in range(7_800, 8_000, 20)
    ]
    outcome = fence.decode_fenced(MediaRequest(str(tmp_path / "long"), tuple(wanted)), MediaLimits())
    assert outcome.failure is None
    for value in outcome.values:
        assert len(value.windows) > 3_500
        decoding.check_whole(value)


def test_a_picture_that_needs_more_memory_than_an_item_may_use_is_too_large_and_the_next_is_decoded(decode):
    bomb = hostile.true_png_bomb(6000)
    assert len(bomb) < 200_000
    failure = decode(bomb, item_memory=64 * hostile.MB).failure
    assert failure.stage == "decode"
    assert failure.reason == "too large: out of memory while decoding (an item may use 64 MB)"
    assert decode(GOOD, item_memory=64 * hostile.MB).failure is None
    # It is an honest picture to those who allow it.
    assert decode(bomb).failure is None


def test_a_gif_of_endless_frames_costs_no_more_than_its_first(decode):
    assert decode(hostile.endless_gif(100_000), item_seconds=5).failure is None


BUSY = {
    "image": lambda: hostile.scan_bomb(4000, 3000),
    "video": lambda: hostile.mp4_of_frames(1_000_000),
    "audio": lambda: hostile.endless_aac(1_000_000),
}


@pytest.mark.parametrize("modality", ["image", "video", "audio"])
def test_a_real_file_that_keeps_its_decoder_busy_for_minutes_is_timed_out(decode, modality):
    decode(GOOD)  # the process is there: what is measured is the limit
    made = BUSY[modality]()
    outcome = decode(made, modality, item_seconds=1)
    assert (outcome.failure.stage, outcome.failure.reason) == ("decode", "decoder timed out after 1 s")
    assert outcome.content_hash == hashlib.sha256(made).hexdigest()


DEEDS = {
    "crash": "decoder crashed (SIGSEGV)",
    "hang": "decoder timed out after 1 s",
    "eat": "too large: out of memory while decoding (an item may use 512 MB)",
    "eat_unchecked": "decoder crashed (SIGSEGV)",
    "killed": "decoder crashed (it was killed twice; the machine may be out of memory)",
}


@pytest.mark.parametrize("deed", DEEDS)
def test_whatever_a_decoder_does_to_its_process_the_item_says_so_and_the_next_one_is_right(decode, deed):
    poison = f"POISON {deed} ".encode()
    # What is to fail otherwise must not be timed out on a busy machine.
    limits = {"item_seconds": 1.0 if deed == "hang" else 60.0, "item_memory": 512 * hostile.MB}
    outcome = decode(poison, **limits)
    assert (outcome.failure.stage, outcome.failure.reason) == ("decode", DEEDS[deed])
    assert outcome.content_hash == hashlib.sha256(poison).hexdigest()
    after = decode(GOOD, **limits)
    assert after.content_hash == hashlib.sha256(GOOD).hexdigest()
    assert after.values[0].pixels.shape == (1, 32, 32, 3)


@pytest.mark.parametrize("deed", ["killed_once", "ended_once"])
def test_a_decoder_that_another_hand_or_a_library_ends_is_no_fault_of_the_item(deed, decode, tmp_path):
    outcome = decode(f"POISON {deed} {tmp_path / 'was-killed'}".encode())
    assert outcome.failure is None
    assert not outcome.values[0].pixels.any()
    assert (tmp_path / "was-killed").exists()


@pytest.mark.parametrize(
    ("modality", "data"), [("image", GOOD), ("video", media_samples.clip(20)), ("audio", GOOD_SOUND)]
)
def test_the_process_changes_no_pixel_sample_time_or_hash(decode, tmp_path, modality, data):
    fenced = decode(data, modality)
    here = decode_media(decoding.request(tmp_path / "media", modality), MediaLimits())
    assert (fenced.content_hash, fenced.stamp) == (here.content_hash, here.stamp)
    decoding.check_equal(fenced.values, here.values)


def test_media_that_cannot_be_read_fails_in_the_words_of_the_reader(decode, tmp_path):
    assert decode(b"").failure.reason == "file is empty"
    assert decode(bytes(2000), image_bytes=1000).failure.reason.startswith("too large: file is")


def test_one_process_serves_all_items_until_one_kills_it(decode):
    decode(GOOD)
    first = fence.child().process.pid
    decode(b"not an image")
    decode(GOOD)
    assert fence.child().process.pid == first
    decode(b"POISON crash ")
    decode(GOOD)
    assert fence.child().process.pid != first


def test_a_decoder_process_ends_with_the_process_that_it_serves(decode):
    decode(GOOD)
    child = fence.child()
    child.pipe.close()
    assert child.process.wait(timeout=10) == 0


def test_a_process_that_cannot_start_ends_the_run_and_blames_no_item(decode, monkeypatch, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "simplejpeg.py").write_text("raise ImportError('no such library')")
    monkeypatch.syspath_prepend(str(tmp_path / "broken"))
    fence.stop_fence()
    with pytest.raises(MmfeatError, match="could not start"):
        decode(GOOD)


def test_a_crash_leaves_no_core_file_of_gigabytes(decode):
    decode(GOOD)
    limits = Path(f"/proc/{fence.child().process.pid}/limits").read_text()
    (line,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert line.split()[4:6] == ["0", "0"]


def poisoned(folder: Path, **files: bytes) -> list[MediaRequest]:
    """A request for each file, in order."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [decoding.request(folder / name, "image") for name in files]


def test_many_at_once_come_in_order_and_poison_between_them_costs_itself_alone(decode, tmp_path):
    files = {
        "first": GOOD,
        "crash": b"POISON crash ",
        "between": GOOD + b" ",
        "hang": b"POISON hang ",
        "noise": hostile.noise(100),
        "killed": f"POISON killed_once {tmp_path / 'was-killed'}".encode(),
        "last": GOOD + b"  ",
    }
    limits = MediaLimits(item_seconds=1)
    outcomes = list(fence.decode_fenced_all(poisoned(tmp_path, **files), limits))
    assert [o.content_hash for o in outcomes] == [hashlib.sha256(data).hexdigest() for data in files.values()]
    assert [o.failure and o.failure.reason for o in outcomes] == [
        None,
        DEEDS["crash"],
        None,
        DEEDS["hang"],
        "not an image that can be read",
        None,
        None,
    ]


def test_the_time_in_which_an_item_waits_to_be_taken_is_not_its_own(decode, tmp_path):
    decode(GOOD)  # the process is there: what is waited for is the limit
    first, second, third = poisoned(tmp_path, first=GOOD, second=GOOD, third=GOOD)
    outcomes = fence.decode_fenced_all([first, second, third], MediaLimits(item_seconds=2))
    taken = [next(outcomes)]
    time.sleep(2.5)
    taken += outcomes
    assert [o.failure for o in taken] == [None] * 3


def test_the_next_item_is_decoded_before_the_last_one_is_taken(decode, tmp_path):
    first, second = poisoned(tmp_path, first=GOOD, second=f"POISON tell {tmp_path / 'told'}".encode())
    outcomes = fence.decode_fenced_all([first, second], MediaLimits())
    next(outcomes)
    deadline = time.monotonic() + 10
    while not (tmp_path / "told").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(list(outcomes)) == 1


def test_others_decode_in_between_and_what_nobody_takes_is_nobodys_answer(decode, tmp_path):
    wide = media_samples.encoded(media_samples.picture(20, 90), "PNG")
    one, two, three = poisoned(tmp_path, one=GOOD, two=GOOD + b" ", three=wide)
    taken = fence.decode_fenced_all([one, two, three], MediaLimits())
    assert next(taken).content_hash == hashlib.sha256(GOOD).hexdigest()
    assert fence.decode_fenced(three, MediaLimits()).content_hash == hashlib.sha256(wide).hexdigest()
    assert next(taken).content_hash == hashlib.sha256(GOOD + b" ").hexdigest()
    taken.close()
    assert fence.decode_fenced(one, MediaLimits()).content_hash == hashlib.sha256(GOOD).hexdigest()


def test_requests_larger_than_a_socket_wait_for_the_answers_before_them(decode, tmp_path):
    view = decoding.VIEW.model_copy(update={"height": 2000, "width": 2000})
    (known,) = poisoned(tmp_path, known=GOOD)
    long = MediaRequest("/" + "x" * 2_000_000, (picture_of(view),))
    large = MediaRequest(known.location, (picture_of(view),))
    outcomes = list(fence.decode_fenced_all([large, long, large, long], MediaLimits()))
    assert [o.failure is None for o in outcomes] == [True, False, True, False]
