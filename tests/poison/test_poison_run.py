"""Whole runs over hostile media and failing models end; each bad item says why, and all others are right."""

from __future__ import annotations

from pathlib import Path

import decoding
import faulty_models as faulty
import hostile_media as hostile
import numpy as np
import pytest
from helpers import media_samples, worlds
from helpers.plugins import write_plugin
from helpers.sound_samples import Track, sound, talkie
from PIL import Image

import mmfeat
from mmfeat.pipelines.progress import Silent

POISON = {
    "crash": (b"POISON crash ", "decoder crashed (SIGSEGV)"),
    "hang": (b"POISON hang ", "decoder timed out after 5 s"),
    "eat": (b"POISON eat ", "too large: out of memory"),
    "lie": (hostile.png(100_000, 100_000, bytes(1000)), "too large: 100,000 x 100,000 pixels"),
    "bomb": (hostile.png_text_bomb(50), "too large: "),
}
FAULTS = {
    faulty.RAISES: "ValueError: cannot do this picture",
    faulty.NOT_A_NUMBER: "the model gave NaN or infinity",
    faulty.INFINITE: "the model gave NaN or infinity",
    faulty.CRASHES: "model crashed its process",
}
FEATURES = {"colour": {"source": "cover", "encoder": "faulty"}}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """``faulty_models`` as an installed package, for this process and for those that Ray starts."""
    points = {"faulty": "faulty_models:Faulty", "heard": "faulty_models:Heard"}
    site = write_plugin(tmp_path / "site", {"mmfeat.encoders": points})
    folders = [site, decoding.CODEC, decoding.CODEC.parent]
    for folder in folders:
        monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", ":".join(map(str, folders)))


def covers(folder: Path, number: int, faults: dict[int, int]) -> Path:
    """A cover per item, ``[n, 7 n]`` as red and green of the ``n``-th; its fault as blue."""
    (folder / "covers").mkdir(parents=True)
    for n in range(number):
        colour = (n, 7 * n % 256, faults.get(n, faulty.FINE))
        Image.new("RGB", (16, 16), colour).save(folder / "covers" / f"item-{n:03d}.png")
    return folder


class Opener(Silent):
    """Makes a file when results are taken."""

    def __init__(self, gate: Path) -> None:
        self.gate = gate

    def advance(self, rows: int) -> None:
        self.gate.touch()


def test_a_blocks_results_are_taken_while_the_next_block_is_computed(tmp_path, installed, monkeypatch):
    gate = tmp_path / "gate"
    monkeypatch.setenv("FAULTY_GATE", str(gate))
    # In each of the three blocks: whichever is second waits until the first one's results were taken.
    media = covers(tmp_path / "media", 96, dict.fromkeys((5, 40, 80), faulty.WAITS))
    ray = {"executor": "ray"}
    job = worlds.job(media, tmp_path / "store", FEATURES, resources=ray, reporter=Opener(gate))
    (report,) = mmfeat.extract(**job).features
    assert (report.ok, report.failed) == (96, 0)


def test_poison_and_failing_models_cost_their_own_items_and_no_other(tmp_path, installed):
    # In three blocks: two of them have an item that kills the model's process.
    number, faults = 160, {}
    for n, fault in ((5, faulty.CRASHES), (6, faulty.RAISES), (70, faulty.NOT_A_NUMBER)):
        faults[n] = fault
    faults |= {100: faulty.CRASHES, 150: faulty.INFINITE}
    media = covers(tmp_path / "media", number, faults)
    for name, (data, _) in POISON.items():
        (media / "covers" / f"{name}.bmp").write_bytes(data)
    limits = {"item_seconds": 5, "item_memory": 512 * hostile.MB}
    # What kills its process costs its own item with Ray alone.
    more = {"limits": limits, "run": {"max_failed": 0.5}, "resources": {"executor": "ray"}}
    job = worlds.job(media, tmp_path / "store", FEATURES, **more)
    (report,) = mmfeat.extract(**job).features
    assert (report.ok, report.failed) == (number - len(faults), len(faults) + len(POISON))

    store = mmfeat.open(tmp_path / "store")
    found = store.lookup([f"item-{n:03d}" for n in range(number)], ["colour"])["colour"]
    for n in range(number):
        if n in faults:
            assert found.status[n] == "failed"
            assert FAULTS[faults[n]] in found.reason[n]
            assert np.isnan(found.matrix[n]).all()
        else:
            assert found.status[n] == "ok"
            assert found.matrix[n].tolist() == [n, 7 * n % 256]
    poisoned = store.lookup(list(POISON), ["colour"])["colour"]
    for reason, (_, expected) in zip(poisoned.reason, POISON.values(), strict=True):
        assert expected in reason


