"""A world of sound in a whole run: tones that no model was trained on are found and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import synthetic_tones, worlds
from helpers.synthetic_tones import COMBOS

import mmfeat

EACH = 3
TONES = {f"tone-{n:03d}": tone for n, tone in enumerate(synthetic_tones.held_out(EACH * len(COMBOS), seed=3))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A dataset of tones in files of several rates: what is heard has the models' own."""
    folder: Path = tmp_path_factory.mktemp("heard")
    for number, (item_id, tone) in enumerate(TONES.items()):
        worlds.write_tone(folder / "items", item_id, tone, (16_000, 22_050, 44_100)[number % 3])
    return folder


def run(folder: Path, name: str, **table: object) -> mmfeat.FeatureStore:
    uri = folder / f"store-of-{name}"
    mmfeat.extract(**worlds.job(folder / "items", uri, {name: table}, resources={"executor": "local"}))
    return mmfeat.open(str(uri))


@pytest.fixture(scope="module")
def store(folder) -> mmfeat.FeatureStore:
    return run(folder, "sound", **worlds.HEARD)


def named(item_ids: list[str]) -> list[str]:
    return [TONES[item_id].caption for item_id in item_ids]


def test_a_text_finds_the_tones_of_that_name(store):
    found = {
        caption: named([hit.item_id for hit in store.search("sound", text=caption, k=EACH)])
        for caption in sorted(set(named(list(TONES))))
    }
    right = [name == caption for caption, names in found.items() for name in names]
    assert len(right) == len(TONES)
    assert np.mean(right) >= 0.95


def test_a_part_of_a_name_finds_tones_that_have_it(store):
    hits = store.search("sound", text="a high buzzing tone", k=3 * EACH)
    assert all(name.endswith("high buzzing tone") for name in named([hit.item_id for hit in hits]))


def test_the_nearest_tone_has_the_same_name(store):
    ids = list(TONES)
    vectors = store.lookup(ids, ["sound"])["sound"].matrix
    alike = worlds.unit_rows(vectors) @ worlds.unit_rows(vectors).T
    np.fill_diagonal(alike, -2)
    nearest = [ids[n] for n in alike.argmax(axis=1)]
    assert np.mean(np.array(named(nearest)) == named(ids)) >= 0.95


def test_an_audio_language_model_names_the_tones(folder):
    store = run(folder, "caption", **worlds.CAPTION_SOUND, max_new_tokens=24)
    ids = list(TONES)
    assert np.mean(np.array(store.lookup(ids, ["caption"])["caption"].texts) == named(ids)) >= 0.95
