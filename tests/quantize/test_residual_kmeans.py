"""Residual k-means: clusters are found, codes are coarse to fine, the same seed gives the same codes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfeat.extract.fitted.codes import ResidualKMeans as KMeans
from mmfeat.schemas.errors import UsageError


def clusters(n: int, k: int, dims: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around ``k`` far centres, and which centre each is from; every centre is used."""
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(n) % k)
    centres = 10 * rng.standard_normal((k, dims))
    return (centres[label] + noise * rng.standard_normal((n, dims))).astype(np.float32), label


def error(quantizer, vectors: np.ndarray) -> float:
    return float(((vectors - quantizer.decode(quantizer.encode(vectors))) ** 2).mean())


@pytest.mark.parametrize("seed", range(3))
def test_the_first_code_is_the_cluster(seed):
    vectors, label = clusters(600, 16, 24, noise=0.1, seed=seed)
    codes = KMeans.fit(vectors, levels=2, codebook_size=16, seed=seed).encode(vectors)
    pairs = set(zip(label.tolist(), codes[:, 0].tolist(), strict=True))
    assert len(pairs) == len({cluster for cluster, _ in pairs}) == len({code for _, code in pairs}) == 16


def test_vectors_that_are_their_centres_are_decoded_exactly():
    vectors, _ = clusters(80, 8, 5, noise=0)
    quantizer = KMeans.fit(vectors, levels=1, codebook_size=8, seed=0)
    np.testing.assert_allclose(quantizer.decode(quantizer.encode(vectors)), vectors, rtol=1e-6)


def test_two_levels_find_a_sum_of_two_codebooks():
    rng = np.random.default_rng(1)
    coarse, fine = 100 * rng.standard_normal((4, 6)), rng.standard_normal((3, 6))
    fine -= fine.mean(axis=0)
    vectors = (coarse[:, None] + fine[None]).reshape(12, 6).repeat(5, axis=0).astype(np.float32)
    quantizer = KMeans.fit(vectors, levels=2, codebook_size=4, seed=0)
    assert error(quantizer, vectors) < 1e-6
    assert len(np.unique(quantizer.encode(vectors), axis=0)) == 12


def test_error_falls_with_every_level():
    vectors = np.random.default_rng(0).standard_normal((500, 12)).astype(np.float32)
    errors = [error(KMeans.fit(vectors, levels=n, codebook_size=16, seed=3), vectors) for n in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < errors[0] / 3


def test_more_levels_keep_the_codes_of_fewer():
    vectors = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
    two, three = (KMeans.fit(vectors, levels=n, codebook_size=8, seed=0).encode(vectors) for n in (2, 3))
    np.testing.assert_array_equal(two, three[:, :2])


def test_the_seed_decides():
    vectors = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    first, again, other = (
        KMeans.fit(vectors, levels=2, codebook_size=8, seed=s).encode(vectors) for s in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_largest_seed_is_a_seed():
    KMeans.fit(np.eye(4, dtype=np.float32), levels=2, codebook_size=2, seed=2**31 - 1)


def test_a_saved_quantizer_is_the_same():
    vectors = np.random.default_rng(0).standard_normal((100, 8)).astype(np.float32)
    quantizer = KMeans.fit(vectors, levels=2, codebook_size=8, seed=0)
    loaded = KMeans.from_state(quantizer.state())
    np.testing.assert_array_equal(loaded.encode(vectors), quantizer.encode(vectors))
    assert quantizer.state()["codebooks"].shape == (2, 8, 8)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 60),
    dims=st.integers(1, 9),
    levels=st.integers(1, 3),
    distinct=st.integers(1, 60),
    data=st.data(),
)
def test_codes_have_their_shape_and_range_whatever_the_vectors(n, dims, levels, distinct, data):
    codebook_size = data.draw(st.integers(1, n))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    # Also with fewer different vectors than codes, and on very different scales.
    scale = 10.0 ** data.draw(st.integers(-6, 6))
    vectors = (scale * rng.standard_normal((distinct, dims)))[rng.integers(distinct, size=n)].astype(
        np.float32
    )
    quantizer = KMeans.fit(vectors, levels=levels, codebook_size=codebook_size, seed=0)
    codes = quantizer.encode(vectors)
    assert (codes.shape, codes.dtype) == ((n, levels), np.int32)
    assert codes.min() >= 0 and codes.max() < codebook_size
    decoded = quantizer.decode(codes)
    assert (decoded.shape, decoded.dtype) == ((n, dims), np.float32)
    assert np.isfinite(decoded).all()


def test_more_codes_than_vectors_are_refused():
    with pytest.raises(UsageError, match="A codebook of 9 needs at least as many vectors, and there are 8"):
        KMeans.fit(np.eye(8, dtype=np.float32), levels=1, codebook_size=9, seed=0)


def test_vectors_that_are_no_numbers_are_refused():
    with pytest.raises(UsageError, match="NaN or infinity"):
        KMeans.fit(np.full((4, 2), np.nan, np.float32), levels=1, codebook_size=2, seed=0)


@pytest.mark.parametrize("codes", [[[0, 4]], [[-1, 0]], [[0]]])
def test_codes_out_of_range_are_refused_by_decode(codes):
    quantizer = KMeans.fit(np.eye(4, dtype=np.float32), levels=2, codebook_size=4, seed=0)
    with pytest.raises(ValueError, match="codes"):
        quantizer.decode(np.array(codes))
