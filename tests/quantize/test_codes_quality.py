"""Collision level, report figures and tokens against cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmfeat.extract.fitted.codes import ResidualKMeans, measure, number_collisions
from mmfeat.schemas.codes import to_tokens
from mmfeat.schemas.errors import UsageError


def quantizer(*codebooks):
    return ResidualKMeans.from_state({"codebooks": np.array(codebooks, np.float32)})


def test_equal_codes_are_numbered_in_the_order_of_the_rows():
    codes = np.array([[1, 2], [0, 0], [1, 2], [0, 1], [1, 2], [0, 0]])
    assert number_collisions(codes).tolist() == [
        [1, 2, 0],
        [0, 0, 0],
        [1, 2, 1],
        [0, 1, 0],
        [1, 2, 2],
        [0, 0, 1],
    ]


@given(arrays(np.int32, st.tuples(st.integers(1, 40), st.integers(1, 3)), elements=st.integers(0, 2)))
def test_the_collision_level_makes_all_codes_unique_and_counts_up(codes):
    full = number_collisions(codes)
    assert len(np.unique(full, axis=0)) == len(codes)
    np.testing.assert_array_equal(full[:, :-1], codes)
    seen: dict[tuple, int] = {}
    for row, number in zip(codes.tolist(), full[:, -1].tolist(), strict=True):
        assert number == seen.get(tuple(row), 0)
        seen[tuple(row)] = number + 1


def test_figures_of_a_case_worked_out_by_hand():
    # Decoded as 0, 0, 10, 10: errors 1, 1, 0, 4; around their mean 5.5: 42.25, 20.25, 20.25, 42.25.
    vectors = np.array([[-1], [1], [10], [12]], np.float32)
    one_level = quantizer([[0], [10], [100], [1000]])
    codes = one_level.encode(vectors)
    assert codes.tolist() == [[0], [0], [1], [1]]
    quality = measure(one_level, vectors, codes)
    assert quality.relative_mse == pytest.approx(6 / 125)
    assert quality.used == [0.5]
    assert quality.perplexity == [pytest.approx(2)]
    assert (quality.collision_rate, quality.largest_collision) == (1.0, 2)
    # The first two are decoded as the zero vector, which has no direction.
    assert quality.cosine == pytest.approx(0.5)


def test_use_and_collisions_are_counted_per_level_and_over_all_levels():
    codes = np.array([[0, 0], [0, 1], [0, 1], [2, 3]])
    quality = measure(quantizer(np.eye(4), np.eye(4)), np.eye(4, dtype=np.float32), codes)
    assert quality.used == [0.5, 0.75]
    # exp of -(3/4 ln 3/4 + 1/4 ln 1/4), and of -(2 * 1/4 ln 1/4 + 1/2 ln 1/2).
    assert quality.perplexity == [pytest.approx(4 / 3**0.75), pytest.approx(2**1.5)]
    assert (quality.collision_rate, quality.largest_collision) == (0.5, 2)


def test_figures_of_vectors_that_are_all_the_same():
    same = np.ones((3, 2), np.float32)
    one_level = quantizer([[1, 1]])
    quality = measure(one_level, same, one_level.encode(same))
    assert np.isnan(quality.relative_mse)
    assert quality.cosine == pytest.approx(1)
    assert quality.perplexity == [1.0]


def test_tokens_name_the_level_by_letter():
    codes = np.array([[12, 3, 7, 0], [0, 255, 1, 2]], np.int32)
    assert to_tokens(codes) == [
        ["<a_12>", "<b_3>", "<c_7>", "<d_0>"],
        ["<a_0>", "<b_255>", "<c_1>", "<d_2>"],
    ]


def test_tokens_are_refused_for_more_levels_than_letters_and_for_masked_rows():
    with pytest.raises(UsageError, match="27 levels"):
        to_tokens(np.zeros((1, 27), np.int32))
    with pytest.raises(UsageError, match="no codes"):
        to_tokens(np.array([[-1, -1]]))
