"""Independent readers of the formats of graph and LLM recommenders; see export_readers.py.

Where a target reads pickles these readers unpickle, as it does: the files are the tests' own.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from scipy.sparse import coo_matrix, csr_matrix, load_npz
from sklearn.feature_extraction.text import TfidfVectorizer


def _raw_ids(folder: Path) -> dict[int, str]:
    table = pq.read_table(folder / "id_map.parquet").to_pydict()
    return dict(zip(table["internal_id"], table["item_id"], strict=True))


def _users(folder: Path) -> dict[int, str]:
    table = pq.read_table(folder / "user_map.parquet").to_pydict()
    return dict(zip(table["internal_id"], table["user_id"], strict=True))


def read_rearm(folder: Path):
    """``BaseDataset``: counts are the sizes of the sets of ids; matrices are indexed by item id."""
    splits = [np.load(folder / f"{part}.npy", allow_pickle=True) for part in ("train", "valid", "test")]
    assert all(split.dtype == np.int64 and split.shape[0] == 2 for split in splits)
    train, valid, test = (split.transpose(1, 0) for split in splits)
    users, items = (set(train[:, k]) | set(valid[:, k]) | set(test[:, k]) for k in (0, 1))
    assert users == set(range(len(users))) and items == set(range(len(items)))
    assert set(train[:, 0]) == users
    ids, found = _raw_ids(folder), {}
    for role in ("image", "text"):
        matrix = np.load(folder / f"{role}_feat.npy", allow_pickle=True)
        assert matrix.dtype == np.float32 and len(matrix) == len(items)
        found[role] = {ids[k]: matrix[k] for k in range(len(items))}
    return found


def read_mmhcl(folder: Path):
    """``Data``: users are the largest training user plus 1, items the largest item of all plus 1."""
    train, val, test = (
        json.loads((folder / "5-core" / f"{p}.json").read_text()) for p in ("train", "val", "test")
    )
    n_users = max(int(user) for user, items in train.items() if items) + 1
    n_items = max(max(items) for part in (train, val, test) for items in part.values()) + 1
    assert n_users == len(train) == len(_users(folder))
    ids, found = _raw_ids(folder), {}
    for role in ("image", "text", "audio"):
        matrix = np.load(folder / f"{role}_feat.npy")
        assert matrix.dtype == np.float32 and len(matrix) == n_items
        assert (np.linalg.norm(matrix, axis=1) > 0).all()
        found[role] = {ids[k]: matrix[k] for k in range(n_items)}
    return found


def _unpickled(path: Path):
    with path.open("rb") as file:
        return pickle.load(file)


def read_rlmrec(folder: Path):
    """``parse_configure`` and ``DataHandlerGeneralCF``: counts are the training matrix's shape."""
    train, valid, test = (
        coo_matrix((_unpickled(folder / f"{part}_mat.pkl") != 0).astype(np.float32))
        for part in ("trn", "val", "tst")
    )
    assert train.shape == valid.shape == test.shape
    items, users = (_unpickled(folder / f"{side}_emb_np.pkl") for side in ("itm", "usr"))
    assert (len(users), len(items)) == train.shape
    assert users.dtype == items.dtype == np.float32
    met = train.tocsr()
    for user in range(len(users)):
        np.testing.assert_allclose(users[user], items[met[user].indices].mean(axis=0), rtol=1e-5)
    ids = _raw_ids(folder)
    return {"item": {ids[k]: items[k] for k in range(len(items))}}


def read_alpharec(folder: Path):
    """``AbstractData``: users are those of train.txt from 0 on without a gap, items those of all three."""
    lists, items = {}, set()
    for part in ("train", "valid", "test"):
        lists[part] = {}
        with (folder / "cf_data" / f"{part}.txt").open() as file:
            for line in file.readlines():
                numbers = [int(number) for number in line.strip("\n").split(" ")]
                lists[part][numbers[0]] = numbers[1:]
                items.update(numbers[1:])
    assert set(lists["train"]) == set(range(len(_users(folder))))
    matrix = np.load(folder / "item_info" / "item_cf_embeds_large3_array.npy")
    assert len(matrix) == len(items)
    ids = _raw_ids(folder)
    return {"item": {ids[k]: matrix[k] for k in sorted(items)}}


def read_a_llmrec(folder: Path):
    """``A_llmrec_model`` and ``data_partition``: everything counts from 1; a text may be absent."""
    name = folder.name
    texts = _unpickled(folder / f"{name}_text_name_dict.json.gz")
    pairs = [tuple(map(int, line.rstrip().split(" "))) for line in (folder / f"{name}.txt").open()]
    ids = _raw_ids(folder)
    assert {user for user, _ in pairs} == set(_users(folder)) == set(range(1, len(_users(folder)) + 1))
    assert {item for _, item in pairs} <= set(ids) == set(range(1, len(ids) + 1))
    assert texts["title"] == {number: f"Title of {raw}" for number, raw in ids.items()}
    return {"description": {ids[number]: text for number, text in texts["description"].items()}}


