"""Quantizing a stored feature: right rows, honest statuses, a version per data, nothing computed twice."""

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from helpers.interaction_rows import interactions_of
from typer.testing import CliRunner

from mmfeat import api
from mmfeat.cli import app
from mmfeat.extract.registry import METHODS
from mmfeat.pipelines.quantize import quantize
from mmfeat.pipelines.record import runs
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.errors import ConfigError, UnknownFeature, UsageError
from mmfeat.schemas.featureset.arrow import from_arrow, to_arrow
from mmfeat.schemas.spec import FeatureSpec, Weights
from mmfeat.store import Store, rows_schema

N, DIMS = 60, 8
# In neither the catalog's nor any sorted order.
IDS = [f"item {k}" for k in np.random.default_rng(4).permutation(N)]
SMALL = {"levels": 2, "codebook_size": 8}


def vector_spec(name="clip", output="vector", version=1) -> FeatureSpec:
    own = {"dims": DIMS, "store_dtype": "float32"} if output == "vector" else {"text_kind": "caption"}
    weights = Weights(origin="package", ref="x")
    return FeatureSpec(
        name=name,
        source="cover",
        output=output,
        method="some",
        method_version=version,
        model="m",
        weights=weights,
        **own,
    )


def put(store: Store, spec: FeatureSpec, values: dict, replace=False, content="a cover") -> None:
    """A value makes an ok row, the words missing and failed make such rows."""
    rows = []
    for item_id, value in values.items():
        status = value if isinstance(value, str) else "ok"
        rows.append({"item_id": item_id, "status": status, "created": datetime.now(UTC)})
        if status == "ok":
            rows[-1] |= {"vector": value.tolist(), "content_hash": content}
    with store.lease("test"):
        version = store.add_version(spec)
        store.commit(version, pa.Table.from_pylist(rows, schema=rows_schema(spec)), replace)


def put_items(store: Store, ids) -> None:
    with store.lease("test"):
        items = pa.Table.from_pylist([{"item_id": i} for i in ids], schema=CATALOG_SCHEMA)
        store.put_catalog(items, {"name": "sample"})


