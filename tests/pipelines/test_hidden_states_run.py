"""A whole run of a feature with several vectors per item, and what can be done with it afterwards."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import synthetic, worlds

import mmfeat
from mmfeat import cli
from mmfeat.extract.modalities.decoders.image import render_image
from mmfeat.extract.registry import load_method
from mmfeat.pipelines.quantize import quantize
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset.arrow import from_arrow, to_arrow
from mmfeat.schemas.media import MediaLimits

IDS = ["item-002", "broken", "item-000", "item-001"]
FEATURES = {
    "states": {**worlds.DINO, "hidden_states": True, "store_dtype": "float16"},
    "title_states": {
        "source": "title",
        "encoder": "sentence_transformers",
        "model": "all-MiniLM-L6-v2",
        "weights": "package",
        "hidden_states": True,
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three covers, one of them there twice, one that is no picture, and a title each; extracted."""
    folder = tmp_path_factory.mktemp("states")
    worlds.cover_folder(folder / "media", synthetic.held_out(3))
    covers = folder / "media" / "covers"
    (covers / "same.png").write_bytes((covers / "item-001.png").read_bytes())
    (covers / "broken.png").write_bytes(b"not a picture")
    titles = [f"{path.stem},The title of {path.stem}\n" for path in sorted(covers.iterdir())]
    (folder / "media" / "titles.csv").write_text("".join(titles))
    mmfeat.extract(**worlds.job(folder / "media", folder / "store", FEATURES, run={"max_failed": 1.0}))
    return folder


@pytest.fixture
def store(folder) -> mmfeat.FeatureStore:
    return mmfeat.open(folder / "store")


def test_what_is_looked_up_is_what_the_encoder_gives(store, folder):
    column = store.lookup(IDS, ["states"])["states"]
    assert (column.matrix.shape, column.matrix.dtype) == ((4, 5, 96), np.float16)
    assert column.mask.tolist() == [True, False, True, True]
    assert column.status.tolist() == ["ok", "failed", "ok", "ok"]
    assert np.isnan(column.matrix[1]).all()
    model = load_method(column.spec)
    for row, item_id in ((0, IDS[0]), (2, IDS[2]), (3, IDS[3])):
        data = (folder / "media" / "covers" / f"{item_id}.png").read_bytes()
        frames = render_image(data, [column.spec.pixels.view], MediaLimits())[0]
        np.testing.assert_allclose(
            column.matrix[row], model.encode_images(frames.pixels)[0], rtol=1e-3, atol=1e-3
        )


def test_equal_pictures_have_equal_vectors(store):
    column = store.lookup(["item-001", "same"], ["states"])["states"]
    np.testing.assert_array_equal(column.matrix[0], column.matrix[1])


def test_several_vectors_survive_a_trip_through_arrow(store):
    found = store.lookup(IDS, ["states"])
    again = from_arrow(to_arrow(found))["states"]
    np.testing.assert_array_equal(again.matrix, found["states"].matrix)
    assert again.spec == found["states"].spec


def test_several_vectors_are_neither_searched_nor_quantized(store, folder):
    with pytest.raises(UsageError, match="holds several vectors per item"):
        store.search("states", item="item-000")
    with pytest.raises(UsageError, match="holds several vectors per item"):
        store.search("states", vector=np.ones(480))
    with pytest.raises(UsageError, match="is of kind 'vectors'"):
        quantize(str(folder / "store"), "states")


def test_people_see_how_many_vectors_of_which_length(folder, monkeypatch, capsys):
    def output(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["mmfeat", *words, "--store", str(folder / "store")])
        with pytest.raises(SystemExit):
            cli.main()
        return capsys.readouterr().out

    assert " 5x96 " in (status := output("status"))
    assert " 7x384 " in status
    assert "5x96 float16" in output("lookup", "item-000", "--feature", "states")
    feature = json.loads(output("status", "--json"))["features"][0]
    assert (feature["kind"], feature["vectors"], feature["dims"]) == ("vectors", 5, 96)
    found = json.loads(output("lookup", "item-000", "--feature", "states", "--json"))
    assert np.shape(found["features"]["states"]["values"]) == (1, 5, 96)


def test_iisan_gets_the_states_of_both_encoders_of_every_item(store, tmp_path):
    store.export("iisan", tmp_path / "out", missing="drop")
    kept = ["item-000", "item-001", "item-002", "same"]
    found = store.lookup(kept, ["states", "title_states"])
    for prefix, name, shape in (("vit", "states", (5, 96)), ("bert", "title_states", (7, 384))):
        files = sorted((tmp_path / "out" / f"{prefix}_outputs").iterdir())
        assert [file.name for file in files] == [f"{prefix}_{item_id}.pt" for item_id in kept]
        for file, row in zip(files, found[name].matrix, strict=True):
            tensor = torch.load(file, weights_only=True)
            assert (tensor.dtype, tuple(tensor.shape)) == (torch.float32, shape)
            np.testing.assert_array_equal(tensor.numpy(), row.astype(np.float32))