RATE = 8_000
NOT_NUMBERS = np.full((1, RATE), np.nan, np.float32)
POISONED_SOUNDS = {
    "busy": (hostile.endless_aac(1_000_000), "decoder timed out after 3 s"),
    "cut": (sound(np.zeros(RATE, np.float32), RATE)[:9_000], "sound is cut short"),
    "empty": (b"", "file is empty"),
    "lie": (hostile.flac_that_claims_samples(), "too large: sound is 4,294,967.3 s long"),
    "none": (sound(np.zeros((1, 0), np.float32), RATE), "sound has no sample"),
    "noise": (hostile.noise(5_000), "not a sound or clip that can be read"),
    "numbers": (sound(NOT_NUMBERS, RATE, "pcm_f32le"), "samples that are not numbers"),
    "packets": (hostile.m4a_that_claims_packets(2**31 - 1), "not a sound or clip that can be read"),
}


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_hostile_sounds_cost_their_own_items_and_no_other(tmp_path, installed, executor):
    number = 40
    folder = tmp_path / "media" / "audio"
    folder.mkdir(parents=True)
    for n in range(number):
        (folder / f"item-{n:03d}.wav").write_bytes(sound(np.full(n + 1, n / 64, np.float32), RATE))
    for name, (data, _) in POISONED_SOUNDS.items():
        # Between the others, not behind them.
        (folder / f"item-020-{name}.wav").write_bytes(data)
    features = {"heard": {"source": "audio", "encoder": "heard"}}
    more = {"limits": {"item_seconds": 3}, "run": {"max_failed": 0.5}, "resources": {"executor": executor}}
    job = worlds.job(tmp_path / "media", tmp_path / "store", features, **more)
    (report,) = mmfeat.extract(**job).features
    assert (report.ok, report.missing, report.failed) == (number, 0, len(POISONED_SOUNDS))

    store = mmfeat.open(tmp_path / "store")
    found = store.lookup([f"item-{n:03d}" for n in range(number)], ["heard"])["heard"]
    assert found.matrix.tolist() == [[n / 64, n + 1] for n in range(number)]
    poisoned = store.lookup([f"item-020-{name}" for name in POISONED_SOUNDS], ["heard"])["heard"]
    assert np.isnan(poisoned.matrix).all()
    for reason, (_, expected) in zip(poisoned.reason, POISONED_SOUNDS.values(), strict=True):
        assert expected in reason


def test_a_clip_with_a_damaged_track_keeps_its_frames_and_a_mute_one_has_no_sound(tmp_path, installed):
    folder = tmp_path / "media" / "videos"
    folder.mkdir(parents=True)
    for name, samples in {"damaged": NOT_NUMBERS, "fine": np.full((1, RATE), 0.25, np.float32)}.items():
        clip = talkie(Track(samples, RATE, "pcm_f32le"), container="matroska", frames=10)
        (folder / f"{name}.mkv").write_bytes(clip)
    (folder / "mute.mkv").write_bytes(media_samples.clip(10, container="matroska"))
    (folder / "noise.mkv").write_bytes(hostile.noise(5_000))
    features = {
        "heard": {"source": "video.sound", "encoder": "heard"},
        "seen": {**worlds.CLIP, "source": "video", "frames": 2},
    }
    mmfeat.extract(**worlds.job(tmp_path / "media", tmp_path / "store", features, run={"max_failed": 1.0}))
    found = mmfeat.open(tmp_path / "store").lookup(["damaged", "fine", "mute", "noise"], list(features))
    assert found["heard"].status.tolist() == ["failed", "ok", "missing", "failed"]
    assert found["heard"].matrix[1].tolist() == [0.25, RATE]
    assert "samples that are not numbers" in found["heard"].reason[0]
    assert found["seen"].status.tolist() == ["ok", "ok", "ok", "failed"]


def test_too_many_failures_stop_the_run_early_with_code_3_and_the_commonest_reasons(tmp_path, installed, run):
    number = 1200
    media = covers(tmp_path / "media", number, {n: faulty.RAISES for n in range(number) if n % 2})
    job = tmp_path / "job.toml"
    job.write_text(
        f'[store]\nuri = "{tmp_path / "store"}"\n[dataset]\nname = "folder"\nroot = "{media}"\n'
        '[resources]\nworkers = 1\nthreads = 1\n[features.colour]\nsource = "cover"\nencoder = "faulty"\n'
    )
    code, _, err = run("run", job)
    assert code == 3
    assert "more than 5.0%" in err
    assert "x encode: ValueError: cannot do this picture" in err
    rows = mmfeat.open(tmp_path / "store").lookup(None, ["colour"])["colour"].status
    # It stopped at a hundred failures and the batches under way, with what succeeded kept.
    assert 100 <= sum(status == "failed" for status in rows) < number / 2
    assert 50 <= sum(status == "ok" for status in rows) < number / 2
