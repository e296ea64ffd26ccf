"""A newcomer adds an encoder of sound: one file and an entry point, ``plugins/band_energies.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mmfeat
from mmfeat.extract.registry import METHODS, methods, resolve_all
from mmfeat.extract.testing import check_method
from mmfeat.schemas.errors import ConfigError, UsageError
from mmfeat.schemas.spec import FeatureConfig

# Eight bands from 0 to 8 kHz: the tones lie in the first, the fourth and the last.
TONES = {"low": 440.0, "middle": 3500.0, "high": 7800.0}
BAND_OF = {"low": 0, "middle": 3, "high": 7}
SOUND = {"source": "audio", "encoder": "bands"}
TRACK = {"source": "video.sound", "encoder": "bands"}


@pytest.fixture(autouse=True)
def bands(install) -> None:
    install("bands", "band_energies:BandEnergies")


@pytest.fixture
def media(tmp_path, tone, talkie) -> Path:
    """Each tone as a sound file and as the track of a clip, and a clip that is mute."""
    root = tmp_path / "media"
    for folder in ("audio", "videos"):
        (root / folder).mkdir(parents=True)
    for name, hertz in TONES.items():
        (root / "audio" / f"{name}.wav").write_bytes(tone(hertz))
        (root / "videos" / f"{name}.mkv").write_bytes(talkie(hertz))
    (root / "videos" / "mute.mkv").write_bytes(talkie(None))
    return root


def extract(media: Path, features: dict[str, Any], executor: str = "local") -> mmfeat.FeatureStore:
    store = str(media.parent / "store")
    resources = {"executor": executor, "workers": 1, "threads": 1}
    mmfeat.extract("folder", media, store=store, features=features, resources=resources)
    return mmfeat.open(store)


def test_the_plug_in_keeps_the_contract_of_methods():
    check_method(METHODS["encoder"].get("bands"), {**SOUND, "bands": 12})
    check_method(METHODS["encoder"].get("bands"), TRACK)


def test_the_plug_in_is_listed_among_the_methods():
    (found,) = [one for one in methods() if one.name == "bands"]
    assert (found.kind, found.example.reads) == ("encoder", ("audio",))


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_tones_of_sound_files_and_of_clips_are_told_apart_and_a_mute_clip_is_missing(media, executor):
    store = extract(media, {"sound": SOUND, "track": TRACK}, executor)
    found = store.lookup(features=["sound", "track"])
    assert sorted(found.ids) == ["high", "low", "middle", "mute"]
    for row, item_id in enumerate(found.ids):
        sound, track = found["sound"], found["track"]
        if item_id == "mute":
            assert (sound.status[row], track.status[row]) == ("missing", "missing")
            continue
        assert sound.values[row].argmax() == track.values[row].argmax() == BAND_OF[item_id]
        assert sound.values[row].max() - sorted(sound.values[row])[-2] > 1


def test_an_option_of_the_plug_in_is_part_of_the_fingerprint_and_a_typo_is_refused(media):
    specs = resolve_all(
        {
            "plain": FeatureConfig(**SOUND),
            "written": FeatureConfig(**SOUND, bands=8),
            "fine": FeatureConfig(**SOUND, bands=16),
        }
    )
    plain, written, fine = (spec.fingerprint for spec in specs)
    assert plain == written != fine
    assert specs[2].dims == 16
    with pytest.raises(ConfigError, match="'sound': encoder 'bands' has no option 'band'") as raised:
        extract(media, {"sound": {**SOUND, "band": 16}})
    assert "Did you mean 'bands'?" in raised.value.hint
    assert not (media.parent / "store").exists()


def test_what_it_cannot_read_is_refused_before_anything_is_made(media):
    with pytest.raises(ConfigError, match="encoder 'bands' cannot read 'cover', which is a picture"):
        extract(media, {"sound": {**SOUND, "source": "cover"}})
    assert not (media.parent / "store").exists()


def test_a_feature_of_sound_is_searched_by_items_and_says_that_it_cannot_be_by_words(media):
    store = extract(media, {"sound": SOUND})
    assert [hit.item_id for hit in store.search("sound", item="low", k=1)] != []
    with pytest.raises(UsageError, match="cannot be searched by a text: bands makes it of audio"):
        store.search("sound", text="a low hum")
