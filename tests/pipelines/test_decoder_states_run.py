"""A caption and the states of its question: one pass in one run, and the same values in a later one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from helpers import synthetic, worlds
from helpers.work_items import work_items

import mmfeat
from mmfeat.extract.registry import class_of, resolve_all, shared_models
from mmfeat.pipelines.execution.calls import Calls
from mmfeat.pipelines.execution.resources import lay_out
from mmfeat.pipelines.execution.stages import Decode, Encode
from mmfeat.schemas.job import Resources
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import FeatureConfig

BRIEF = {**worlds.CAPTION, "max_new_tokens": 4}
STATES = {"source": "caption", "encoder": "decoder_states"}
MEANS = {**STATES, "layers": [-1], "pooling": "mean"}
FEATURES = {"caption": BRIEF, "states": STATES}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
N_ITEMS = 5


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    return worlds.cover_folder(tmp_path_factory.mktemp("covers"), synthetic.held_out(N_ITEMS))


@pytest.fixture(scope="module")
def decoded(media) -> pa.Table:
    """Work items of every cover, which want no feature yet."""
    covers = sorted((media / "covers").iterdir())
    specs = resolve_all({"caption": FeatureConfig(**BRIEF)})
    return Decode(specs, MediaLimits())(work_items([{"cover": cover} for cover in covers]))


@pytest.fixture(scope="module")
def encode() -> Encode:
    """A stage of a caption, all its states, and the means of one layer."""
    tables = {**FEATURES, "means": MEANS}
    specs = resolve_all({name: FeatureConfig(**table) for name, table in tables.items()})
    return Encode(specs, [0, 1, 2], last=True, threads=1)


def wanting(decoded: pa.Table, *features: list[int]) -> pa.Table:
    """The work items, each of which wants these features."""
    column = pa.array(list(features), pa.list_(pa.int32()))
    return decoded.set_column(decoded.column_names.index("features"), "features", column)


@contextmanager
def questions_of(encode: Encode) -> Iterator[list[int]]:
    """Of every pass of a question, how many rows it had. A pass of an answer's token has one token a row."""
    seen: list[int] = []
    model: Any = encode.methods[0]
    embeddings = model.model.get_input_embeddings()
    hook = embeddings.register_forward_pre_hook(
        lambda _, given: seen.append(len(given[0])) if given[0].shape[1] > 1 else None
    )
    try:
        yield seen
    finally:
        hook.remove()


def values_of(results: pa.Table, feature: int) -> dict[int, bytes]:
    return {r["work"]: r["value"] for r in results.to_pylist() if r["feature"] == feature}


def numbers(values: dict[int, bytes]) -> np.ndarray:
    return np.stack([np.frombuffer(values[row], np.float32) for row in sorted(values)])


def test_a_caption_and_all_features_of_its_states_are_one_pass_of_one_model(encode, decoded):
    assert {id(method.captioner) for method in list(encode.methods.values())[1:]} == {id(encode.methods[0])}
    with questions_of(encode) as passes:
        results = encode(wanting(decoded, *[[0, 1, 2]] * N_ITEMS))
    assert passes == [N_ITEMS]
    assert set(results["status"].to_pylist()) == {"ok"}
    assert len(results) == 3 * N_ITEMS
    # The pass is the caption's: nobody else waited for it.
    waited = {r["feature"]: r["seconds"] > 0 for r in results.to_pylist()}
    assert waited == {0: True, 1: False, 2: False}


def test_rows_that_lack_the_states_alone_get_the_same_values(encode, decoded):
    joint = encode(wanting(decoded, *[[0, 1, 2]] * N_ITEMS))
    mixed = wanting(decoded, [0, 1], [1, 2], [0], [1], [0, 1, 2])
    with questions_of(encode) as passes:
        results = encode(mixed)
    # Three captions; then two states, and one mean.
    assert passes == [3, 2, 1]
    for feature, rows in ((1, [0, 1, 3, 4]), (2, [1, 4])):
        found = values_of(results, feature)
        assert sorted(found) == rows
        whole = numbers(values_of(joint, feature))
        np.testing.assert_allclose(numbers(found), whole[rows], **CLOSE)
    assert values_of(results, 0) == {row: values_of(joint, 0)[row] for row in (0, 2, 4)}


def test_an_item_whose_caption_fails_has_states(decoded):
    endless = {"caption": {**BRIEF, "max_new_tokens": 10**6}, "states": STATES}
    specs = resolve_all({name: FeatureConfig(**table) for name, table in endless.items()})
    results = Encode(specs, [0, 1], last=True, threads=1)(wanting(decoded, *[[0, 1]] * N_ITEMS))
    status = {(r["feature"], r["status"]): r["reason"] for r in results.to_pylist()}
    assert set(status) == {(0, "failed"), (1, "ok")}
    assert "exceed the model's" in status[0, "failed"]


def test_states_that_are_added_to_a_store_are_those_of_a_run_with_the_captions(media, tmp_path):
    store = tmp_path / "store"
    mmfeat.extract(**worlds.job(media, store, FEATURES))
    # The same under another name: the captions are there.
    mmfeat.extract(**worlds.job(media, store, {**FEATURES, "added": STATES}))
    found = mmfeat.open(store).lookup(features=["caption", "states", "added"])
    assert found["caption"].mask.all()
    assert found["states"].spec.fingerprint == found["added"].spec.fingerprint
    for name in ("states", "added"):
        assert found[name].mask.all()
        assert found[name].matrix.shape == (N_ITEMS, *found[name].spec.shape)
    np.testing.assert_allclose(found["states"].matrix, found["added"].matrix, **CLOSE)


def test_as_many_clips_go_through_the_model_alone_as_with_their_captions():
    clips = {"caption": {**BRIEF, "source": "video", "frames": 8}, "states": STATES}
    specs = resolve_all({name: FeatureConfig(**table) for name, table in clips.items()})
    calls = Calls("cuda")
    assert {calls.rows(spec, class_of(spec)) for spec in specs} == {8}


def test_on_gpus_states_are_computed_where_their_caption_is():
    tables = {**FEATURES, "dino": worlds.DINO, "means": MEANS}
    specs = resolve_all({name: FeatureConfig(**table) for name, table in tables.items()})
    passes = shared_models(specs, range(4))
    assert passes == {1: 0, 3: 0}
    told = {"nodes": [8.0], "gpus": 2.0, "wanted": Resources(), "shared": passes}
    assert [pool.numbers for pool in lay_out([0, 1, 2, 3], 10, **told).pools] == [(0, 1, 3), (2,)]
    # Nobody else computes them where the captions are there already.
    assert [pool.numbers for pool in lay_out([1, 2], 10, **told).pools] == [(1,), (2,)]
