"""Pickles are written byte by byte, load everywhere, and are never loaded by mmfeat."""

import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfeat.export import pickles

MATRIX = np.arange(12, dtype=np.float32).reshape(4, 3)


def loaded(path):
    with path.open("rb") as file:
        return pickle.load(file)


def written(path, matrix=MATRIX):
    pickles.write_array(path, matrix.shape, matrix.dtype, [matrix[:1], matrix[1:]])
    return path


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.int64])
def test_an_array_written_in_blocks_loads_as_it_was(tmp_path, dtype):
    matrix = MATRIX.astype(dtype)
    found = loaded(written(tmp_path / "a.pkl", matrix))
    np.testing.assert_array_equal(found, matrix)
    assert found.dtype == dtype
    np.testing.assert_array_equal(pickles.read_array(tmp_path / "a.pkl", (4, 3), np.dtype(dtype)), matrix)


def test_it_names_only_what_old_and_new_numpy_and_scipy_know(tmp_path):
    written(tmp_path / "a.pkl")
    pickles.write_coo(tmp_path / "m.pkl", np.array([0]), np.array([1]), (2, 2))
    pickles.write_csr(tmp_path / "r.pkl", np.array([0]), np.array([1]), (2, 2))
    for name in ("a.pkl", "m.pkl", "r.pkl"):
        data = (tmp_path / name).read_bytes()
        assert b"numpy.core.multiarray" in data
        assert not any(new in data for new in (b"numpy._core", b"scipy.sparse._"))


def test_a_sparse_matrix_loads_with_its_places_and_shape(tmp_path):
    pickles.write_coo(tmp_path / "m.pkl", np.array([0, 2, 2]), np.array([1, 0, 0]), (3, 2))
    found = loaded(tmp_path / "m.pkl")
    assert (found.format, found.shape, found.dtype) == ("coo", (3, 2), np.float32)
    np.testing.assert_array_equal(found.toarray(), [[0, 1], [0, 0], [2, 0]])


def test_a_sparse_matrix_by_rows_has_a_one_at_each_place(tmp_path):
    pickles.write_csr(tmp_path / "m.pkl", np.array([2, 0, 2, 2]), np.array([1, 1, 0, 1]), (4, 2))
    found = loaded(tmp_path / "m.pkl")
    assert (found.format, found.shape, found.dtype) == ("csr", (4, 2), np.float32)
    np.testing.assert_array_equal(found.toarray(), [[0, 1], [0, 0], [1, 1], [0, 0]])
    assert found[2].nnz == 2


def test_an_object_in_an_npy_file_loads(tmp_path):
    pickles.write_object_npy(tmp_path / "o.npy", {0: [3, 4], 1: []})
    assert np.load(tmp_path / "o.npy", allow_pickle=True).item() == {0: [3, 4], 1: []}


def test_a_vector_of_numbers_loads_as_a_list_of_pythons_own(tmp_path):
    numbers = [np.array([-1, 2**31 - 1]), np.array([0.5, -1e300]), np.empty(0)]
    pickles.write_plain(tmp_path / "p", numbers)
    found = loaded(tmp_path / "p")
    assert found == [[-1, 2**31 - 1], [0.5, -1e300], []] == pickles.read_plain(tmp_path / "p")
    assert [type(number) for part in found for number in part] == [int, int, float, float]
    pickles.write_plain(tmp_path / "one", 0.1)
    assert loaded(tmp_path / "one") == 0.1 == pickles.read_plain(tmp_path / "one")


def test_a_dict_of_arrays_loads_as_it_was_and_is_read_without_loading(tmp_path):
    arrays = {"a/ü.jpg": MATRIX[0], "": MATRIX[1], "視" * 300: MATRIX[2]}
    pickles.write_arrays(tmp_path / "d.pkl", arrays.items())
    read = dict(pickles.read_arrays(tmp_path / "d.pkl", (3,), np.dtype(np.float32)))
    for found in (loaded(tmp_path / "d.pkl"), read):
        assert list(found) == list(arrays)
        for key, array in arrays.items():
            np.testing.assert_array_equal(found[key], array)


