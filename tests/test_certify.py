"""An engine's certificate: what it gives for the user's own items beside what is stored of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from helpers import worlds
from helpers.plugins import on_path, write_plugin

import mmfeat
from mmfeat.extract.base import Ask, Caption, Captioner, Encoder, Placement, Reads
from mmfeat.pipelines.certify import certify, neighbours_kept
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.inputs import TextPrepare
from mmfeat.schemas.outputs import TextOut, VectorOut
from mmfeat.schemas.spec import FeatureSpec, ModelCard, Weights
from mmfeat.store import Store

CARD = ModelCard(method="m", model="m", reads=("text",), licence="MIT", weights_from="nowhere")
DIMS, ITEMS = 8, 30


class Engines(Encoder):
    """Vectors of a text's letters; of many items by another engine, which turns them."""

    reads = (Reads(("text",)),)
    example = CARD
    output: ClassVar = VectorOut(dims=DIMS)
    batch_size = 7
    turn: ClassVar[float] = 0.0
    has_other: ClassVar[bool] = True

    @classmethod
    def resolve(cls, ask: Ask[Frozen]) -> FeatureSpec:
        return ask.spec(
            inputs=(ask.only.prepared(TextPrepare()),),
            output=cls.output,
            model="engines",
            weights=Weights(origin="package", ref="plugin"),
        )

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        other = self.has_other and (place.expected or 0) > 1 << 30
        self.spec, self.angle = spec, self.turn if other else 0.0
        self.runtime = "openvino 1.0" if other else "torch 1.0"
        self.notes = () if self.has_other else ("words runs in torch: it cannot be converted",)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        found = np.zeros((len(texts), DIMS), np.float32)
        for row, text in enumerate(texts):
            for letter in text.encode():
                found[row] += np.random.default_rng(letter).normal(size=DIMS)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        pairs = found.reshape(len(texts), DIMS // 2, 2) @ np.array([[cos, sin], [-sin, cos]], np.float32)
        return pairs.reshape(len(texts), DIMS)


class Fails(Engines):
    """The other engine fails for one item and gives NaN for another."""

    def encode_texts(self, texts):
        vectors = super().encode_texts(texts)
        if self.runtime.startswith("openvino"):
            if any("7" in text for text in texts):
                raise ValueError("no seven")
            vectors[["9" in text for text in texts]] = np.nan
        return vectors


class Tells(Captioner):
    """A title as its caption."""

    reads = (Reads(("text",)),)
    example = CARD
    output: ClassVar = TextOut(role="caption")
    resolve = classmethod(Engines.resolve.__func__)

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        self.spec = spec

    def caption(self, rows):
        return [Caption(f"it is {text}", "stop") for (text,) in rows]


FEATURES = {
    "words": {"source": "title", "encoder": "engines"},
    "fails": {"source": "title", "encoder": "fails"},
    "told": {"source": "title", "captioner": "tells"},
    "of_told": {"source": "told", "encoder": "engines"},
    "dino": worlds.DINO,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    points = {
        "mmfeat.encoders": {one.__name__.lower(): f"{__name__}:{one.__name__}" for one in (Engines, Fails)},
        "mmfeat.captioners": {"tells": f"{__name__}:Tells"},
    }
    place = tmp_path_factory.mktemp("certify")
    media = worlds.cover_folder(place / "media", worlds.synthetic.held_out(ITEMS))
    # Every third item has the title of another one.
    titles = [f"item-{n:03d},title {n - n % 3}{'!' * (n % 3 == 1)}" for n in range(ITEMS)]
    (media / "titles.csv").write_text("\n".join(["item,title", *titles]) + "\n")
    with on_path(write_plugin(tmp_path_factory.mktemp("plugin"), points)):
        mmfeat.extract(**worlds.job(media, place / "store", FEATURES))
        yield place


@pytest.fixture
def store(folder) -> Store:
    return Store.open(str(folder / "store"))


def test_an_engine_that_gives_what_is_stored_passes(store):
    found = certify(store, "words", ["torch", "openvino"], 200)
    assert (found.passed, found.sample, found.changed) == (True, ITEMS, 0)
    for one in found.engines:
        assert one.items == ITEMS and one.least > 0.999999 and one.kept == 1 and one.passed


def test_a_turned_engine_fails_with_its_cosine_and_the_command_ends_with_3(folder, store, run, monkeypatch):
    monkeypatch.setattr(Engines, "turn", 0.1)
    words = ("encoders", "certify", "words", "--store", folder / "store")
    code, out, err = run(*words, "--json")
    found = json.loads(out)
    torch_, other = found["engines"]
    assert code == 3 and "must not be written by every engine" in err and "openvino: " in err
    assert torch_["passed"] and not other["passed"] and not found["passed"]
    assert other["least"] == pytest.approx(np.cos(0.1), abs=1e-4) == other["mean"]
    assert other["kept"] == 1, "all are turned alike"
    code, out, _ = run(*words)
    assert code == 3 and "kept@10" in out and "FAILED" in out and "0.995004" in out
    code, out, _ = run(*words, "--engines", "torch")
    assert code == 0 and "passed" in out and "the bar is 0.999" in out


def test_a_turn_above_the_bar_passes(store, monkeypatch):
    monkeypatch.setattr(Engines, "turn", 0.03)
    assert certify(store, "words", ["openvino"], 200).passed


def test_the_sample_is_the_same_every_time_and_no_larger_than_asked(store):
    first, second = (certify(store, "words", ["torch"], 11) for _ in range(2))
    assert first == second and first.sample == 11


def test_a_feature_of_a_feature_is_certified_by_what_that_one_holds(store):
    found = certify(store, "of_told", ["torch"], 200)
    assert found.passed and found.sample == ITEMS


def test_an_engine_that_fails_for_items_or_gives_nan_may_not_write(store):
    torch_, other = certify(store, "fails", ["torch", "openvino"], 200).engines
    assert torch_.passed
    assert not other.passed and 0 < other.items < ITEMS and other.least > 0.999
    assert other.problem == f"{ITEMS - other.items:,} items: NaN or infinity"


def test_an_engine_that_cannot_compute_the_feature_says_why(store, monkeypatch):
    monkeypatch.setattr(Engines, "has_other", False)
    (one,) = certify(store, "words", ["openvino"], 200).engines
    assert (one.runtime, one.least) == (None, None)
    assert one.problem == "it cannot compute this feature: words runs in torch: it cannot be converted"


def test_pictures_are_decoded_again_and_openvino_gives_the_stored_vectors(store):
    found = certify(store, "dino", ["torch", "openvino"], 12)
    assert found.passed and [one.runtime.split()[0] for one in found.engines] == ["torch", "openvino"]
    assert all(one.least > 0.99999 and one.items == 12 for one in found.engines)


def test_items_whose_content_is_another_now_are_left_out(store, folder):
    cover = folder / "media" / "covers" / "item-004.png"
    kept = cover.read_bytes()
    try:
        worlds.write_cover(folder / "media", "item-004", worlds.synthetic.held_out(ITEMS + 1)[-1])
        found = certify(store, "dino", ["torch"], 200)
    finally:
        cover.write_bytes(kept)
    assert (found.passed, found.sample, found.changed) == (True, ITEMS - 1, 1)


@pytest.mark.parametrize(
    ("feature", "engine", "message"),
    [
        ("told", "torch", "certificates are of vectors"),
        ("words", "vllm", "no engine 'vllm'"),
        ("words", "http://here:8000/v1", "which a server is not asked for in its place"),
        ("words", "http://me:word@here:8000/v1", "may hold no name, password or query"),
        ("words", "cuda", "torch finds no GPU"),
    ],
)
def test_what_cannot_be_certified_is_refused_with_what_to_do(store, feature, engine, message):
    with pytest.raises(UsageError, match=message) as refused:
        certify(store, feature, [engine], 200)
    assert refused.value.hint


def test_neighbours_that_stay_are_counted_as_by_brute_force():
    rng = np.random.default_rng(0)
    vectors: Any = rng.normal(size=(40, 5))
    others = vectors + rng.normal(scale=0.4, size=vectors.shape)
    kept = []
    for one in range(40):
        near = [
            sorted(
                (n for n in range(40) if n != one),
                key=lambda n, all=all_: -(all[n] @ all[one]) / np.linalg.norm(all[n]),
            )[:10]
            for all_ in (vectors, others)
        ]
        kept.append(len({*near[0]} & {*near[1]}) / 10)
    assert neighbours_kept(vectors, others) == pytest.approx(np.mean(kept))
    assert 0.3 < np.mean(kept) < 1 == neighbours_kept(vectors, 3 * vectors)