def read_mllm_msr(folder: Path):
    """``preferece_inference_recurrent.py``: pandas, then ids as texts are the index."""
    frame = pd.read_csv(folder / "image_summary.csv")
    frame["item_id"] = frame["item_id"].astype(str)
    frame.set_index("item_id", inplace=True)
    indexed = json.loads((folder / "manifest.json").read_text())["options"]["ids"] == "index"
    ids = pq.read_table(folder / "id_map.parquet")["item_id"].to_pylist()
    names = {token: ids[int(token)] if indexed else token for token in frame.index}
    return {"summary": {name: frame.loc[token, "summary"] for token, name in names.items()}}


def read_mmgrec(folder: Path):
    """``data_load.py`` and ``tgt_input.py``: items follow the users; three matrices of 128 are joined."""
    met = np.load(folder / "user_item_dict_sample.npy", allow_pickle=True).item()
    ids = _raw_ids(folder)
    n_users = len(met)
    assert sorted(met) == list(range(n_users))
    assert {item - n_users for items in met.values() for item in list(items)} <= set(ids)
    found = {}
    for role, letter in (("image", "v"), ("audio", "a"), ("text", "t")):
        matrix = np.load(folder / f"{letter}_feat_sample.npy")
        assert matrix.shape == (len(ids), 128)
        found[role] = {ids[k]: matrix[k] for k in range(len(ids))}
    return found


def read_dgvae(folder: Path):
    """``get_data`` and ``build_item_adj``; words are checked against each user's training texts."""
    name, ids = folder.name, _raw_ids(folder)
    train = pd.read_csv(folder / f"{name}.train.ratings").values
    n_users, n_items = (len(np.load(folder / f"{name}.{side}.npy")) for side in ("uid", "iid"))
    assert n_items == len(ids)
    ratings = csr_matrix((train[:, 2], (train[:, 0], train[:, 1])), shape=(n_users, n_items))
    vocabulary = json.loads((folder / f"{name}.vocab").read_text())
    words = load_npz(folder / f"{name}.user.words.tfidf.npz")
    assert isinstance(words, csr_matrix)
    assert words.shape == (n_users, len(vocabulary))
    texts = json.loads((folder / "item_texts.json").read_text())
    options = json.loads((folder / "manifest.json").read_text())["options"]
    documents = [" ".join(texts[i] for i in ratings[user].indices) for user in range(n_users)]
    again = TfidfVectorizer(vocabulary=vocabulary).fit_transform(documents)
    np.testing.assert_allclose(words.toarray(), again.toarray(), atol=1e-6)
    assert options["min_df"] == 1
    found = {"words": {ids[k]: texts[k] for k in range(n_items)}}
    for role in ("image", "text"):
        matrix = np.load(folder / f"{role}_feat.npy", allow_pickle=True)
        assert len(matrix) == n_items
        assert (np.linalg.norm(matrix, axis=1) > 0).all()
        found[role] = {ids[k]: matrix[k] for k in range(n_items)}
    return found


def read_pixelrec(folder: Path):
    """``Data._data_processing``: items are factorised in the file's order, after a pad token."""
    layout = json.loads((folder / "manifest.json").read_text())["options"]["layout"]
    frame = pd.read_csv(
        folder / f"{folder.name}.{'csv' if layout == 'pixelrec' else 'inter'}",
        delimiter=",",
        dtype={"item_id": str, "user_id": str, "timestamp": int},
        header=0,
        names=["item_id", "user_id", "timestamp"],
    )
    numbers, tokens = pd.factorize(frame["item_id"])
    assert (numbers >= 0).all()
    tokens = ["[PAD]", *tokens]
    matrix = np.load(folder / "visual_features" / "image.npy", allow_pickle=True)
    assert len(matrix) == len(tokens)
    assert matrix.dtype == np.float32 and not matrix[0].any()
    indexed = json.loads((folder / "manifest.json").read_text())["options"]["ids"] == "index"
    ids = pq.read_table(folder / "id_map.parquet")["item_id"].to_pylist()
    names = [ids[int(token) - 1] if indexed else token for token in tokens[1:]]
    return {"image": {name: matrix[k] for k, name in enumerate(names, 1)}}


READERS = {
    "a-llmrec": read_a_llmrec,
    "alpharec": read_alpharec,
    "dgvae": read_dgvae,
    "mllm-msr": read_mllm_msr,
    "mmgrec": read_mmgrec,
    "mmhcl": read_mmhcl,
    "pixelrec": read_pixelrec,
    "rearm": read_rearm,
    "rlmrec": read_rlmrec,
}

# "1e5" and "007" are numbers to pandas, and not plain ones.
REFUSED = {"mllm-msr": {"007", "1e5"}}
