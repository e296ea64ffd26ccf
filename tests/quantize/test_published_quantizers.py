"""Quantizers beside what they follow: FAISS's own, OneRec's balanced clusters, LC-Rec's published rule."""

from __future__ import annotations

import json

import numpy as np
import pytest
from coded import Coded, vector
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load

from mmfeat.extract.fitted.codes import Quantizer
from mmfeat.extract.fitted.codes.balanced_kmeans import BalancedKMeans, one_size
from mmfeat.extract.fitted.codes.product import ProductQuantizer, RotatedProductQuantizer
from mmfeat.extract.fitted.codes.quality import group_sizes
from mmfeat.extract.fitted.codes.residual_kmeans import ResidualKMeans, nearest
from mmfeat.extract.fitted.codes.rqvae import RqVae
from mmfeat.extract.fitted.codes.sinkhorn import assign, nearest_free, spread
from mmfeat.schemas.errors import ConfigError, UsageError
from mmfeat.store import Store

faiss = pytest.importorskip("faiss", reason="FAISS, of the extra 'quantize', is not installed")

SHAPE = {"levels": 4, "codebook_size": 16}


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """float32 ``[1000, 16]`` whose halves say much the same."""
    rows = np.random.default_rng(0).standard_normal((1000, 16)).astype(np.float32)
    rows[:, 8:] += 2 * rows[:, :8]
    return rows


def error(quantizer, rows: np.ndarray) -> float:
    return float(((rows - quantizer.decode(quantizer.encode(rows))) ** 2).sum(axis=1).mean())


def test_product_quantization_is_that_of_faiss_bit_by_bit(vectors):
    theirs = faiss.ProductQuantizer(16, 4, 4)
    theirs.train(vectors)
    ours = ProductQuantizer.fit(vectors, **SHAPE, seed=theirs.cp.seed)
    centroids = faiss.vector_to_array(theirs.centroids).reshape(4, 16, 4)
    np.testing.assert_array_equal(ours.codebooks, centroids)
    # FAISS packs two codes of four bits into a byte.
    packed = theirs.compute_codes(vectors)
    codes = np.stack([packed & 15, packed >> 4], axis=2).reshape(len(vectors), 4)
    np.testing.assert_array_equal(ours.encode(vectors), codes)
    np.testing.assert_array_equal(ours.decode(codes), theirs.decode(packed))


def test_residual_codes_are_those_of_faiss_by_the_same_codebooks(vectors):
    theirs = faiss.ResidualQuantizer(16, 3, 4)
    # One beam: the codes level by level, as recommenders read them.
    theirs.max_beam_size = 1
    theirs.train(vectors)
    ours = ResidualKMeans(faiss.vector_to_array(theirs.codebooks).reshape(3, 16, 16).copy())
    bits = np.unpackbits(theirs.compute_codes(vectors), axis=1, bitorder="little")[:, :12]
    codes = bits.reshape(-1, 3, 4) @ (1 << np.arange(4))
    np.testing.assert_array_equal(ours.encode(vectors), codes)
    fitted = ResidualKMeans.fit(vectors, levels=3, codebook_size=16, seed=0)
    assert error(fitted, vectors) < 1.05 * error(ours, vectors)


def test_a_rotation_lets_parts_lose_less(vectors):
    plain, turned = (of.fit(vectors, **SHAPE, seed=0) for of in (ProductQuantizer, RotatedProductQuantizer))
    assert error(turned, vectors) < 0.6 * error(plain, vectors)
    np.testing.assert_allclose(turned.rotation @ turned.rotation.T, np.eye(16), atol=1e-5)


@pytest.mark.parametrize("method", [ProductQuantizer, RotatedProductQuantizer, BalancedKMeans])
def test_the_same_seed_gives_the_same_state_and_a_saved_one_the_same_codes(vectors, method):
    first, again = (method.fit(vectors, **SHAPE, seed=3) for _ in range(2))
    for name, array in first.state().items():
        np.testing.assert_array_equal(array, again.state()[name])
    loaded = method.from_state(first.state())
    np.testing.assert_array_equal(loaded.encode(vectors), first.encode(vectors))


