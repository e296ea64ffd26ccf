from __future__ import annotations

from itertools import count

import pytest
from helpers.storing import make_rows, text_spec, vector_spec

from mmfeat.schemas.errors import UnknownFeature
from mmfeat.store import Store


def test_adding_a_version_again_changes_nothing(store: Store) -> None:
    first = store.add_version(vector_spec())
    assert store.add_version(vector_spec()) == first
    assert store.versions() == [first]
    assert Store.open(store.uri).versions()[0].created == first.created


def test_specs_that_are_equal_are_one_key() -> None:
    keys = {vector_spec(): 1, text_spec(): 2, vector_spec(): 3, vector_spec(method_version=2): 4}
    assert list(keys.values()) == [3, 2, 4]


def test_a_spec_comes_back_whole(store: Store) -> None:
    for spec in (vector_spec(), text_spec()):
        store.add_version(spec)
        found = Store.open(store.uri).resolve(spec.name)
        assert (found.spec, found.fingerprint, found.version) == (spec, spec.fingerprint, spec.version)


def test_moved_weights_are_the_same_version_at_their_new_place(store: Store) -> None:
    spec = vector_spec()
    created = store.add_version(spec).created
    moved = spec.model_copy(update={"weights": spec.weights.model_copy(update={"location": "/new"})})
    store.add_version(moved)
    versions = Store.open(store.uri).versions()
    assert [(v.spec.weights.location, v.created) for v in versions] == [("/new", created)]


def test_a_name_means_the_version_last_made_current(store: Store) -> None:
    old, new = (store.add_version(vector_spec(method_version=k)) for k in (1, 2))
    store.set_current("clip_image", new.fingerprint)
    assert store.resolve("clip_image") == new
    store.set_current("clip_image", old.fingerprint)
    assert store.resolve("clip_image") == old
    assert Store.open(store.uri).current() == {"clip_image": old.fingerprint}


def test_an_only_version_is_current_before_any_run_completed(store: Store) -> None:
    version = store.add_version(vector_spec())
    assert store.current() == {"clip_image": version.fingerprint}
    assert store.resolve("clip_image") == version


def test_of_two_versions_never_completed_a_name_means_none(store: Store) -> None:
    versions = [store.add_version(vector_spec(method_version=k)) for k in (1, 2)]
    assert store.current() == {}
    with pytest.raises(UnknownFeature, match="2 versions, and none of them was made current") as caught:
        store.resolve("clip_image")
    assert all(v.version in str(caught.value.hint) for v in versions)


def test_a_new_version_is_not_current_before_its_run_completed(store: Store) -> None:
    old = store.add_version(vector_spec())
    store.set_current("clip_image", old.fingerprint)
    store.add_version(vector_spec(method_version=2))
    assert store.resolve("clip_image") == old


def test_a_unique_prefix_names_a_version_and_an_ambiguous_one_none(store: Store) -> None:
    first = vector_spec()
    twin = next(
        spec
        for k in count(2)
        if (spec := vector_spec(method_version=k)).fingerprint[:2] == first.fingerprint[:2]
    )
    prefix = _common_prefix(first.fingerprint, twin.fingerprint)
    versions = [store.add_version(spec) for spec in (first, twin)]
    for version in versions:
        assert store.resolve(version.version) == version
        assert store.resolve(f"clip_image@{version.fingerprint.upper()}") == version
    assert len(prefix) >= 2
    with pytest.raises(UnknownFeature, match="4 or more digits"):
        store.resolve(f"clip_image@{prefix[:3]}")


def test_a_prefix_that_fits_two_versions_is_refused(store: Store) -> None:
    seen: dict[str, int] = {}
    for k in count(1):
        prefix = vector_spec(method_version=k).fingerprint[:4]
        if prefix in seen:
            pair = (seen[prefix], k)
            break
        seen[prefix] = k
    versions = [store.add_version(vector_spec(method_version=k)) for k in pair]
    with pytest.raises(UnknownFeature, match="fits 2 versions") as caught:
        store.resolve(f"clip_image@{prefix}")
    assert all(v.version in str(caught.value.hint) for v in versions)


def test_unknown_features_say_what_there_is(store: Store) -> None:
    with pytest.raises(UnknownFeature) as caught:
        store.resolve("clip")
    assert caught.value.hint == "The store holds no feature yet."
    version = store.add_version(vector_spec())
    with pytest.raises(UnknownFeature, match="no feature 'clip'") as caught:
        store.resolve("clip")
    assert caught.value.hint == "There are: clip_image."
    with pytest.raises(UnknownFeature, match="no version 'clip_image@0000'") as caught:
        store.resolve("clip_image@0000")
    assert version.version in str(caught.value.hint)
    for bad in ("clip_image@", "clip_image@xyz!", "clip_image@123"):
        with pytest.raises(UnknownFeature, match="not a feature version"):
            store.resolve(bad)
    with pytest.raises(UnknownFeature, match="There is no version"):
        store.set_current("clip_image", "0" * 64)


def test_more_versions_than_one_page_of_tables_are_all_listed(store: Store) -> None:
    specs = [vector_spec(name=f"f{k:02d}", method_version=m) for k in range(12) for m in (1, 2)]
    for spec in reversed(specs):
        store.commit(store.add_version(spec), make_rows(spec, ["a"], [[1, 2, 3, 4]]), replace=False)
    reader = Store.open(store.uri)
    assert [v.name for v in reader.versions()] == [spec.name for spec in specs]
    assert {v.fingerprint for v in reader.versions()} == {spec.fingerprint for spec in specs}
    assert [v.spec.method_version for v in reader.versions("f03")] == [2, 1]  # by age
    assert all(reader.counts(v) == {"ok": 1} for v in reader.versions())


def test_a_killed_first_adding_is_completed(store: Store) -> None:
    from pathlib import Path

    import lance

    from mmfeat.store import FeatureVersion, rows_schema

    for spec in (vector_spec("made"), vector_spec("begun")):
        location = Path(store.uri, f"{FeatureVersion(spec, None).table}.lance")  # type: ignore[arg-type]
        if spec.name == "made":
            lance.write_dataset(rows_schema(spec).empty_table(), str(location))
        else:
            (location / "_versions").mkdir(parents=True)
        reopened = Store.open(store.uri)
        assert spec.name not in [v.name for v in reopened.versions()]
        version = store.add_version(spec)
        store.commit(version, make_rows(spec, ["a"], [[1, 2, 3, 4]]), replace=False)
        assert Store.open(store.uri).counts(version) == {"ok": 1}


def _common_prefix(a: str, b: str) -> str:
    return a[: next(i for i in range(len(a)) if a[i] != b[i])]
