"""A world of motion in a whole run: what happens in clips, which the mean of their frames does not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import synthetic_stories, worlds
from helpers.synthetic_stories import EVENTS

import mmfeat

EACH = 3
TOLD = synthetic_stories.held_out(EACH * len(EVENTS) // 2, seed=3, frames=12)
# Each story is asked about twice, as it is told and backwards.
ASKED = {f"there-{n:03d}": story for n, story in enumerate(TOLD)}
ASKED |= {f"back-{n:03d}": story.backwards for n, story in enumerate(TOLD)}
# What is known of the events is learnt from others.
KNOWN = {
    f"known-{n:03d}": story
    for n, story in enumerate(synthetic_stories.held_out(EACH * len(EVENTS), seed=4, frames=16))
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A dataset of clips."""
    folder: Path = tmp_path_factory.mktemp("watched")
    for item_id, story in (ASKED | KNOWN).items():
        worlds.write_story(folder / "items", item_id, story)
    return folder


def run(folder: Path, name: str, features: dict[str, dict[str, object]]) -> mmfeat.FeatureStore:
    uri = folder / f"store-of-{name}"
    mmfeat.extract(**worlds.job(folder / "items", uri, features, resources={"executor": "local"}))
    return mmfeat.open(str(uri))


@pytest.fixture(scope="module")
def store(folder) -> mmfeat.FeatureStore:
    frames = {**worlds.CLIP, "source": "video"}
    return run(folder, "vectors", {"clip": worlds.WATCHED, "frames": frames})


def nearness(store: mmfeat.FeatureStore, feature: str) -> np.ndarray:
    """Cosine of each story that is asked about to each event's mean: ``[asked, events]``."""
    known, asked = (
        worlds.unit_rows(store.lookup(list(items), [feature])[feature].matrix) for items in (KNOWN, ASKED)
    )
    events = [EVENTS.index(story.event) for story in KNOWN.values()]
    centres = np.stack([known[np.equal(events, n)].mean(axis=0) for n in range(len(EVENTS))])
    return asked @ worlds.unit_rows(centres).T


def order_told(store: mmfeat.FeatureStore, feature: str) -> float:
    """Share of the stories that are nearer to their event than to what they are backwards."""
    rows = zip(nearness(store, feature), ASKED.values(), strict=True)
    return np.mean([row[EVENTS.index(s.event)] > row[EVENTS.index(s.backwards.event)] for row, s in rows])


def test_an_encoder_of_clips_tells_what_happens(store):
    nearest = nearness(store, "clip").argmax(axis=1)
    assert np.mean([EVENTS[n] == s.event for n, s in zip(nearest, ASKED.values(), strict=True)]) >= 0.95
    assert order_told(store, "clip") >= 0.95


def test_the_mean_of_a_clips_frames_knows_what_is_seen_and_not_in_which_order(store):
    vectors = store.lookup(list(ASKED), ["frames"])["frames"].matrix
    assert worlds.cosines(*np.split(vectors, 2)).min() >= 0.99
    nearest = [EVENTS[n] for n in nearness(store, "frames").argmax(axis=1)]
    either = [n in (s.event, s.backwards.event) for n, s in zip(nearest, ASKED.values(), strict=True)]
    assert np.mean(either) >= 0.8
    assert 0.4 <= order_told(store, "frames") <= 0.6


def test_a_captioner_that_is_shown_video_says_what_happens(folder):
    store = run(folder, "captions", {"caption": {**worlds.CAPTION_STORY, "max_new_tokens": 24}})
    said = store.lookup(list(ASKED), ["caption"])["caption"].texts
    assert np.mean([text == s.caption for text, s in zip(said, ASKED.values(), strict=True)]) >= 0.95
