"""Texts that an export composes of features and fields."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.echo import column, make_input

from mmfeat.export import Request, Shaping, export, verify
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import FeatureSet

IDS = ["a", "b", "c"]
ITEMS = pa.table(
    {
        "item_id": IDS,
        "title": ["Kettle", "Mug", None],
        "brand": ["Acme", None, "Acme"],
        "tags": [["red", "small"], None, ["blue"]],
        "price": [12.0, 9.5, None],
    }
)


def data(format="parquet"):
    captions = replace(column(IDS, "caption", "text"), values=["a kettle", None, "a bowl"])
    captions = replace(captions, mask=np.array([True, False, True]))
    return replace(make_input(format, IDS), features=FeatureSet(IDS, {"caption": captions}), items=ITEMS)


def composed(tmp_path, template, **settings):
    shaping = Shaping(text={"summary": template})
    out = tmp_path / "out"
    export(data(), Request("parquet", out, features=["summary"], shaping=shaping, **settings))
    assert verify(out).ok
    table = pq.read_table(out / "features.parquet").to_pydict()
    return dict(zip(table["item_id"], table["summary"], strict=True))


@pytest.mark.parametrize(
    ("template", "texts"),
    [
        ("{title}: {caption?}", ["Kettle: a kettle", "Mug: ", None]),
        ("{brand?} {caption?}", ["Acme a kettle", None, "Acme a bowl"]),
        ("{title} {price?} {tags?:({ / })}", ["Kettle 12 (red / small)", "Mug 9.5 ", None]),
        ("mmm4rec-text", None),
    ],
)
def test_an_item_has_the_text_of_what_it_has(tmp_path, template, texts):
    if texts is None:
        with pytest.raises(UsageError, match="names 'description', which is neither"):
            composed(tmp_path, template)
        return
    assert list(composed(tmp_path, template, missing="mask").values()) == texts


def test_a_role_of_texts_takes_it_and_the_manifest_says_how_it_was_made(tmp_path):
    shaping = Shaping(text={"summary": "{title?Untitled}. {caption?}"})
    request = Request(
        "a-llmrec", tmp_path / "toys", features={"description": "summary"}, shaping=shaping, missing="mask"
    )
    export(data("a-llmrec"), request)
    with (tmp_path / "toys" / "toys_text_name_dict.json.gz").open("rb") as file:
        assert "Kettle. a kettle" in pickle.load(file)["description"].values()
    manifest = json.loads((tmp_path / "toys" / "manifest.json").read_text())
    assert (
        manifest["features"]["description"]["spec"]["composed"]["template"] == "{title?Untitled}. {caption?}"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ({"summary": "no name"}, "'summary' cannot be composed"),
        ({"summary": "{titel}"}, "names 'titel'"),
        ({"caption": "{title}"}, "is a feature 'caption' already"),
        ({"Summary": "{title}"}, "cannot be called 'Summary'"),
        ({"other": "{title}", "summary": "{title}"}, "--text is about 'other', which is not exported"),
    ],
)
def test_a_text_that_cannot_be_made_is_refused(tmp_path, text, says):
    chosen = [name for name in text if name != "other"]
    with pytest.raises(UsageError, match=says):
        export(data(), Request("parquet", tmp_path / "out", features=chosen, shaping=Shaping(text=text)))
