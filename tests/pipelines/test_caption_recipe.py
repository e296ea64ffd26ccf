"""The recipe of docs/captions.md from one job file: clips to captions to vectors to what recommenders load.
With it, through the same runs, captions that read titles and captions by scenes."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import synthetic, worlds
from helpers.media_samples import film

import mmfeat
from mmfeat.export import verify
from mmfeat.extract.registry import load_method

TESTS = Path(__file__).parents[1]
N = 12
# What the clip and the cover of each item show; the last clip goes on to show the spare shape.
*SHOWN, SPARE = (replace(s, width=96, height=96) for s in synthetic.held_out(N + 1, seed=12))
IDS = [str(10 + n) for n in range(N)]
RETITLED, UNTITLED, TWO_SHOTS = IDS[0], IDS[5], IDS[-1]


def write_titles(media: Path, **changed: str) -> None:
    rows = [f"{i},{changed.get(f'of_{i}', f'Number {i} of the shop')}" for i in IDS if i != UNTITLED]
    (media / "titles.csv").write_text("item,title\n" + "\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A dataset in MicroLens's layout, and beside it the job and the models that it names."""
    folder = tmp_path_factory.mktemp("recipe")
    media = folder / "media"
    (media / "videos").mkdir(parents=True)
    for item_id, scene in zip(IDS, SHOWN, strict=True):
        shots = [scene, SPARE] if item_id == TWO_SHOTS else [scene]
        pictures = [picture for shot in shots for picture in synthetic.clip(shot, 16)]
        (media / "videos" / f"{item_id}.mp4").write_bytes(film(pictures))
        worlds.write_cover(media, item_id, scene)
    write_titles(media)
    rng = np.random.default_rng(0)
    chosen = [rng.choice(IDS, 5, replace=False) for _ in range(30)]
    pairs = [f"{user},{item},{step}" for user, items in enumerate(chosen) for step, item in enumerate(items)]
    (media / "pairs.csv").write_text("user,item,timestamp\n" + "\n".join(pairs) + "\n")
    (folder / "models").symlink_to(worlds.MODELS)
    shutil.copy(TESTS / "recipe.toml", folder)
    return folder


@pytest.fixture(scope="module")
def reports(folder) -> list[Any]:
    """The job run twice: between the runs one title changed."""
    first = mmfeat.run(folder / "recipe.toml")
    write_titles(folder / "media", **{f"of_{RETITLED}": "Another title"})
    return [first, mmfeat.run(folder / "recipe.toml")]


@pytest.fixture
def store(folder, reports) -> mmfeat.FeatureStore:
    return mmfeat.open(folder / "features")


def named(scenes: list[synthetic.Scene], texts: list[str]) -> float:
    words = [text.split() for text in texts]
    return float(np.mean([s.colour in w and s.shape in w for s, w in zip(scenes, words, strict=True)]))


def test_clips_are_told_and_what_was_told_becomes_the_items_vector(store):
    found = store.lookup(IDS, ["caption", "caption_text", "title_text", "clip_video"])
    texts = found["caption"].texts
    assert named(SHOWN[:-1], texts[:-1]) >= 0.9
    encoder = load_method(found["caption_text"].spec)
    np.testing.assert_allclose(found["caption_text"].matrix, encoder.encode_texts(texts), atol=1e-5)
    assert found["clip_video"].matrix.shape == (N, 64)
    assert [i for i, there in zip(IDS, found["title_text"].mask, strict=True) if not there] == [UNTITLED]


def test_every_caption_records_its_tokens_seconds_and_why_it_ended(store):
    facts = store.facts("caption")
    assert set(facts) == set(IDS)
    for fact in facts.values():
        assert (fact["finish_reason"], fact["seconds"] > 0) == ("stop", True)
        assert fact["prompt_tokens"] > fact["new_tokens"] > 0
    spec = store.spec("caption")
    assert (spec.prompt.name, spec.pixels.sampling.count, spec.kind) == ("paper", 4, "caption")


def test_a_changed_title_computes_what_reads_it_and_nothing_else(reports, store):
    first, second = (
        {f.version.partition("@")[0]: (f.up_to_date, f.ok, f.missing, f.failed) for f in report.features}
        for report in reports
    )
    assert first["titled"] == (0, N - 1, 1, 0)
    changed = {name for name, counts in second.items() if counts != (N, 0, 0, 0)}
    assert changed == {"titled", "title_text"}
    assert {second[name] for name in changed} == {(N - 1, 1, 0, 0)}
    assert [(one.source, one.named) for one in store.spec("titled").inputs] == [
        ("cover", False),
        ("title", True),
    ]


def test_a_caption_that_reads_the_title_sees_the_cover_too_and_is_missing_without_a_title(store):
    column = store.lookup(IDS, ["titled"])["titled"]
    there = [(s, t) for s, t, i in zip(SHOWN, column.texts, IDS, strict=True) if i != UNTITLED]
    assert named([s for s, _ in there], [t for _, t in there]) >= 0.9
    assert column.status[IDS.index(UNTITLED)] == "missing"


def test_a_clip_of_two_shots_is_told_scene_by_scene(store):
    scenes = store.facts("scenes")[TWO_SHOTS]["scenes"]
    assert [(s["start"], s["end"]) for s in scenes] == [(0.0, 1.6), (1.6, 3.2)]
    assert named([SHOWN[-1], SPARE], [s["text"] for s in scenes]) == 1.0
    assert {len(facts["scenes"]) for i, facts in store.facts("scenes").items() if i != TWO_SHOTS} == {1}
    assert all(text for text in store.lookup(IDS, ["scenes"])["scenes"].texts)


def test_each_feature_is_exported_to_what_sasrec_and_a_two_tower_model_load(
    store, tmp_path, monkeypatch, folder
):
    for name in ("caption_text", "title_text", "clip_video"):
        store.export("recbole", tmp_path / name / "microlens", features={"item": name}, missing="mean")
        assert verify(tmp_path / name / "microlens").ok
    arrays = tmp_path / "exports" / "arrays"
    store.export("npy", arrays, features=["caption_text", "title_text", "clip_video"], missing="mean")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "features").symlink_to(folder / "features")
    ran = run_example("two_tower.py")
    assert json.loads((arrays / "ids.json").read_text()) == IDS
    np.testing.assert_allclose(
        ran["vectors"].numpy(), store.lookup(IDS, ["caption_text"])["caption_text"].matrix
    )
    assert tuple(ran["scores"].shape) == (30, N)
    assert np.mean(ran["losses"][-2:]) < np.mean(ran["losses"][:2])


def run_example(name: str) -> dict[str, Any]:
    """The program of that name on the page, run here; gives its variables."""
    page = (TESTS.parent / "docs" / "captions.md").read_text()
    (program,) = re.findall(rf"^```py\n# {re.escape(name)}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    variables: dict[str, Any] = {}
    exec(compile(program, name, "exec"), variables)
    return variables