@pytest.mark.parametrize(
    "method", [ProductQuantizer, RotatedProductQuantizer, BalancedKMeans, ResidualKMeans, RqVae]
)
def test_a_quantizer_whose_codes_are_called_otherwise_decodes_the_same(vectors, method):
    some = vectors[:200]
    quantizer = method.fit(some, levels=2, codebook_size=8, seed=0)
    rows = np.array([np.random.default_rng(level).permutation(8) for level in range(2)])
    other = quantizer.reordered(rows)
    codes = quantizer.encode(some)
    called = np.column_stack([np.argsort(rows[level])[codes[:, level]] for level in range(2)])
    np.testing.assert_array_equal(other.encode(some), called)
    np.testing.assert_allclose(other.decode(called), quantizer.decode(codes), rtol=1e-5, atol=1e-5)


# Items of which fewer differ than a codebook has codes, so that centroids are as near as each other.
ALIKE = np.repeat(np.random.default_rng(0).standard_normal((20, 16)).astype(np.float32), 3, axis=0)


@pytest.fixture(scope="module")
def of_few() -> dict[str, tuple[Quantizer, np.ndarray]]:
    """By method: a quantizer of such items, and their codes."""
    fitted = [
        method.fit(ALIKE, levels=4, codebook_size=32, seed=0)
        for method in (ProductQuantizer, RotatedProductQuantizer, ResidualKMeans, RqVae)
    ]
    return {one.method: (one, one.encode(ALIKE)) for one in fitted}


@pytest.mark.parametrize("method", ["pq", "opq", "residual_kmeans", "rqvae"])
@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, len(ALIKE) - 1), min_size=1, max_size=40))
@example([0])
@example(list(range(30)))
def test_codes_of_a_vector_are_the_same_in_any_batch(of_few, method, items):
    quantizer, codes = of_few[method]
    np.testing.assert_array_equal(quantizer.encode(ALIKE[items]), codes[items])
    np.testing.assert_array_equal(codes[0::3], codes[1::3])


def test_of_equally_near_centroids_the_first_is_taken():
    book = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    rows = np.repeat(book, 12, axis=0)
    expected = np.repeat(np.arange(4), 12)
    np.testing.assert_array_equal(nearest(rows, np.vstack([book, book, book[::-1]])), expected)


def test_few_vectors_for_a_rotation_are_no_cause_of_warnings(capfd):
    RotatedProductQuantizer.fit(ALIKE, levels=2, codebook_size=16, seed=0)
    assert "WARNING" not in "".join(capfd.readouterr())


def test_vectors_that_cannot_be_cut_into_parts_of_one_length_are_refused(vectors):
    for method in (ProductQuantizer, RotatedProductQuantizer):
        with pytest.raises(UsageError, match="cannot be cut into 3 parts"):
            method.fit(vectors, levels=3, codebook_size=8, seed=0)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 1000))
def test_balanced_clusters_are_of_one_size_and_each_takes_the_nearest_that_are_left(n, k, seed):
    k = min(k, n)
    rng = np.random.default_rng(seed)
    rows, centroids = rng.standard_normal((n, 3)), rng.standard_normal((k, 3))
    cluster = one_size(rows, centroids)
    sizes = np.bincount(cluster, minlength=k)
    assert sizes.max() - sizes.min() <= 1
    distance = ((rows[:, None] - centroids) ** 2).sum(axis=2)
    for number in range(k):
        later = cluster > number
        if later.any():
            assert distance[cluster == number, number].max() <= distance[later, number].min()


