"""A string where a list of names is meant: Python would read it as its letters, and items ``4`` and ``4`` are
no answer to ``44``. The public API is walked, so that no function of it is left out."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from helpers.storing import make_rows, text_spec, vector_spec

import mmfeat
import mmfeat.client
import mmfeat.export
from mmfeat import api
from mmfeat.export import select
from mmfeat.pipelines.lifecycle import Lifecycle
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.errors import ConfigError, UsageError
from mmfeat.schemas.featureset import FeatureSet
from mmfeat.serve.settings import Settings
from mmfeat.store import Store

_LISTS = re.compile(r"\b(Sequence|Iterable|Collection|list|set|tuple)\[str\b|\bChosen\b")
_PUBLIC = (mmfeat, api, mmfeat.client, mmfeat.export, select, Lifecycle, Store, Settings)
# What mmfeat makes itself.
_ANSWERS = {"FeatureColumn", "FeatureSet", "ExportInput", "ExportReport", "Problem", "VerifyReport"}
# Of the store beneath the API, which names one version by an object.
_INNER = {
    "Store.full_rows(ids)",
    "Store.ledger_batches(columns)",
    "Store.search(exclude)",
    "Store.search(among)",
}

# A string there is one feature.
_ONE_OR_SEVERAL = {"quantize(feature)"}

#: By function and parameter: the call with a string, of two letters that are ids of items.
CALLS: dict[str, Any] = {
    "FeatureStore.lookup(ids)": lambda s: s.lookup("44"),
    "FeatureStore.lookup(features)": lambda s: s.lookup(["44"], "clip_image"),
    "FeatureStore.fields(ids)": lambda s: s.fields("44"),
    "FeatureStore.pictures(ids)": lambda s: s.pictures("clip_image", "44"),
    "FeatureStore.fields(names)": lambda s: s.fields(["44"], "title"),
    "FeatureStore.evaluate(features)": lambda s: s.evaluate("clip_image"),
    "FeatureStore.accept_losses(lists)": lambda s: s.accept_losses("_files"),
    "FeatureStore.forget(ids)": lambda s: s.forget("44", "a test"),
    "Store.lookup(ids)": lambda s: s._store.lookup("44"),
    "Store.lookup(features)": lambda s: s._store.lookup(features="clip_image"),
    "Lifecycle.promote(versions)": lambda s: s.lifecycle.promote(s.spec("caption").version),
    "Lifecycle.rollback(features)": lambda s: s.lifecycle.rollback("caption"),
    "Client.lookup(ids)": lambda s: mmfeat.client.Client("http://127.0.0.1:1").lookup("44"),
    "Client.lookup(features)": lambda s: mmfeat.client.Client("http://127.0.0.1:1").lookup(["44"], "caption"),
    "Client.fields(ids)": lambda s: mmfeat.client.Client("http://127.0.0.1:1").fields("44"),
    "Client.fields(names)": lambda s: mmfeat.client.Client("http://127.0.0.1:1").fields(["44"], "title"),
    "run(refit)": lambda s: mmfeat.run(job(s), refit="codes"),
    "select_features(names)": lambda s: api.select_features({}, "caption"),
    "Request(features)": lambda s: s.export("parquet", "out", features="caption"),
    "Request(items)": lambda s: s.export("parquet", "out", items="44"),
    "Request(fields)": lambda s: s.export("parquet", "out", fields="title"),
    "Shaping(join)": lambda s: mmfeat.export.Shaping(join={"both": "clip_image"}),
    "Shaping(quantize)": lambda s: mmfeat.export.Shaping(quantize="clip_image"),
    "take(ids)": lambda s: select.take(s.lookup(["4"]), "44"),
    "join(names)": lambda s: select.join(s.lookup(["4"]), "clip_image", "both"),
    "FeatureConfig(inputs)": lambda s: mmfeat.make_job(
        "sample", features={"caption": {"inputs": "title", "captioner": "openai"}}
    ),
    "Settings(keys)": lambda s: Settings(keys="a-secret"),
}


@pytest.fixture
def opened(tmp_path) -> mmfeat.FeatureStore:
    """Items 4 and 44 with a vector and a caption each."""
    store = Store.open(str(tmp_path / "features"), create=True)
    items = [{"item_id": i, "title": f"title {i}"} for i in ("4", "44")]
    with store.lease("test"):
        store.put_catalog(pa.Table.from_pylist(items, schema=CATALOG_SCHEMA), {"name": "test"})
        for spec, values in ((vector_spec(), np.eye(2, 4)), (text_spec(), ["a cup", "a kettle"])):
            store.commit(store.add_version(spec), make_rows(spec, ["4", "44"], list(values)), replace=False)
    return mmfeat.open(store.uri)


def job(opened: mmfeat.FeatureStore) -> mmfeat.JobConfig:
    return mmfeat.make_job("sample", store=opened.uri, preset="small")


def walked() -> Iterator[str]:
    """``NAME(PARAMETER)`` of every parameter of the public API that is a list of strings."""
    for place in _PUBLIC:
        for function in _functions(place):
            for name, parameter in inspect.signature(function).parameters.items():
                if _LISTS.search(str(parameter.annotation)):
                    yield f"{function.__qualname__}({name})"


def _functions(place: ModuleType | type) -> Iterator[Any]:
    if isinstance(place, type):
        yield place
        yield from (f for n, f in vars(place).items() if n[0] != "_" and isinstance(f, FunctionType))
        return
    own = [name for name, found in vars(place).items() if getattr(found, "__module__", "") == place.__name__]
    for name in getattr(place, "__all__", own):
        found = getattr(place, name)
        if isinstance(found, type) and name[0] != "_" and name not in _ANSWERS:
            yield from _functions(found)
        elif isinstance(found, FunctionType) and name[0] != "_":
            yield found


def test_every_list_of_names_of_the_public_api_is_tried():
    assert set(walked()) - _INNER - _ONE_OR_SEVERAL - set(CALLS) == set()
    assert len(CALLS) > 15


@pytest.mark.parametrize("call", CALLS)
def test_a_string_where_a_list_is_meant_is_refused_everywhere(opened, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = opened.ids
    with pytest.raises(UsageError, match=r"where a list|items cannot be|inputs|of keys is meant") as refused:
        CALLS[call](opened)
    assert "a-secret" not in str(refused.value)
    assert opened.ids == before and not (tmp_path / "out").exists()


def test_the_error_shows_the_list_to_write(opened):
    with pytest.raises(UsageError, match="'44' is one item id, where a list of them is meant") as refused:
        opened.lookup("44")
    assert refused.value.hint == "Write ['44']."


@pytest.mark.parametrize(
    "given",
    [
        ["44", "4"], ("44", "4"), iter(["44", "4"]), np.array(["44", "4"]), np.array(["44", "4"], object),
        pa.array(["44", "4"]), pa.chunked_array([["44"], ["4"]]), pa.array(["44", "4"], pa.large_string()),
    ],
)  # fmt: skip
def test_any_list_of_strings_is_taken(opened, given):
    found = opened.lookup(given, features=iter(["caption"]))
    assert found.ids == ["44", "4"] and found["caption"].texts == ["a kettle", "a cup"]
    assert isinstance(found, FeatureSet)


@pytest.mark.parametrize(
    "given", [4, 4.0, [4], [None], [b"4"], {"44": 2}, {"44": "4"}, pa.array([4]), pa.array(["4", None])]
)
def test_what_is_no_list_of_strings_is_refused(opened, given):
    with pytest.raises(UsageError):
        opened.lookup(given)


@pytest.mark.parametrize(
    "wrong",
    [
        {"features": "title_text"},
        {"features": ["title_text"]},
        {"features": {"title_text": "sentence_transformers"}},
        {"features": {"title_text": ["source"]}},
        {"dataset_options": "title"},
        {"dataset_options": ["ab"]},
        {"dataset_columns": "photos"},
        {"dataset_columns": ["ab"]},
        {"run": "limit"},
        {"resources": ["ab"]},
    ],
)
def test_a_job_whose_tables_are_no_tables_is_refused(wrong, tmp_path):
    with pytest.raises(ConfigError):
        mmfeat.extract("sample", store=str(tmp_path / "store"), **wrong)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("wrong", [{"join": "both"}, {"cut": "clip_image"}, {"project": ["clip_image"]}])
def test_a_shaping_whose_mappings_are_none_is_refused(wrong):
    with pytest.raises(UsageError, match="is a mapping"):
        mmfeat.export.Shaping(**wrong)
