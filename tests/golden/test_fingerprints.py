"""Fingerprints that must stay: a changed one makes every row of a store out of date.

``fingerprints.json`` holds features as people wrote them for store format 1 (presets, the examples in docs,
every method with its options) and, of each, the fingerprint and the JSON that a store keeps.
``fingerprints-2.json``, which ``write_fingerprints.py`` writes, holds what that format could not express.
What a store keeps is read here as any store is, by opening one: a folder with the two tables of format 1 that
hold it (``mmfeat/store/versions.py`` reads them).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest
from golden_models import golden_hub, placed

import mmfeat
from mmfeat import api, presets
from mmfeat.extract.registry import resolve_all
from mmfeat.schemas.spec import FeatureSpec, canonical_json

HERE = Path(__file__).parent
GROUPS: dict[str, Any] = json.loads((HERE / "fingerprints.json").read_text(encoding="utf-8"))
LATER: dict[str, Any] = json.loads((HERE / "fingerprints-2.json").read_text(encoding="utf-8"))
SPECS = [(name, spec) for group in GROUPS.values() for name, spec in group["specs"].items()]
PRESETS = {
    group.removeprefix("preset "): (
        GROUPS.get(group, {}).get("specs", {}),
        LATER.get(group, {}).get("specs", {}),
    )
    for group in {**GROUPS, **LATER}
    if group.startswith("preset ")
}


@pytest.fixture(scope="module", autouse=True)
def hub(tmp_path_factory) -> Iterator[None]:
    with golden_hub(tmp_path_factory.mktemp("hub")):
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> mmfeat.FeatureStore:
    """A store of format 1 that knows all of the frozen versions."""
    folder, now = tmp_path_factory.mktemp("store"), datetime(2025, 1, 1, tzinfo=UTC)
    header = {"format": pa.array([1], pa.int32()), "created": pa.array([now], pa.timestamp("us", "UTC"))}
    lance.write_dataset(pa.table(header), str(folder / "_store.lance"))
    rows = {(name, spec["fingerprint"]): spec["stored"] for name, spec in SPECS}
    names, fingerprints = zip(*rows, strict=True)
    kept = {
        "name": names,
        "fingerprint": fingerprints,
        "spec": list(rows.values()),
        "created": pa.array([now] * len(rows), pa.timestamp("us", "UTC")),
    }
    lance.write_dataset(pa.table(kept), str(folder / "_versions.lance"))
    return mmfeat.open(folder)


def identity(stored: str) -> dict[str, Any]:
    """What of a stored spec decides values: all but its name and where its weights lie."""
    body: dict[str, Any] = json.loads(stored)
    del body["name"]
    body["weights"].pop("location", None)
    return body


def check(resolved: list[Any], frozen: dict[str, dict[str, str]]) -> None:
    """Each frozen feature is among those that were resolved, and the same."""
    by_name = {spec.name: spec for spec in resolved}
    for name, spec in frozen.items():
        assert by_name[name].identity() == identity(spec["stored"]), name
        assert canonical_json(by_name[name].identity()) == canonical_json(identity(spec["stored"])), name
        assert by_name[name].fingerprint == spec["fingerprint"], name


def check_later(resolved: list[Any], frozen: dict[str, dict[str, str]]) -> None:
    """The same of features whose stored form has more than decides values."""
    found = {spec.name: spec.fingerprint for spec in resolved}
    assert {name: found[name] for name in frozen} == {n: spec["fingerprint"] for n, spec in frozen.items()}


def test_a_fingerprint_is_the_digest_of_the_canonical_json():
    """In words of this test alone: sorted keys, no spaces, UTF-8."""
    for name, spec in SPECS:
        text = json.dumps(identity(spec["stored"]), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(text.encode()).hexdigest() == spec["fingerprint"], name


@pytest.mark.parametrize("group", [name for name, group in GROUPS.items() if group["features"]])
def test_features_resolve_to_the_fingerprints_that_they_had(group):
    check(resolve_all(placed(GROUPS[group]["features"])), GROUPS[group]["specs"])


@pytest.mark.parametrize("group", [name for name, group in LATER.items() if group["features"]])
def test_later_features_resolve_to_the_fingerprints_that_they_had(group):
    check_later(resolve_all(placed(LATER[group]["features"])), LATER[group]["specs"])


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_has_the_features_that_it_had(preset):
    resolved = resolve_all(presets.load(preset))
    first, later = PRESETS[preset]
    check(resolved, first)
    check_later(resolved, later)


def test_every_preset_is_frozen():
    assert set(PRESETS) == set(presets.names())


def test_a_job_file_resolves_to_the_same(tmp_path):
    """The way of a job's file: its features through TOML and the job's own checks."""
    job = tmp_path / "job.toml"
    job.write_text(
        '[features.cover_cnn]\nsource = "cover"\nencoder = "efficientnet_lite"\n'
        '[features.title_text]\nsource = "title"\nencoder = "sentence_transformers"\n'
        'model = "all-MiniLM-L6-v2"\nweights = "package"\n'
    )
    frozen = GROUPS["deploy/job.toml"]["specs"]
    check(resolve_all(api.load_features(job)), frozen)
    check(resolve_all(dict(api.make_job("sample", features=api.load_features(job)).features)), frozen)


def test_specs_of_a_store_are_read_to_the_same_fingerprints(store):
    for name, frozen in SPECS:
        spec = store.spec(f"{name}@{frozen['fingerprint']}")
        assert (spec.name, spec.fingerprint) == (name, frozen["fingerprint"])
        assert canonical_json(spec.identity()) == canonical_json(identity(frozen["stored"]))


@pytest.mark.parametrize("group", LATER)
def test_what_a_store_keeps_of_later_features_is_read_to_the_same_fingerprints(group):
    for frozen in LATER[group]["specs"].values():
        assert FeatureSpec.model_validate_json(frozen["stored"]).fingerprint == frozen["fingerprint"]


def test_a_stored_spec_keeps_where_its_weights_lie(store):
    frozen = GROUPS["open_clip"]["specs"]["cover_plain"]
    assert store.spec(f"cover_plain@{frozen['fingerprint']}").weights.location == "/models/tiny-clip"
