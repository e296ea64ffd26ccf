"""Sound files and clips of every sort in a whole run: no row is lost, and each says what was heard."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.media_samples import clip
from helpers.sound_models import clap, hubert
from helpers.sound_samples import Track, covered, sound, talkie, tone

import mmfeat
from mmfeat.pipelines.steps import gates
from mmfeat.schemas.errors import UsageError

A = tone(440, 1, 16_000)
AUDIO = {
    "plain": sound(A, 16_000),
    "low_rate": sound(tone(440, 1, 8000), 8000),
    "high_rate": sound(tone(440, 1, 192_000), 192_000, "flac", "flac"),
    "surround": sound(np.stack([tone(440, 1, 48_000)] * 6), 48_000),
    "silent": sound(np.zeros(16_000, np.float32), 16_000),
    "whisper": sound(tone(440, 1, 16_000, loud=0.002), 16_000, "pcm_f32le"),
    "variable": sound(tone(440, 1, 22_050), 22_050, "aac", "adts")
    + sound(np.stack([tone(440, 1, 44_100)] * 2), 44_100, "aac", "adts"),
    "covered": covered(Track(tone(440, 1, 44_100)[None], 44_100, "libmp3lame"), "mp3"),
    "cut": sound(A, 16_000)[:20_000],
    "broken": b"RIFF....WAVEfmt no sound at all",
    "empty": b"",
}
VIDEOS = {
    "talks": talkie(Track(A[None], 16_000, "aac"), frames=25),
    "languages": talkie(
        Track(A[None], 16_000, "aac", default=False),
        Track(A[None] / 4, 16_000, "aac", default=True),
        frames=25,
    ),
    "late": talkie(Track(A[None], 16_000, "aac", delay=0.4), container="matroska", frames=25),
    "hushed": talkie(Track(np.zeros((1, 16_000), np.float32), 16_000, "aac"), frames=25),
    "mute": clip(frames=10),
    "sound_alone": talkie(Track(A[None], 16_000, "aac"), frames=0),
    "torn": talkie(Track(A[None], 16_000, "aac"), frames=25)[:3000],
}
FAILED = {"cut", "broken", "empty", "torn"}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> mmfeat.FeatureStore:
    place = tmp_path_factory.mktemp("sound")
    for folder, files, suffix in (("audio", AUDIO, "wav"), ("videos", VIDEOS, "mp4")):
        (place / "media" / folder).mkdir(parents=True)
        for name, data in files.items():
            (place / "media" / folder / f"{name}.{suffix}").write_bytes(data)
    heard = {"encoder": "transformers_audio", "model": str(hubert(place / "hubert", dims=128))}
    features = {
        "sound": {"source": "audio", **heard},
        "track": {"source": "video.sound", **heard},
        "space": {"source": "audio", "encoder": "clap", "model": str(clap(place / "clap"))},
        "frames": {"source": "video", "encoder": "timm", "model": "test_resnet", "weights": "random:0"},
    }
    uri = str(place / "store")
    resources = {"executor": "local", "threads": 1}
    report = mmfeat.extract(
        "folder", place / "media", store=uri, features=features, resources=resources, run={"max_failed": 1.0}
    )
    assert {f.version.partition("@")[0]: f.marks for f in report.features} == {
        "sound": {"silence": 1},
        "track": {"silence": 1},
        "space": {"silence": 1},
        "frames": {},
    }
    return mmfeat.open(uri)


def statuses(store: mmfeat.FeatureStore, feature: str) -> dict[str, str]:
    found = store.lookup(features=[feature])
    return dict(zip(found.ids, found[feature].status.tolist(), strict=True))


def rms_of(store: mmfeat.FeatureStore, feature: str) -> dict[str, float]:
    return {item: facts["rms"] for item, facts in store.facts(feature).items()}


def test_every_file_has_a_row_that_says_what_became_of_its_sound(store):
    for feature, files, others in (
        ("sound", AUDIO, VIDEOS),
        ("space", AUDIO, VIDEOS),
        ("track", VIDEOS, AUDIO),
    ):
        wanted = {name: "failed" if name in FAILED else "ok" for name in files}
        wanted |= dict.fromkeys(others, "missing")
        if feature == "track":
            wanted["mute"] = "missing"
        assert statuses(store, feature) == wanted
    reasons = {row["item_id"]: row["reason"] for row in store.failures("sound").to_pylist()}
    assert "cut short" in reasons["cut"]
    assert reasons["empty"] == "file is empty"


def test_a_clips_frames_are_there_whatever_its_sound_is(store):
    ok = {name for name, status in statuses(store, "frames").items() if status == "ok"}
    assert ok == set(VIDEOS) - {"sound_alone", "torn"}


def test_silence_is_ok_and_known_as_silence_and_every_sound_says_how_loud_it_was(store):
    loud = rms_of(store, "sound")
    assert set(loud) == set(AUDIO) - FAILED
    assert loud["silent"] == 0
    assert loud["plain"] == pytest.approx(0.5 / np.sqrt(2), rel=0.01)
    assert loud["whisper"] == pytest.approx(0.002 / np.sqrt(2), rel=0.01)
    assert [(r["item_id"], r["reason"]) for r in store.marked("sound").to_pylist()] == [("silent", "silence")]
    assert [r["item_id"] for r in store.marked("track").to_pylist()] == ["hushed"]


def test_silence_is_not_counted_among_texts_that_were_not_wanted(store):
    inner = store._store
    result = gates._marked(inner, inner.resolve("track"), None, 0.0)
    assert (result.value, result.passed) == (0.0, True)


def test_the_default_language_is_heard(store):
    loud = rms_of(store, "track")
    assert loud["languages"] == pytest.approx(loud["talks"] / 4, rel=0.05)


def test_words_search_sounds_and_each_sound_finds_itself(store):
    hits = store.search("space", text="a dog barks", k=3)
    best = store.search("space", item=hits[0].item_id, k=len(AUDIO))
    assert {hit.item_id for hit in hits} <= set(AUDIO) - FAILED
    assert {hit.item_id for hit in best} | {hits[0].item_id} == set(AUDIO) - FAILED
    with pytest.raises(UsageError, match="cannot be searched by a text"):
        store.search("sound", text="a dog barks")


@pytest.mark.parametrize("format", ["ducho", "elliot"])
def test_an_audio_role_is_taken_by_the_feature_that_was_heard(store, tmp_path, format):
    report = store.export(format, tmp_path / format, features=["track", "frames"], missing="drop")
    assert report.features["audio"].startswith("track@")
    assert report.features["image"].startswith("frames@")


@pytest.mark.parametrize(("format", "file"), [("mmgrec", "a_feat_sample.npy"), ("mmhcl", "audio_feat.npy")])
def test_recommenders_of_sound_get_the_vectors_that_were_heard(store, tmp_path, format, file):
    heard = ["talks", "languages", "late"]
    pairs = tmp_path / "pairs.csv"
    lines = (f"u{user},{item},{user}\n" for user in range(4) for item in heard)
    pairs.write_text("user,item,timestamp\n" + "".join(lines))
    roles = {"image": "track", "audio": "track", "text": "track"}
    store.export(
        format, tmp_path / format, features=roles, force_role=True, items=heard, interactions=str(pairs)
    )
    (found,) = (tmp_path / format).rglob(file)
    np.testing.assert_array_equal(np.load(found), store.lookup(heard, ["track"])["track"].matrix)


def test_pictures_in_the_place_of_sounds_are_refused_unless_that_is_forced(store, tmp_path):
    roles = {"audio": "frames", "image": "track"}
    for role, feature in roles.items():
        with pytest.raises(UsageError, match=f"elliot's {role} is read from") as refused:
            store.export("elliot", tmp_path / "no", features={role: feature}, missing="drop")
        assert "--force-role" in refused.value.hint
    assert not (tmp_path / "no").exists()
    forced = store.export("elliot", tmp_path / "forced", features=roles, force_role=True, missing="drop")
    assert forced.features["audio"].startswith("frames@")
