"""A folder of broken media: the run ends, every other item is right, each bad one says why in plain words."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers import media_samples, synthetic, worlds

import mmfeat
from mmfeat.commands import read
from mmfeat.pipelines.progress import Silent

GOOD = 5
CLIP_VIDEO = {**worlds.CLIP, "source": "video", "frames": 3}
REASONS = {
    "truncated": ("cover", "cut short"),
    "empty": ("cover", "file is empty"),
    "text": ("cover", "not an image"),
    "bomb": ("cover", "20,000 x 20,000 pixels are 400.0 million, over the limit"),
    "cut-clip": ("video", "clip is cut short"),
    "no-frames": ("video", "clip has no frame"),
    "empty-clip": ("video", "file is empty"),
}


def huge_png(side: int) -> bytes:
    """A PNG whose header says ``side x side``."""
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = (head, rows, b"IEND")
    body = b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("broken") / "media"
    worlds.cover_folder(folder, synthetic.held_out(GOOD))
    covers, videos = folder / "covers", folder / "videos"
    videos.mkdir()
    whole = media_samples.encoded(media_samples.picture(300, 400), "JPEG", quality=90)
    mp4 = media_samples.clip(50)
    (covers / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (covers / "empty.jpg").write_bytes(b"")
    (covers / "text.jpg").write_bytes(b"This is a text, whatever its name says.")
    (covers / "bomb.png").write_bytes(huge_png(20_000))
    for number in range(GOOD):
        (videos / f"item-{number:03d}.mp4").write_bytes(media_samples.clip(10 + number))
    (videos / "cut-clip.mp4").write_bytes(media_samples.moov_first(mp4)[: len(mp4) * 6 // 10])
    (videos / "no-frames.mp4").write_bytes(media_samples.clip(0))
    (videos / "empty-clip.mp4").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def store(media) -> mmfeat.FeatureStore:
    features = {"cover_clip": worlds.CLIP, "video_clip": CLIP_VIDEO}
    job = worlds.job(media, media.parent / "store", features, run={"max_failed": 1.0})
    report = mmfeat.extract(**{**job, "resources": {"workers": 1, "threads": 1, "batch_size": 4}})
    assert [(f.ok, f.failed) for f in report.features] == [(GOOD, 4), (GOOD, 3)]
    return mmfeat.open(media.parent / "store")


@pytest.mark.parametrize("item", sorted(REASONS))
def test_each_bad_file_is_failed_with_a_reason_that_a_person_understands(store, item):
    source, reason = REASONS[item]
    column = store.lookup([item], [f"{source}_clip"])[f"{source}_clip"]
    assert column.status[0] == "failed"
    assert reason in column.reason[0]
    assert np.isnan(column.matrix[0]).all()


def test_every_other_item_has_the_vector_that_it_gets_without_bad_neighbours(store, media, tmp_path):
    clean = tmp_path / "media"
    for kind in ("covers", "videos"):
        (clean / kind).mkdir(parents=True)
        for path in (media / kind).glob("item-*"):
            (clean / kind / path.name).write_bytes(path.read_bytes())
    features = {"cover_clip": worlds.CLIP, "video_clip": CLIP_VIDEO}
    mmfeat.extract(**worlds.job(clean, tmp_path / "store", features))
    alone = mmfeat.open(tmp_path / "store")
    ids = [f"item-{n:03d}" for n in range(GOOD)]
    for name in features:
        beside, expected = (s.lookup(ids, [name])[name].matrix for s in (store, alone))
        assert worlds.cosines(beside, expected).min() > 0.99999


def test_failures_shows_them_all(store, media, capsys):
    read.failures(features=None, store=str(media.parent / "store"), limit=20, json=False)
    shown = capsys.readouterr().out
    assert all(item in shown for item in REASONS)


class Hearing(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


def test_the_frames_that_are_there_of_a_cut_clip_are_taken_where_the_feature_says_so(media, tmp_path):
    folder = tmp_path / "clips"
    (folder / "videos").mkdir(parents=True)
    for name in ("cut-clip", "item-000"):
        (folder / "videos" / f"{name}.mp4").write_bytes((media / "videos" / f"{name}.mp4").read_bytes())
    cut = {"unsaid": {}, "refusing": {"cut": "refuse"}, "accepting": {"cut": "accept"}}
    features = {name: {**CLIP_VIDEO, **option} for name, option in cut.items()}
    job = worlds.job(folder, tmp_path / "store", features, run={"max_failed": 1.0})
    said = Hearing()
    report = mmfeat.extract(**{**job, "resources": {"executor": "local"}}, reporter=said)
    assert [(f.ok, f.failed) for f in report.features] == [(1, 1), (1, 1), (2, 0)]
    unsaid, refusing, accepting = (f.version.partition("@")[2] for f in report.features)
    assert unsaid == refusing != accepting
    assert sum("cut short were taken as far as they go" in line for line in said.lines) == 1
    opened = mmfeat.open(tmp_path / "store")
    assert opened.facts("accepting") == {"cut-clip": {"cut": True}}
    found = opened.lookup(["cut-clip", "item-000"], ["refusing", "accepting"])
    assert found["refusing"].status.tolist() == ["failed", "ok"]
    assert np.array_equal(found["refusing"].matrix[1], found["accepting"].matrix[1])
    assert np.isfinite(found["accepting"].matrix).all()