@pytest.fixture
def vectors() -> dict[str, np.ndarray]:
    """Thirty different vectors, each of two items: every code is shared."""
    rows = np.random.default_rng(0).standard_normal((N // 2, DIMS)).astype(np.float32)
    return {item_id: rows[k % (N // 2)] for k, item_id in enumerate(IDS)}


@pytest.fixture
def store(tmp_path, vectors) -> Store:
    store = Store.open(str(tmp_path / "store"), create=True)
    put_items(store, [*IDS, "no cover", "broken", "new"])
    put(store, vector_spec(), {**vectors, "no cover": "missing", "broken": "failed"})
    return store


def codes_of(store: Store, ids=IDS, name="clip_codes") -> np.ndarray:
    return store.lookup(ids, [name])[name].matrix


def test_every_item_gets_its_own_codes_and_no_value_stays_no_value(store, vectors):
    report = quantize(store, "clip", **SMALL)
    assert (report.ok, report.missing, report.failed, report.absent) == (N, 1, 1, 1)
    assert (report.fitted, report.committed) == (True, N + 2)
    column = store.lookup(["no cover", "broken", "new", IDS[0]], ["clip_codes"])["clip_codes"]
    assert column.matrix.dtype == np.int32
    assert column.matrix[:3].tolist() == [[-1, -1]] * 3
    assert column.mask.tolist() == [False, False, False, True]
    assert column.status.tolist() == ["missing", "failed", "absent", "ok"]
    assert store.failures(store.resolve("clip_codes")).to_pylist() == [
        {"item_id": "broken", "stage": "upstream", "reason": "clip failed for this item"}
    ]
    # Nearest of the stored first codebook, computed here from the vectors themselves.
    from safetensors.numpy import load

    first = load(store.codebooks(store.resolve("clip_codes").fingerprint)[0])["codebooks"][0]
    matrix = np.stack([vectors[i] for i in IDS])
    nearest = ((matrix[:, None] - first[None]) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(codes_of(store)[:, 0], nearest)


def test_the_report_gives_the_figures_of_the_stored_codes(store):
    quality = quantize(store, "clip", **SMALL).quality
    codes = codes_of(store)
    assert quality.used == [len(np.unique(level)) / 8 for level in codes.T]
    assert (quality.collision_rate, quality.largest_collision >= 2) == (1.0, True)
    assert 0 < quality.relative_mse < 0.5 < quality.cosine


def test_a_second_call_computes_nothing_and_reports_the_same(store):
    first, again = quantize(store, "clip", **SMALL), quantize(store, "clip", **SMALL)
    assert (again.fitted, again.committed) == (False, 0)
    assert (again.version, again.quality, again.ok) == (first.version, first.quality, first.ok)
    table = store.resolve("clip_codes").table
    assert len(store.versions("clip_codes")) == 1, table


def test_the_collision_level_tells_items_apart_in_the_order_of_their_ids(store):
    quantize(store, "clip", **SMALL, name="plain")
    quantize(store, "clip", **SMALL, name="unique", collision_level=True)
    ids = sorted(IDS)
    plain, unique = codes_of(store, ids, "plain"), codes_of(store, ids, "unique")
    np.testing.assert_array_equal(unique[:, :2], plain)
    assert len(np.unique(unique, axis=0)) == N
    for row in np.unique(plain, axis=0):
        numbers = unique[(plain == row).all(axis=1), 2]
        assert numbers.tolist() == list(range(len(numbers)))


def test_a_new_vector_gets_codes_of_the_same_codebooks_and_no_new_version(store, vectors):
    old = quantize(store, "clip", **SMALL)
    before = codes_of(store)
    put(store, vector_spec(), {"new": vectors[IDS[3]]})
    new = quantize(store, "clip", **SMALL)
    assert (new.version, new.fitted, new.quality) == (old.version, False, old.quality)
    assert (new.ok, new.absent, new.committed) == (N + 1, 0, 1)
    np.testing.assert_array_equal(codes_of(store, [*IDS, "new"]), [*before, before[3]])


def test_a_vector_that_changed_changes_its_own_codes_alone(store, vectors):
    quantize(store, "clip", **SMALL)
    before = codes_of(store)
    put(store, vector_spec(), {IDS[0]: vectors[IDS[1]]}, replace=True, content="another cover")
    again = quantize(store, "clip", **SMALL)
    assert (again.fitted, again.committed) == (False, 1)
    np.testing.assert_array_equal(codes_of(store), [before[1], *before[1:]])


def test_a_refit_makes_a_new_version_and_the_old_one_stays(store):
    old = quantize(store, "clip", **SMALL)
    before = codes_of(store)
    put(store, vector_spec(), {"new": 5 * np.ones(DIMS, np.float32)})
    new = quantize(store, "clip", **SMALL, refit=True)
    assert (new.fitted, new.ok, new.committed) == (True, N + 1, N + 3)
    assert new.version != old.version
    assert store.resolve("clip_codes").version == new.version
    np.testing.assert_array_equal(store.lookup(IDS, [old.version])["clip_codes"].matrix, before)


def test_vectors_of_another_version_are_quantized_anew(store, vectors):
    old = quantize(store, "clip", **SMALL)
    put(store, vector_spec(version=2), vectors)
    with store.lease("test"):
        store.promotion.promote([store.resolve(f"clip@{vector_spec(version=2).fingerprint}")])
    new = quantize(store, "clip", **SMALL)
    assert (new.fitted, new.version == old.version) == (True, False)
    assert store.resolve("clip_codes").spec.upstreams == {"clip": vector_spec(version=2).fingerprint}


def test_what_was_rolled_back_stays_so(store):
    two = quantize(store, "clip", **SMALL)
    three = quantize(store, "clip", **{**SMALL, "levels": 3})
    api.open(store.uri).lifecycle.rollback(["clip_codes"])
    again = quantize(store, "clip", **{**SMALL, "levels": 3})
    assert (again.version, again.fitted) == (three.version, False)
    (notice,) = again.notices
    assert f"{three.version} was rolled back and stays so" in notice
    assert store.resolve("clip_codes").version == two.version


def test_items_without_a_vector_change_no_version(store):
    old = quantize(store, "clip", **SMALL)
    put(store, vector_spec(), {"new": "missing"})
    put(store, vector_spec(), {"no cover": "failed"}, replace=True)
    again = quantize(store, "clip", **SMALL)
    assert (again.version, again.fitted, again.committed) == (old.version, False, 2)
    assert (again.missing, again.failed, again.absent) == (1, 2, 0)
    assert store.counts(store.resolve("clip_codes")) == {"ok": N, "missing": 1, "failed": 2}


def test_the_order_of_the_catalog_decides_nothing(store, tmp_path, vectors):
    other = Store.open(str(tmp_path / "other"), create=True)
    put_items(other, sorted(IDS))
    put(other, vector_spec(), {i: vectors[i] for i in sorted(IDS)})
    first, second = quantize(store, "clip", **SMALL), quantize(other, "clip", **SMALL)
    assert first.version == second.version
    np.testing.assert_array_equal(codes_of(store), codes_of(other))


def test_a_version_without_rows_as_a_killed_call_leaves_it_is_not_fitted_again(store, tmp_path, vectors):
    first = quantize(store, "clip", **SMALL)
    fingerprint = store.resolve("clip_codes").fingerprint
    killed = Store.open(str(tmp_path / "killed"), create=True)
    put_items(killed, IDS)
    put(killed, vector_spec(), vectors)
    with killed.lease("test"):
        killed.put_codebooks(fingerprint, *store.codebooks(fingerprint))
        killed.add_version(store.resolve("clip_codes").spec)
    report = quantize(killed, "clip", **SMALL)
    assert (report.version, report.fitted, report.committed) == (first.version, False, N)
    np.testing.assert_array_equal(codes_of(killed), codes_of(store))


def test_codebooks_without_a_version_as_a_killed_call_leaves_them_make_the_same_version(store):
    first = quantize(store, "clip", **SMALL)
    version = store.resolve("clip_codes")
    with store.lease("test"):
        store._versions.remove(version)
    again = quantize(Store.open(store.uri), "clip", **SMALL)
    assert (again.version, again.quality) == (first.version, first.quality)


def test_every_setting_is_part_of_the_version(store):
    variants = [{}, {"levels": 3}, {"codebook_size": 4}, {"seed": 1}, {"collision_level": True}]
    versions = {quantize(store, "clip", **{**SMALL, **v}).version for v in variants}
    assert len(versions) == len(variants)


def test_features_that_are_no_codes_keep_the_fingerprints_they_had_before_there_were_codes():
    fingerprint = "b02aa50a85522e0ddbb359676fbf5e9d5408a7b53b517c05f924fb989b8b6190"
    assert vector_spec().fingerprint == fingerprint


def test_a_run_record_is_left(store):
    report = quantize(store, "clip", **SMALL)
    (record,) = runs(store)
    assert (record["run_id"], record["end"]) == (report.run_id, "completed")
    # What it was to make has no version before it is fitted.
    assert record["versions"] == ["clip_codes"]
    assert record["report"]["version"] == report.version
    assert record["packages"]["faiss-cpu"]
    assert record["report"]["quality"]["collision_rate"] == 1.0


def test_codes_survive_a_trip_through_arrow(store):
    quantize(store, "clip", **SMALL)
    found = store.lookup([IDS[0], "broken"], ["clip_codes"])
    again = from_arrow(to_arrow(found))["clip_codes"]
    np.testing.assert_array_equal(again.matrix, found["clip_codes"].matrix)
    assert again.matrix[1].tolist() == [-1, -1]
    assert again.spec == found["clip_codes"].spec


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"method": "vq"}, ConfigError, "no quantizer 'vq'"),
        ({"levels": 0}, ConfigError, "levels: .*more than 0"),
        ({"name": "No Name"}, ConfigError, "quantize: features.No Name: "),
        ({"name": "clip"}, UsageError, "name of a vector feature"),
        (
            {"codebook_size": 61},
            UsageError,
            "A codebook of 61 needs at least as many vectors, and there are 60",
        ),
    ],
)
def test_wrong_settings_are_refused_and_leave_no_version(store, wrong, error, message):
    with pytest.raises(error, match=message):
        quantize(store, "clip", **{**SMALL, **wrong})
    assert {v.name for v in store.versions()} == {"clip"}


def test_only_vectors_can_be_quantized(store):
    quantize(store, "clip", **SMALL)
    with pytest.raises(
        UsageError, match="reads a feature of kind 'vector', and 'clip_codes' is of kind 'codes'"
    ):
        quantize(store, "clip_codes", **SMALL)
    with pytest.raises(UnknownFeature, match="dino"):
        quantize(store, "dino", **SMALL)


def test_a_feature_without_vectors_is_refused(store):
    put(store, vector_spec("dino"), {IDS[0]: "missing"})
    with pytest.raises(UsageError, match="No item has a vector in dino@"):
        quantize(store, "dino", **SMALL)


def test_codes_have_no_distance_to_search_by(store):
    quantize(store, "clip", **SMALL)
    with pytest.raises(UsageError, match="holds codes, which have no distance"):
        api.open(store.uri).search("clip_codes", item=IDS[0])


def test_the_command_prints_the_report_and_lookup_shows_codes(store):
    args = ["quantize", "clip", "--store", store.uri, "--levels", "2", "--codebook-size", "8"]
    done = CliRunner().invoke(app, args, catch_exceptions=False)
    assert done.exit_code == 0
    assert "100.00% of the items share their codes with another" in done.output
    assert "60 ok, 1 missing, 1 failed, 1 without a row in the source; 62 rows committed" in done.output
    store.refresh()
    shown = CliRunner().invoke(app, ["lookup", IDS[0], "--feature", "clip_codes", "--store", store.uri])
    assert str(codes_of(store, [IDS[0]])[0].tolist()) in shown.output


def test_the_command_refits_where_asked_and_leaves_other_settings_to_the_quantizer(run, store):
    words = ("quantize", "clip", "--codebook-size", "8", "--store", store.uri, "--json")
    code, out, err = run(*words)
    first = json.loads(out)
    assert (code, first["levels"], first["seed"], first["fitted"]) == (0, 3, 0, True), err
    put(store, vector_spec(), {"new": 5 * np.ones(DIMS, np.float32)})
    (again, anew) = (json.loads(run(*words, *more)[1]) for more in ((), ("--refit",)))
    assert (again["version"], again["fitted"]) == (first["version"], False)
    assert (anew["version"] == first["version"], anew["fitted"]) == (False, True)
    code, _, err = run("quantize", "clip", "--method", "residual_kmean", "--store", store.uri)
    assert (code, "Did you mean 'residual_kmeans'?" in err) == (2, True)


def test_every_option_of_a_quantizer_is_one_of_the_command(run):
    _, out, _ = run("quantize", "--help")
    for method in METHODS["quantizer"].names():
        for option in METHODS["quantizer"].get(method).Options.model_fields:
            assert f"--{option.replace('_', '-')}" in out, (method, option)


def test_the_command_makes_codes_of_several_features_with_the_settings_that_it_is_given(run, store, vectors):
    put(store, vector_spec(name="text"), {i: row[::-1] for i, row in vectors.items()})
    with store.lease("test"):
        store.put_interactions(interactions_of([("u", IDS[0], 1)]))
    words = ("--levels", "2", "--codebook-size", "8", "--store", store.uri, "--json")
    several = ("--weights", "1,0.5", "--fit-sample", "40", "--sinkhorn-epsilon", "0.003")
    numbers = ("--collision-level", "--collisions", "popularity")
    code, out, err = run("quantize", "clip", "text", *several, *numbers, *words)
    assert code == 0, err
    told = json.loads(out)
    assert told["version"].startswith("clip_text_codes@") and told["levels"] == 2
    assert told["source"].startswith("clip@") and " + text@" in told["source"]
    store.refresh()
    asked = store.resolve("clip_text_codes").spec.quantization
    assert (asked.mode, asked.weights, asked.fit_sample) == ("concat", (1.0, 0.5), 40)
    assert (asked.sinkhorn_epsilon, asked.collisions) == (0.003, "popularity")
    code, out, _ = run("quantize", "clip", "text", "--mode", "parallel", "--name", "side", *words)
    assert (code, json.loads(out)["levels"]) == (0, 4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("clip", "clip"), "inputs names 'clip' twice"),
        (("clip", "--weights", "1,x"), "--weights '1,x' are no numbers"),
        (("clip", "--weights", "1"), "mode and weights are of several features"),
        (("clip", "--mode", "beside"), "mode: "),
        (("clip", "--collisions", "popularity"), "there is no such level"),
        (("clip", "--method", "pq", "--sinkhorn-epsilon", "0.003"), "has no option 'sinkhorn_epsilon'"),
    ],
)
def test_the_command_refuses_settings_that_do_not_go_together(run, store, words, said):
    code, _, err = run("quantize", *words, "--store", store.uri)
    assert code == 2
    assert said in " ".join(err.split())