def test_balanced_codes_are_used_more_evenly_where_clusters_are_not():
    rng = np.random.default_rng(0)
    sizes = np.array([600, 200, 100, 60, 30, 10])
    rows = 3 * rng.standard_normal((6, 8)).repeat(sizes, axis=0) + rng.standard_normal((1000, 8))
    used = {}
    for method in (ResidualKMeans, BalancedKMeans):
        codes = method.fit(rows.astype(np.float32), levels=1, codebook_size=10, seed=0).encode(rows)
        used[method] = np.bincount(codes[:, 0], minlength=10)
    assert used[BalancedKMeans].std() < 0.8 * used[ResidualKMeans].std()


# What LC-Rec's own VectorQuantizer (RUCAIBox/LC-Rec, index/models/vq.py) gave for these inputs by torch 2:
# items, codes, seed, epsilon.
LC_REC = {
    (5, 8, 0, 0.003): [2, 1, 0, 6, 7],
    (12, 8, 1, 0.003): [3, 6, 2, 0, 7, 1, 4, 5, 7, 3, 3, 4],
    (30, 16, 2, 0.05): [
        8, 12, 13, 2, 9, 2, 15, 0, 7, 10, 14, 2, 12, 13, 0, 7, 14, 14, 9, 11, 9, 7, 8, 0, 1, 1, 2, 11, 15, 6,
    ],
    (3, 4, 3, 0.003): [2, 0, 1],
}  # fmt: skip


@pytest.mark.parametrize("given", LC_REC, ids=str)
def test_sinkhorn_assigns_what_lc_rec_assigns(given):
    n, k, seed, epsilon = given
    rng = np.random.default_rng(seed)
    codebook = rng.standard_normal((k, 4)).astype(np.float32)
    rows = (rng.standard_normal((1, 4)) + 0.3 * rng.standard_normal((n, 4))).astype(np.float32)
    distances = ((rows[:, None] - codebook) ** 2).sum(axis=2)
    assert assign(distances, epsilon).tolist() == LC_REC[given]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("epsilon", [0.003, 0.002, 0.0005, 1e-9, 1e-300])
def test_a_small_epsilon_tells_items_apart_as_a_larger_one_does(epsilon):
    rng = np.random.default_rng(0)
    codebook = rng.standard_normal((16, 8))
    rows = codebook[3] + 0.3 * rng.standard_normal((6, 8))
    assert len(np.unique(spread(np.full((6, 1), 3, np.int32), rows, codebook, epsilon))) == 6


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(0, 1000))
def test_as_many_items_as_codes_are_all_told_apart_and_only_those_that_share_are_moved(n, seed):
    rng = np.random.default_rng(seed)
    codebook = rng.standard_normal((12, 3)).astype(np.float32)
    rows = rng.standard_normal((n, 3)).astype(np.float32)
    codes = np.zeros((n, 2), np.int32)
    codes[0, 0] = 1
    apart = spread(codes, rows, codebook, 0.003)
    assert (apart[:, 0] == codes[:, 0]).all() and (apart[0] == codes[0]).all()
    free = nearest_free(codes, rows, codebook, {(0, 0)})
    assert len(np.unique(free, axis=0)) == n and (0, 0) not in set(map(tuple, free.tolist()))


def test_the_last_level_tells_items_of_a_store_apart_and_moves_nobody_later(tmp_path):
    options = {"codebook_size": 8, "sinkhorn_epsilon": 0.003, "collision_level": False}
    coded = Coded(tmp_path / "store", {f"item-{n:02}": n for n in range(24)}, **options)
    report = coded.code()
    before = coded.codes()
    assert len(set(before.values())) > len({code[0] for code in before.values()})
    assert report.quality.collision_rate == np.mean(group_sizes(np.array(list(before.values()))) > 1)
    coded.set({"twin": 3, "other twin": 3})
    coded.code()
    after = coded.codes()
    assert {i: after[i] for i in before} == before
    assert len({after["twin"], after["other twin"], before["item-03"]}) == 3
    assert after["twin"][0] == before["item-03"][0]


