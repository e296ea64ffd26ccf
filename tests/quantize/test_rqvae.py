"""RQ-VAE: better than the mean, clusters kept together, seeded, the same after loading."""

import numpy as np
import pytest
import torch

from mmfeat.extract.fitted.codes import RqVae, measure

LEVELS, CODES, DIMS = 2, 8, 16


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def label():
    return np.random.default_rng(1).permutation(np.arange(120) % 6)


@pytest.fixture(scope="module")
def vectors(label):
    """Six clusters of small vectors far from the origin: neither scale nor offset may matter."""
    rng = np.random.default_rng(0)
    centres = 0.05 * rng.standard_normal((6, DIMS))
    return (3 + centres[label] + 0.005 * rng.standard_normal((len(label), DIMS))).astype(np.float32)


def fitted(vectors, seed=0):
    return RqVae.fit(vectors, levels=LEVELS, codebook_size=CODES, seed=seed)


@pytest.fixture(scope="module")
def quantizer(vectors):
    return fitted(vectors)


def test_it_decodes_far_better_than_the_mean(quantizer, vectors):
    quality = measure(quantizer, vectors, quantizer.encode(vectors))
    assert quality.relative_mse < 0.1


def test_items_of_two_clusters_never_share_all_codes(quantizer, vectors, label):
    codes = quantizer.encode(vectors)
    pairs = {(tuple(row), cluster) for row, cluster in zip(codes.tolist(), label.tolist(), strict=True)}
    assert len(pairs) == len({row for row, _ in pairs})


def test_codes_and_vectors_have_their_shapes_and_ranges(quantizer, vectors):
    codes = quantizer.encode(vectors)
    assert (codes.shape, codes.dtype) == ((120, LEVELS), np.int32)
    assert codes.min() >= 0 and codes.max() < CODES
    decoded = quantizer.decode(codes)
    assert (decoded.shape, decoded.dtype) == (vectors.shape, np.float32)


def test_the_same_seed_gives_the_same_codes_and_leaves_the_callers_random_numbers_alone(quantizer, vectors):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    again = fitted(vectors)
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(again.encode(vectors), quantizer.encode(vectors))


def test_a_saved_quantizer_is_the_same(quantizer, vectors):
    loaded = RqVae.from_state(quantizer.state())
    codes = quantizer.encode(vectors)
    np.testing.assert_array_equal(loaded.encode(vectors), codes)
    np.testing.assert_array_equal(loaded.decode(codes), quantizer.decode(codes))
    assert (loaded.levels, loaded.codebook_size, loaded.dims) == (LEVELS, CODES, DIMS)
