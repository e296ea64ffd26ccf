"""Certificates of servers: a model's own vectors behind a real HTTP server, beside those that are stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chat_server
import numpy as np
import pytest
import vector_server
from helpers import worlds

import mmfeat
from mmfeat.extract.base import Placement
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.extract.served import client
from mmfeat.pipelines.certify import certify
from mmfeat.schemas.errors import ServerRefused, UsageError
from mmfeat.schemas.spec import FeatureConfig
from mmfeat.store import Store

MINILM = {
    "source": "title", "encoder": "sentence_transformers", "model": "all-MiniLM-L6-v2", "weights": "package",
    "prefix": "passage: ",
}  # fmt: skip
FAKE = {"source": "title", "encoder": "openai", "model": vector_server.MODEL, "dims": vector_server.DIMS}
TITLES = ["a red kettle", "a blue bag", "two chairs", "a lamp", "the third chair", "a very long green table"]


class ModelBehind(vector_server.VectorServer):
    """``/v1/embeddings`` of all-MiniLM-L6-v2 in this process, or of a worse engine for it."""

    name = MINILM["model"]
    turn = 0.0

    def __init__(self) -> None:
        super().__init__()
        plain = {**MINILM, "prefix": ""}
        (spec,) = resolve_all({"words": FeatureConfig(**plain)})
        self.method = load_method(spec, Placement(threads=1))

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        vectors = self.method.run([(text,) for text in body["input"]])
        turned = vectors + self.turn * np.roll(vectors, 1, axis=1)
        data = [{"index": at, "embedding": one.tolist()} for at, one in enumerate(turned)]
        return {"data": data, "usage": {"prompt_tokens": 1}}


@pytest.fixture(scope="module")
def behind() -> Iterator[ModelBehind]:
    with chat_server.running(ModelBehind) as server:
        yield server


@pytest.fixture(scope="module")
def fake() -> Iterator[vector_server.VectorServer]:
    with chat_server.running(vector_server.VectorServer) as server:
        yield server


@pytest.fixture(scope="module")
def store(tmp_path_factory, fake) -> Store:
    folder: Path = tmp_path_factory.mktemp("served")
    lines = "".join(f"{n},{title}\n" for n, title in enumerate(TITLES))
    (folder / "titles.csv").write_text("item,title\n" + lines)
    clip = {**worlds.CLIP, "source": "title"}
    job = worlds.job(folder, folder / "store", {"words": MINILM, "asked": FAKE, "clip": clip})
    client.client_of.cache_clear()
    mmfeat.extract(**job, server={"base_url": fake.url})
    return Store.open(str(folder / "store"))


def test_a_server_of_the_same_model_passes_and_is_asked_behind_the_same_prefix(store, behind):
    found = certify(store, "words", ["torch", behind.url], 200)
    assert found.passed, found
    _, server = found.engines
    assert (server.engine, server.items, server.runtime) == (behind.url, len(TITLES), None)
    assert server.least > 0.99999
    assert all(text.startswith("passage: ") for text in behind.bodies[-1]["input"])


def test_a_server_that_turns_vectors_fails(store, behind, monkeypatch):
    monkeypatch.setattr(behind, "turn", 0.2)
    found = certify(store, "words", [behind.url], 200)
    assert not found.passed and 0.9 < found.engines[0].least < 0.999


def test_another_server_is_held_against_the_one_that_made_the_version(store, fake):
    assert certify(store, "asked", [fake.url], 200).passed


def test_a_server_that_has_no_such_model_is_told_and_no_item_is(store, fake):
    with pytest.raises(ServerRefused, match="no such model"):
        certify(store, "words", [fake.url], 200)


def test_what_no_server_can_be_asked_for_is_refused(store, fake):
    with pytest.raises(UsageError, match="'open_clip', which a server is not asked for"):
        certify(store, "clip", [fake.url], 200)
    with pytest.raises(UsageError, match="no engine in this process"):
        certify(store, "asked", ["torch"], 200)