def test_figures_of_items_that_were_told_apart_are_those_of_the_codes_that_they_have(tmp_path):
    options = {"levels": 1, "codebook_size": 8, "sinkhorn_epsilon": 0.003, "collision_level": True}
    coded = Coded(tmp_path / "store", {f"item-{n:02}": n for n in range(8)}, **options)
    coded.set({"twin": 3})
    report = coded.code()
    store = Store.open(coded.uri)
    version = store.resolve("codes")
    state, facts = store.codebooks(version.fingerprint)
    quantizer = ResidualKMeans.from_state(load(state))
    codes = coded.codes()
    rows = np.array([vector(coded.contents[i]) for i in codes])
    lost = ((rows - quantizer.decode(np.array(list(codes.values()))[:, :1])) ** 2).sum(axis=1)
    assert lost.max() > 0.1
    assert report.quality.error == facts["error"] == pytest.approx(lost.mean())
    told = store.facts(version).to_pylist()
    of_rows = {row["item_id"]: json.loads(row["facts"])["error"] for row in told}
    assert of_rows == pytest.approx(dict(zip(codes, lost.tolist(), strict=True)), rel=1e-4, abs=1e-6)
    assert coded.code().quality == report.quality


def test_parts_have_no_last_level_to_tell_items_apart(tmp_path):
    coded = Coded(tmp_path / "store", {"a": 1, "b": 2})
    with pytest.raises(ConfigError, match="has no option 'sinkhorn_epsilon'"):
        coded.code(method="pq", sinkhorn_epsilon=0.003)


def test_codebooks_are_fitted_to_a_sample_that_the_seed_draws(tmp_path):
    contents = {f"item-{n:02}": n for n in range(40)}
    coded = Coded(tmp_path / "store", contents, codebook_size=4, fit_sample=12)
    report = coded.code()
    assert (report.quality.vectors, report.ok, report.drift.items) == (12, 40, 0)
    facts = coded.store.facts(coded.store.resolve("codes"))["facts"].to_pylist()
    assert sum('"fitted": true' in told for told in facts) == 12
    again = Coded(tmp_path / "again", contents, codebook_size=4, fit_sample=12).code()
    assert again.version == report.version
    # What was not in the sample can be forgotten, and the codebooks stay.
    unseen = next(
        row["item_id"]
        for row in coded.store.facts(coded.store.resolve("codes")).to_pylist()
        if '"fitted": false' in row["facts"]
    )
    coded.forget(unseen)
    assert not coded.code().fitted


def test_colliding_items_are_numbered_by_their_popularity(tmp_path):
    from helpers.interaction_rows import interactions_of

    coded = Coded(tmp_path / "store", {f"item-{n}": 5 for n in range(4)}, collisions="popularity")
    coded.set({"other": 6})
    with coded.store.lease("test"):
        rows = [("u", "item-2", 1), ("v", "item-2", 2), ("u", "item-3", 3)]
        coded.store.put_interactions(interactions_of(rows))
    coded.code()
    numbers = {item_id: code[-1] for item_id, code in coded.codes().items()}
    assert [numbers[f"item-{n}"] for n in (2, 3, 0, 1)] == [0, 1, 2, 3]
    # What they are numbered by is gone: those that come are numbered by id, and that is said.
    with coded.store.lease("test"):
        coded.store.put_interactions(None)
    coded.set({"new": 5})
    report = coded.code()
    assert (report.committed, coded.codes()["new"][-1]) == (1, 4)
    assert "the store has no interactions any more" in report.notices[0]


def test_an_order_by_interactions_that_there_are_not_is_refused_before_the_fit(tmp_path):
    coded = Coded(tmp_path / "store", {f"item-{n}": n for n in range(4)}, collisions="popularity")
    with pytest.raises(UsageError, match="the store has no interactions") as caught:
        coded.code()
    assert "leave collisions out" in caught.value.hint
    assert coded.versions() == []


SEVERAL = {"inputs": ["title_text", "other"], "quantizer": "residual_kmeans", "levels": 2, "codebook_size": 4}


