"""Conditions on fields: which items they name, that they only ask, and what is said of what is none."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmfeat.datasets.base import build_items
from mmfeat.feature_store import FeatureStore
from mmfeat.schemas.catalog import Column
from mmfeat.schemas.errors import UnknownItems, UsageError
from mmfeat.store import Store

COLUMNS = [Column("brand", "text"), Column("price", "number"), Column("tags", "text", several=True)]
VALUES = {
    "title": {"a": "Red shoe", "b": "Blue lamp", "c": "'; DROP--"},
    "brand": {"a": "Nike", "b": "O'Neil", "d": "Nike"},
    "price": {"a": 12, "b": 30.5, "d": 99},
    "tags": {"a": ["x", "y"], "c": []},
    "cover": {"a": "/a.jpg"},
}


@pytest.fixture
def opened(store: Store) -> FeatureStore:
    store.put_catalog(build_items("abcd", VALUES, COLUMNS), {"name": "test"})
    return FeatureStore(store)


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ("brand = 'Nike' and price < 20", "a"),
        ("brand = 'Nike' or not price < 20", "abd"),
        ("brand = 'O''Neil'", "b"),
        ("title = '''; DROP--'", "c"),
        ("brand is null", "c"),
        ("price between 10 and 40", "ab"),
        ("brand in ('Nike', 'Puma')", "ad"),
        ("title like '%shoe'", "a"),
        ("lower(title) like '%lamp%'", "b"),
        ("array_has(tags, 'y')", "a"),
        ("item_id > 'b'", "cd"),
        ("price > 1000", ""),
    ],
)
def test_a_condition_names_the_items_of_which_it_is_true(opened: FeatureStore, condition: str, ids: str):
    assert opened.ids_where(condition) == list(ids)


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("brnd = 'x'", "brnd"),
        ("brand = 'Ni", "Unterminated"),
        ("brand", "boolean"),
        ("", "EOF"),
        ("price > 'a'", "'a'|\"a\""),
        ("; drop table x", "expression"),
        ("select 1", "select"),
        ("item_id in (select item_id from _items)", "not supported"),
        ("regexp_like(brand, '(')", "regex"),
        ("cast(brand as int) > 1", "[Cc]ast"),
        ("(" * 4_000 + "1=1" + ")" * 4_000, "nested|recursion|limit"),
        ("x" * 10_001, "10,000 characters"),
    ],
)
def test_what_is_no_condition_is_refused_and_the_columns_are_listed(
    opened: FeatureStore, condition: str, said: str
):
    with pytest.raises(UsageError, match=said) as refused:
        opened.ids_where(condition)
    assert "_row" not in refused.value.message
    assert ".rs" not in refused.value.message
    if len(condition) < 10_000:
        assert "brand, price, tags" in refused.value.hint


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_whatever_is_written_answers_or_is_refused_and_changes_nothing(opened: FeatureStore, condition: str):
    before = opened.items
    with contextlib.suppress(UsageError):
        assert set(opened.ids_where(condition)) <= set("abcd")
    assert opened.items.equals(before)


def test_an_item_that_is_gone_is_not_named(store: Store):
    store.put_catalog(build_items("ab", VALUES, COLUMNS), {"name": "test"}, whole=True)
    store.put_catalog(build_items("a", VALUES, COLUMNS), {"name": "test"}, whole=True)
    assert FeatureStore(store).ids_where("price > 0") == ["a"]


def test_fields_come_in_the_order_asked_and_media_are_none(opened: FeatureStore):
    found = opened.fields(["b", "a", "b"], ["price", "tags"])
    assert found.to_pydict() == {
        "item_id": ["b", "a", "b"],
        "price": [30.5, 12, 30.5],
        "tags": [None, ["x", "y"], None],
    }
    assert opened.fields().column_names == ["item_id", "title", "description", "brand", "price", "tags"]
    with pytest.raises(UsageError, match="no field 'cover'"):
        opened.fields(["a"], ["cover"])
    with pytest.raises(UnknownItems, match="'z'"):
        opened.fields(["a", "z"])
    assert opened.fields(["z"], ["price"], unknown="mask").to_pydict() == {"item_id": ["z"], "price": [None]}
