"""Texts composed of several that an item has: what they say, what they cost when something changes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.changing import run, write_table
from helpers.digests import DIMS
from hypothesis import given
from hypothesis import strategies as st

import mmfeat
from mmfeat.extract.registry import resolve_all
from mmfeat.schemas.composed import RECIPES, composed_text
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec
from mmfeat.schemas.templates import fill, listed, names_of, without

ITEMS: dict[str, dict[str, Any]] = {
    "a": {"title": "Kettle", "brand": "Acme", "tags": ["red", "small"], "description": "a kettle"},
    "b": {"title": "Mug", "tags": ["blue"], "description": "a mug"},
    "c": {"brand": "Acme", "description": "a bowl"},
}
COLUMNS = {"columns": {"brand": "text", "tags": "text"}}
MINILM = {"encoder": "sentence_transformers", "model": "all-MiniLM-L6-v2", "weights": "package"}
TEXT = {"text": "Title: {title}; Brand: {brand?}; {tags?:Tags: { / }}", "encoder": "digest"}


def resolved(**tables: dict[str, Any]) -> list[FeatureSpec]:
    return resolve_all({name: FeatureConfig(**table) for name, table in tables.items()})


def extract(folder: Path, items: dict[str, dict[str, Any]], **features: dict[str, Any]) -> Any:
    table = write_table(folder / "items.jsonl", items)
    return run(folder / "store", table, dataset=COLUMNS, features=features)


def values(folder: Path, name: str) -> dict[str, np.ndarray | None]:
    column = mmfeat.open(folder / "store").lookup(features=[name])
    found = column[name]
    return {i: v if there else None for i, v, there in zip(column.ids, found.values, found.mask, strict=True)}


def digest(text: str) -> list[int]:
    return list(hashlib.sha256(text.encode()).digest()[:DIMS])


# What a text says -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "values", "text"),
    [
        ("{a}, {b?}.", {"a": "x", "b": None}, "x, ."),
        ("{a}{b?: by {}}", {"a": "x", "b": "y"}, "x by y"),
        ("{a}{b?: by {}}", {"a": "x", "b": None}, "x"),
        ("{a?none}", {"a": ""}, "none"),
        ("{a}", {"a": listed(["x", "y"])}, "x, y"),
        ("{a:<{ | }>}", {"a": listed(["x", "y"])}, "<x | y>"),
        ("{a!r} {b!r} {c!r} {d?nan!r}", {"a": "12", "b": "9.99", "c": listed(["x"]), "d": None},
         "12.0 9.99 ['x'] nan"),
        ("{a!r}", {"a": "no number"}, "no number"),
        ("{a} {a!r}", {"a": "no\x1flist"}, "no\x1flist no\x1flist"),
        ("{{a}} {a:{{{}}}}", {"a": "x"}, "{a} {x}"),
    ],
)  # fmt: skip
def test_a_template_says_what_its_notation_promises(template, values, text):
    assert fill(template, values) == text


@pytest.mark.parametrize("template", ["{a:>9}", "{a!s}", "{a:{}{}}", "{a:{x!r}}", "{a} {a?}", "{a", "a}"])
def test_a_template_that_cannot_be_read_is_refused(template):
    with pytest.raises(ValueError):
        names_of(template)


@pytest.mark.parametrize("names", [{"a"}, {"b"}, {"a", "c"}, {"b", "d"}])
def test_a_template_without_a_name_says_what_it_says_of_an_item_without_it(names):
    template = "{{x}} {a?none}; {b?: by {}}{c?:<{ | }>} {d?nan!r}"
    values = {"a": "x", "b": "y", "c": listed(["1", "2"]), "d": "12"}
    left = {name: value for name, value in values.items() if name not in names}
    assert fill(without(template, names), left) == fill(template, {**dict.fromkeys(values), **left})
    assert without(template, {"other"}) == template


@given(st.lists(st.text(min_size=1).filter(lambda text: "\x1f" not in text), min_size=1))
def test_the_values_of_a_list_are_those_that_were_given(texts):
    assert fill("{a}", {"a": listed(texts)}) == ", ".join(texts)
    assert fill("{a!r}", {"a": listed(texts)}) == repr(texts)


# Made by the lines of the projects' own code that RECIPES names, run on these three items.
_TOOL = {
    "title": "Ghost Tool 3/32",
    "brand": "Ghost",
    "price": "9.99",
    "description": "A punch.\nMade of steel.",
    "categories": listed(["Sports & Outdoors", "Hunting", "Tools"]),
    "tag": "Tools",
}
_LIGHT = {
    "title": "5 LED Light",
    "price": "12",
    "description": "Bright.",
    "categories": listed(["Sports & Outdoors", "Cycling"]),
}
_BAND = {"title": "Band", "brand": "Black Mountain", "categories": listed(["Sports"]), "tag": "Sports"}
_UPSTREAM = {
    "mmrec-text": [
        "Ghost Tool 3/32 Ghost Sports & Outdoors Hunting Tools A punch. Made of steel.",
        "5 LED Light   Sports & Outdoors Cycling Bright.",
        "Band Black Mountain Sports  ",
    ],
    "mmm4rec-text": [
        "Title: Ghost Tool 3/32 ; Brand: Ghost ; Description: A punch.\nMade of steel. ; ",
        "Title: 5 LED Light ; Description: Bright. ; ",
        "Title: Band ; Brand: Black Mountain ; ",
    ],
    "fmrlrec-text": [
        "Title: Ghost Tool 3/32\nPrice: 9.99\nBrand: Ghost\nCategories: Sports & Outdoors, Hunting, Tools",
        "Title: 5 LED Light\nPrice: 12.0\nCategories: Sports & Outdoors, Cycling",
        "Title: Band\nBrand: Black Mountain\nCategories: Sports",
    ],
    "rqvae-recommender-text": [
        "Title: Ghost Tool 3/32; Brand: Ghost; Categories: ['Sports & Outdoors', 'Hunting', 'Tools']; "
        "Price: 9.99; ",
        "Title: 5 LED Light; Brand: Unknown; Categories: ['Sports & Outdoors', 'Cycling']; Price: 12.0; ",
        "Title: Band; Brand: Black Mountain; Categories: ['Sports']; Price: nan; ",
    ],
    "hllm-text": [
        "Compress the following sentence into embedding: title: Ghost Tool 3/32tag: Tools"
        "description: A punch.\nMade of steel.",
        "Compress the following sentence into embedding: title: 5 LED Lightdescription: Bright.",
        "Compress the following sentence into embedding: title: Bandtag: Sports",
    ],
    "molar-text": [
        "Compress the following sentence and picture into embedding: \ntitle: Ghost Tool 3/32\ntag: Tools"
        "\ndescription: A punch.\nMade of steel.",
        "Compress the following sentence and picture into embedding: \ntitle: 5 LED Light"
        "\ndescription: Bright.",
        "Compress the following sentence and picture into embedding: \ntitle: Band\ntag: Sports",
    ],
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_makes_the_strings_that_the_projects_own_lines_make(recipe):
    composed = composed_text(recipe)
    made = [composed.filled([item.get(name) for name in composed.names]) for item in (_TOOL, _LIGHT, _BAND)]
    assert made == _UPSTREAM[recipe]


# What a feature of one is ---------------------------------------------------------------------------------


def test_the_names_in_braces_are_the_inputs_and_the_wording_is_part_of_the_fingerprint():
    table = MINILM
    (spec,) = resolved(a={"text": "{title}: {description?}", **table})
    assert [(one.source, one.optional, one.named) for one in spec.inputs] == [
        ("title", False, True), ("description", True, True)
    ]  # fmt: skip
    assert (spec.source, spec.modalities) == ("title + description", ("text",))
    others = ("{description?}: {title}", "{title}; {description?}", "{title}: {description?none}", "{title}")
    fingerprints = {s.fingerprint for text in others for s in resolved(a={"text": text, **table})}
    assert len(fingerprints | {spec.fingerprint}) == 5
    copy = FeatureSpec.model_validate_json(spec.model_dump_json())
    assert copy == spec and copy.fingerprint == spec.fingerprint
    (plain,) = resolved(a={"source": "title", **table})
    assert plain.composed is None and "composed" not in plain.identity()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"text": "no name"}, "names nothing in braces.*mmrec-text"),
        ({"text": "{title:>9}"}, "takes no format"),
        ({"text": "{cover}"}, "text names {cover}, which is a picture"),
        ({"text": "{titel}"}, "reads 'titel', which is neither a column nor a feature"),
        ({"text": "{title}", "source": "title"}, 'give one of source = "x"'),
        ({"text": 3}, "text is a text"),
    ],
)
def test_a_text_that_cannot_be_composed_is_refused_with_the_reason(table, says):
    with pytest.raises((ConfigError, ValueError), match=says):
        resolved(a={**table, **MINILM})


def test_a_method_that_reads_no_text_refuses_it():
    with pytest.raises(ConfigError, match="cannot read 'text', which is text"):
        resolved(a={"text": "{title}", "encoder": "timm", "model": "resnet18"})


# Runs -----------------------------------------------------------------------------------------------------


def test_each_item_gets_the_vector_of_its_own_text(tmp_path):
    extract(tmp_path, ITEMS, whole=TEXT, tagged={"source": "tags", "encoder": "digest"})
    found = values(tmp_path, "whole")
    assert list(found["a"]) == digest("Title: Kettle; Brand: Acme; Tags: red / small")
    assert list(found["b"]) == digest("Title: Mug; Brand: ; Tags: blue")
    # Without a title there is no such text: it has no question mark.
    assert found["c"] is None
    assert list(values(tmp_path, "tagged")["a"]) == digest("red, small")


def test_a_changed_brand_recomputes_that_items_texts_and_nothing_else(tmp_path):
    features = {"whole": TEXT, "titled": {"source": "title", "encoder": "digest"}}
    extract(tmp_path, ITEMS, **features)
    assert extract(tmp_path, ITEMS, **features).computed == 0
    changed = {**ITEMS, "a": {**ITEMS["a"], "brand": "Zenith"}}
    report = extract(tmp_path, changed, **features)
    assert report.computed == 1
    assert list(values(tmp_path, "whole")["a"]) == digest("Title: Kettle; Brand: Zenith; Tags: red / small")


def test_a_number_stands_in_a_text_as_people_write_it(tmp_path):
    priced = {"a": {"title": "Kettle", "price": 12.0}, "b": {"title": "Mug", "price": 9.5}}
    priced["c"] = {"title": "Bowl"}
    table = write_table(tmp_path / "items.jsonl", priced)
    features = {"whole": {"text": "{title}: {price?no price}", "encoder": "digest"},
                "python": {"text": "{title}: {price!r}", "encoder": "digest"}}  # fmt: skip
    run(tmp_path / "store", table, dataset={"columns": {"price": "number"}}, features=features)
    whole, python = values(tmp_path, "whole"), values(tmp_path, "python")
    assert [list(v) for v in whole.values()] == [*map(digest, ("Kettle: 12", "Mug: 9.5", "Bowl: no price"))]
    assert (list(python["a"]), python["c"]) == (digest("Kettle: 12.0"), None)


def test_equal_texts_of_equal_parts_are_computed_once(tmp_path):
    twins = {**ITEMS, "d": ITEMS["a"]}
    assert extract(tmp_path, twins, whole=TEXT).computed == 2
    found = values(tmp_path, "whole")
    assert list(found["d"]) == list(found["a"])


def test_an_item_that_has_one_of_the_optional_texts_has_the_feature(tmp_path):
    table = {"text": "{title? } {brand? }", "encoder": "digest"}
    extract(tmp_path, {**ITEMS, "d": {"description": "a thing"}}, any=table)
    found = values(tmp_path, "any")
    assert list(found["c"]) == digest("  Acme")
    assert found["d"] is None
    assert extract(tmp_path, {**ITEMS, "d": {"description": "a thing"}}, any=table).computed == 0


def test_what_a_model_says_can_be_part_of_it(tmp_path):
    features = {
        "caption": {"source": "description", "captioner": "digest"},
        "whole": {"text": "{title}: {caption?}", "encoder": "digest"},
    }
    broken = {**ITEMS, "b": {**ITEMS["b"], "description": "broken"}}
    extract(tmp_path, broken, **features)
    captions = mmfeat.open(tmp_path / "store").lookup(features=["caption"])["caption"].texts
    found = values(tmp_path, "whole")
    assert list(found["a"]) == digest(f"Kettle: {captions[0]}")
    # The caption failed, and the text may lack it.
    assert list(found["b"]) == digest("Mug: ")
    assert extract(tmp_path, broken, **features).computed == 0
    mended = extract(tmp_path, ITEMS, **features)
    assert [f.ok for f in mended.features] == [1, 1]
    assert list(values(tmp_path, "whole")["b"]) != list(found["b"])


def test_all_that_is_optional_may_be_what_a_model_says(tmp_path):
    features = {
        "caption": {"source": "description", "captioner": "digest"},
        "whole": {"text": "{brand?} {caption?}", "encoder": "digest"},
    }
    items = {**ITEMS, "d": {"title": "Bare"}, "e": {"title": "Branded", "brand": "Acme"}}
    extract(tmp_path, items, **features)
    found = values(tmp_path, "whole")
    assert found["d"] is None and list(found["e"]) == digest("Acme ")
    assert extract(tmp_path, items, **features).computed == 0


def test_a_search_text_is_taken_as_it_is(tmp_path):
    table = write_table(tmp_path / "items.jsonl", {"a": {"title": "red cup"}, "b": {"title": "car"}})
    run(tmp_path / "store", table, features={"whole": {"text": "Title: {title}", **MINILM}})
    opened = mmfeat.open(tmp_path / "store")
    assert [hit.item_id for hit in opened.search("whole", text="a vehicle", k=1)] == ["b"]


def test_the_record_of_a_run_says_how_the_text_is_made(tmp_path):
    extract(tmp_path, ITEMS, whole=TEXT)
    assert mmfeat.open(tmp_path / "store").spec("whole").composed.template == TEXT["text"]


def test_a_column_that_nobody_asked_for_gives_its_name_up_to_a_feature(tmp_path):
    table = write_table(tmp_path / "items.jsonl", ITEMS)
    features = {"brand": {"source": "title", "encoder": "digest"}}
    run(tmp_path / "store", table, dataset={"options": {"fields": "all"}}, features=features)
    assert list(values(tmp_path, "brand")["a"]) == digest("Kettle")
    with pytest.raises(ConfigError, match="'brand' has the name of a column"):
        run(tmp_path / "other", table, dataset=COLUMNS, features=features)