def run_of_several(folder, titles, **codes):
    """A job whose codes are of two features; its version of codes and its store."""
    from helpers import unrayed
    from helpers.plugins import on_path

    from mmfeat.pipelines.run import run_job
    from mmfeat.schemas.job import parse_job

    lines = ["item_id,title,description", *(f"{i},{t},about {t}" for i, t in titles.items())]
    (folder / "items.csv").write_text("\n".join(lines) + "\n")
    job = {
        "store": {"uri": str(folder / "store")},
        "dataset": {"name": "table", "root": str(folder / "items.csv")},
        "features": {
            "title_text": {"source": "title", "encoder": "digest"},
            "other": {"source": "description", "encoder": "digest"},
            "codes": SEVERAL | codes,
        },
        "run": {"max_failed": 1.0},
    }
    with on_path(unrayed.PLUGIN):
        return run_job(parse_job(job, "job.toml")).features[2], Store.open(str(folder / "store"))


@pytest.mark.parametrize("mode", ["concat", "parallel"])
def test_codes_of_several_features_stay_and_new_items_get_theirs(tmp_path, mode):
    titles = {f"item-{n:02}": f"title {n}" for n in range(12)}
    made, store = run_of_several(tmp_path, titles, mode=mode, collision_level=True)
    ids = sorted(titles)
    before = store.lookup(ids, ["codes"])["codes"].matrix
    assert (made.ok, made.dims) == (12, 3 if mode == "concat" else 5)
    again, store = run_of_several(tmp_path, titles | {"new": "a new title"}, mode=mode, collision_level=True)
    assert (again.version, again.ok, again.fitted["now"]) == (made.version, 1, False)
    np.testing.assert_array_equal(store.lookup(ids, ["codes"])["codes"].matrix, before)


def test_features_side_by_side_have_the_codes_that_each_has_alone(tmp_path):
    titles = {f"item-{n:02}": f"title {n}" for n in range(12)}
    _, store = run_of_several(tmp_path, titles, mode="parallel")
    ids = sorted(titles)
    found = store.lookup(ids, ["title_text", "other", "codes"])
    for place, name in ((slice(0, 2), "title_text"), (slice(2, 4), "other")):
        alone = ResidualKMeans.fit(found[name].matrix, levels=2, codebook_size=4, seed=0)
        np.testing.assert_array_equal(found["codes"].matrix[:, place], alone.encode(found[name].matrix))


def test_a_heavy_feature_decides_the_codes_of_a_concatenation(tmp_path):
    titles = {f"item-{n:02}": f"title {n}" for n in range(12)}
    _, store = run_of_several(tmp_path, titles, mode="concat", weights=[1000.0, 0.001])
    ids = sorted(titles)
    found = store.lookup(ids, ["title_text", "codes"])
    rows = found["title_text"].matrix
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    alone = ResidualKMeans.fit(rows, levels=2, codebook_size=4, seed=0)
    groups = {tuple(pair) for pair in zip(found["codes"].matrix[:, 0], alone.encode(rows)[:, 0], strict=True)}
    assert len(groups) == 4


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"weights": [1.0]}, "1 weights are given for 2 features"),
        ({"mode": "parallel", "weights": [1.0, 2.0]}, "have no weights"),
        ({"inputs": ["other", "title_text", "other"]}, "names 'other' twice"),
        ({"mode": "parallel", "sinkhorn_epsilon": 0.003}, "no last level"),
        ({"inputs": ["title_text", "other?"]}, "without '\\?'"),
        ({"inputs": ["title_text"], "mode": "concat"}, "of several features"),
    ],
)
def test_settings_that_do_not_go_with_the_sources_are_refused(tmp_path, wrong, said):
    with pytest.raises(ConfigError, match=said) as caught:
        run_of_several(tmp_path, {"a": "a", "b": "b"}, **wrong)
    if said in ("have no weights", "names 'other' twice"):
        assert caught.value.hint
