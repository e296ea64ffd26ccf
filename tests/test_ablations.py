"""``ablate = true``: a joint feature beside the features of each modality alone, in one pass."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import synthetic, worlds
from helpers.plugins import on_path, write_plugin

import mmfeat
from mmfeat.extract.registry import resolve_all, shared_models
from mmfeat.pipelines.execution import stages
from mmfeat.pipelines.execution.resources import lay_out
from mmfeat.schemas.catalog import Column
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.job import Resources
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec

N_ITEMS = 5
COLUMNS = {
    one.name: one
    for one in (
        Column("title", "text"),
        Column("about", "text"),
        Column("cover", "image"),
        Column("photos", "image"),
    )
}
ITEM = {"inputs": ["title", "about?", "cover"], "encoder": "joint"}
PLUGIN = """
from joint_item import JointItem
from mmfeat.schemas.errors import ConfigError

LOADED = []


class Joint(JointItem):
    def __init__(self, spec, place):
        LOADED.append(spec.name)
        super().__init__(spec, place)


class NeedsPictures(JointItem):
    @classmethod
    def ablated(cls, spec, inputs):
        if all(one.modality != "image" for one in inputs):
            raise ConfigError(f"feature {spec.name!r}: the model takes no text without a picture")
        return super().ablated(spec, inputs)
"""


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory) -> Iterator[None]:
    points = {"joint": "ablated_plugin:Joint", "needs_pictures": "ablated_plugin:NeedsPictures"}
    folder = write_plugin(tmp_path_factory.mktemp("plugin"), {"mmfeat.encoders": points})
    shutil.copy(Path(__file__).parent / "walks" / "plugins" / "joint_item.py", folder)
    (folder / "ablated_plugin.py").write_text(PLUGIN)
    with on_path(folder):
        yield


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("media")
    worlds.cover_folder(root, synthetic.held_out(N_ITEMS), [f"{n}" for n in range(N_ITEMS)])
    # The last item has no title.
    rows = [
        {
            "item_id": f"{n}",
            "title": None if n == N_ITEMS - 1 else f"red kettle {n}",
            "cover": f"covers/{n}.png",
        }
        for n in range(N_ITEMS)
    ]
    (root / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def extract(media: Path, store: Path, features: dict[str, Any]) -> mmfeat.FeatureStore:
    job = worlds.job(media / "items.jsonl", store, features)
    mmfeat.extract(**{**job, "dataset": "table"})
    return mmfeat.open(store)


def specs_of(**tables: Any) -> dict[str, FeatureSpec]:
    return {one.name: one for one in resolve_all({n: FeatureConfig(**t) for n, t in tables.items()}, COLUMNS)}


def test_one_decode_and_one_loaded_model_give_the_joint_vector_and_each_modality_alone(
    media, tmp_path, monkeypatch
):
    import ablated_plugin

    decoded: Counter[str] = Counter()
    plain = stages.decode_fenced_all

    def counting(requests, limits):
        decoded.update(Path(one.location).name for one in requests if one.wanted)
        return plain(requests, limits)

    monkeypatch.setattr(stages, "decode_fenced_all", counting)
    ablated_plugin.LOADED.clear()
    joint = {"inputs": ["title", "cover"], "encoder": "joint"}
    store = extract(media, tmp_path / "store", {"item": {**joint, "ablate": True}})
    assert ablated_plugin.LOADED == ["item"]
    assert decoded == {f"{n}.png": 1 for n in range(N_ITEMS)}

    found = store.lookup(features=["item", "item_text", "item_image"])
    item, text, image = (found[name].values for name in ("item", "item_text", "item_image"))
    both = found["item"].mask
    assert both.tolist() == [True] * (N_ITEMS - 1) + [False]
    # The plug-in's joint vector is colours beside words.
    np.testing.assert_allclose(text[both] + image[both], item[both])
    assert text[both].any(axis=1).all() and not text[both][:, :3].any()
    assert image.any(axis=1).all() and not image[:, 3:].any()


def test_each_is_what_a_feature_of_those_inputs_would_be(media, tmp_path):
    features = {
        "item": {"inputs": ["title", "cover"], "encoder": "joint", "ablate": True},
        "words": {"source": "title", "encoder": "joint"},
        "colours": {"source": "cover", "encoder": "joint"},
    }
    found = extract(media, tmp_path / "store", features).lookup()
    for alone, ablated in (("words", "item_text"), ("colours", "item_image")):
        np.testing.assert_array_equal(found[alone].values, found[ablated].values)
        assert found[alone].spec.fingerprint == found[ablated].spec.fingerprint


def test_an_ablation_says_of_what_it_is_one_and_changes_no_fingerprint(media, tmp_path):
    ablated, plain = specs_of(item={**ITEM, "ablate": True}), specs_of(item=ITEM)["item"]
    assert list(ablated) == ["item", "item_text", "item_image"]
    assert ablated["item"] == plain
    assert "ablates" not in plain.model_dump()
    for name in ("item_text", "item_image"):
        assert ablated[name].ablates == plain.fingerprint
        assert ablated[name].shares_model(plain)
        again = FeatureSpec.model_validate_json(ablated[name].model_dump_json())
        assert again.ablates == plain.fingerprint
    store = extract(
        media, tmp_path / "store", {"item": {**ITEM, "inputs": ["title", "cover"], "ablate": True}}
    )
    assert store.spec("item_image").ablates == store.spec("item").fingerprint


def test_inputs_of_one_modality_stay_together_and_a_lonely_one_is_needed():
    ablated = specs_of(item={**ITEM, "inputs": ["title", "about?", "cover?"], "ablate": True})
    text, image = ablated["item_text"], ablated["item_image"]
    assert [(one.source, one.optional) for one in text.inputs] == [("title", False), ("about", True)]
    assert [(one.source, one.optional) for one in image.inputs] == [("cover", False)]


def test_a_gpu_loads_the_model_of_an_ablation_once():
    specs = list(
        specs_of(item={**ITEM, "ablate": True}, other={"source": "cover", "encoder": "joint"}).values()
    )
    layout = lay_out(
        range(len(specs)), 1000, nodes=[8], gpus=2, wanted=Resources(),
        shared=shared_models(specs, range(len(specs))),
    )  # fmt: skip
    by_name = [{specs[n].name for n in pool.numbers} for pool in layout.pools]
    assert {"item", "item_text", "item_image"} in by_name
    assert {"other"} in by_name


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"item": {"source": "cover", "encoder": "joint"}}, "one input leaves nothing to compare"),
        (
            {"item": {"inputs": ["title", "about"], "encoder": "joint"}},
            "inputs of one modality leaves nothing",
        ),
        ({"item": {**ITEM, "encoder": "needs_pictures"}}, "takes no text without a picture"),
        ({"item": ITEM, "item_text": {"source": "title", "encoder": "joint"}}, "makes a feature 'item_text'"),
        ({"item": {"source": "cover", "captioner": "imagenet_tags"}}, "ablate is for encoders"),
    ],
)
def test_what_cannot_be_ablated_is_said_before_anything_runs(tables, message):
    tables["item"] = {**tables["item"], "ablate": True}
    with pytest.raises(ConfigError, match=message):
        specs_of(**tables)


def test_a_job_file_keeps_the_key_and_a_table_without_it_does_not_have_it():
    assert FeatureConfig(**ITEM, ablate=True).table() == {**ITEM, "ablate": True}
    assert FeatureConfig(**ITEM).table() == ITEM
