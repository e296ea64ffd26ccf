"""Content hashes as numbers are equal where the hashes are, and ids are found by theirs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from mmfeat.pipelines.planning import hashes
from mmfeat.pipelines.planning.contents import joint_hash
from mmfeat.schemas import ids as ids_module
from mmfeat.schemas.ids import Places
from mmfeat.schemas.spec import text_hash

WORDS = ["a", "b", "ü", ""]


def test_a_hash_as_numbers_and_back_is_the_same():
    written = [text_hash(word) for word in WORDS]
    found, there = hashes.from_hex(pa.array([None, *written, "short"]).slice(1))
    assert there.tolist() == [True, True, True, True, False]
    assert np.array_equal(found, hashes.of_texts(pa.array(WORDS)))
    assert hashes.to_hex(found).to_pylist() == written


def test_each_part_of_a_joint_hash_is_found_where_there_is_one():
    joint = [joint_hash(*map(text_hash, parts)) for parts in (["a", "b"], ["a"], ["b", "a", "ü"])]
    second, there = hashes.from_hex(pa.array(joint), part=1)
    assert there.tolist() == [True, False, True]
    assert hashes.to_hex(second).to_pylist() == [text_hash("b"), text_hash("a")]
    both, there = hashes.joint_from_hex(pa.array(joint), 2)
    assert there.tolist() == [True, False, True]
    assert np.array_equal(both, np.hstack([hashes.of_texts(pa.array(["a", "b"])), second]))


@pytest.mark.parametrize("same_first_word", [True, False])
def test_equal_rows_are_known_by_the_first_of_them(same_first_word):
    rows = np.random.default_rng(0).integers(0, 3, (500, 3)).astype(np.uint64)
    if same_first_word:
        rows[:, 0] = 7
    seen: dict[tuple[int, ...], int] = {}
    expected = [seen.setdefault(tuple(row), k) for k, row in enumerate(rows.tolist())]
    assert hashes.first_equal(rows).tolist() == expected
    assert hashes.first_equal(rows[:0]).tolist() == []


def test_a_finder_gives_the_row_that_is_equal_in_every_word():
    rows = hashes.of_texts(pa.array(WORDS))
    almost = rows.copy()
    almost[2, 3] += np.uint64(1)
    assert hashes.Finder(rows).find(almost[[3, 2, 0]]).tolist() == [3, -1, 0]


@pytest.mark.parametrize("alike", [False, True], ids=["hashes", "one hash for ids of a length"])
def test_an_id_is_found_in_its_place_whatever_ids_share_its_hash(monkeypatch, alike):
    if alike:
        # Ids with equal hashes cannot be made on purpose.
        monkeypatch.setattr(
            ids_module, "id_hashes", lambda ids: np.array([len(i) for i in ids.to_pylist()], np.int64)
        )
    places = Places(pa.array(["a", "bb", "c", "dd", "e"]))
    assert places.of(pa.array(["e", "x", "a", "bb", "xx", "xxx", "c", ""])).tolist() == [
        4,
        -1,
        0,
        1,
        -1,
        -1,
        2,
        -1,
    ]
    assert Places(pa.array([], pa.string())).of(pa.array(["a"])).tolist() == [-1]