@pytest.mark.parametrize("place", [1, 3, 40, -1])
def test_a_dict_of_arrays_with_a_changed_head_or_tail_is_not_read(tmp_path, place):
    pickles.write_arrays(tmp_path / "d.pkl", [("key", MATRIX[0])])
    data = bytearray((tmp_path / "d.pkl").read_bytes())
    data[place] ^= 1
    (tmp_path / "d.pkl").write_bytes(data)
    with pytest.raises(ValueError, match="not the pickle of a dict"):
        list(pickles.read_arrays(tmp_path / "d.pkl", (3,), MATRIX.dtype))


@pytest.mark.parametrize("texts", [[], ["one", "ü\n視", ""]])
def test_texts_in_an_npy_file_load_and_are_read_without_loading(tmp_path, texts):
    pickles.write_texts_npy(tmp_path / "t.npy", texts)
    found = np.load(tmp_path / "t.npy", allow_pickle=True)
    assert (found.dtype, found.shape) == (np.dtype(object), (len(texts),))
    assert found.tolist() == texts == pickles.read_texts_npy(tmp_path / "t.npy")


@pytest.mark.parametrize("value", [["a", ["b"]], {"a": 1}])
def test_an_npy_file_of_other_objects_is_not_read_as_texts(tmp_path, value):
    np.save(tmp_path / "t.npy", np.array([value, None], object), allow_pickle=True)
    with pytest.raises(ValueError, match="not an object array of texts"):
        pickles.read_texts_npy(tmp_path / "t.npy")


@pytest.mark.parametrize("shape", [(3, 4), (4, 4), (2, 3), (12,)])
def test_an_array_of_another_shape_is_not_read(tmp_path, shape):
    with pytest.raises(ValueError, match="not the pickle of a float32 array"):
        pickles.read_array(written(tmp_path / "a.pkl"), shape, MATRIX.dtype)


@pytest.mark.parametrize("place", [1, 30, -1])
def test_a_changed_head_or_tail_is_not_read(tmp_path, place):
    data = bytearray(written(tmp_path / "a.pkl").read_bytes())
    data[place] ^= 1
    (tmp_path / "a.pkl").write_bytes(data)
    with pytest.raises(ValueError, match="not the pickle"):
        pickles.read_array(tmp_path / "a.pkl", (4, 3), MATRIX.dtype)


plain = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.dictionaries(st.integers(1, 2**31 - 1), st.text() | st.lists(st.integers(-5, 5), max_size=3)),
    max_size=3,
)


@given(value=plain)
def test_plain_data_loads_as_it_was_and_is_read_without_loading(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("plain") / "p"
    pickles.write_plain(path, value)
    assert loaded(path) == value == pickles.read_plain(path)


class Bomb:
    def __reduce__(self):
        return os.mkdir, (str(self.place),)


def test_a_pickle_that_calls_something_is_refused_and_not_run(tmp_path):
    bomb = Bomb()
    bomb.place = tmp_path / "went off"
    for value in (bomb, {"title": bomb}):
        (tmp_path / "p").write_bytes(pickle.dumps(value, protocol=4))
        with pytest.raises(ValueError, match="which mmfeat never writes"):
            pickles.read_plain(tmp_path / "p")
    with pytest.raises(ValueError, match="not the pickle"):
        pickles.read_array(tmp_path / "p", (4, 3), MATRIX.dtype)
    assert not bomb.place.exists()


def test_a_pickle_cut_short_is_refused(tmp_path):
    pickles.write_plain(tmp_path / "p", {"a": {1: "x"}})
    (tmp_path / "p").write_bytes((tmp_path / "p").read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"exhausted|cut short"):
        pickles.read_plain(tmp_path / "p")
