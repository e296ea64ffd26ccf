"""Independent readers of the formats of MMSSL, HLLM and HM4SR; see export_readers.py.

Where a target reads pickles these readers unpickle, as it does: the files are the tests' own.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch


def read_mmssl(folder: Path):
    """``Data`` and ``Trainer``: counts are those of the splits, and again the shape of ``train_mat``."""
    train, val, test = (
        json.loads((folder / f"{part}.json").read_text()) for part in ("train", "val", "test")
    )
    n_users = max(int(user) for user, items in train.items() if items) + 1
    n_items = max(max(items) for part in (train, val, test) for items in part.values()) + 1
    with (folder / "train_mat").open("rb") as file:
        graph = pickle.load(file)
    assert (graph.format, graph.shape, graph.dtype) == ("csr", (n_users, n_items), np.float32)
    for user in range(n_users):
        # As the trainer takes the users of a batch, and LLMRec's scripts one user.
        assert (
            set(graph[[user]].todense().A1.nonzero()[0])
            == set(train[str(user)])
            == set(graph[user].nonzero()[1])
        )
    assert graph.max() == 1
    ids = pq.read_table(folder / "id_map.parquet").to_pydict()
    found = {}
    for role in ("image", "text"):
        matrix = np.load(folder / f"{role}_feat.npy")
        assert matrix.dtype == np.float32 and len(matrix) == n_items
        found[role] = {own: matrix[k] for own, k in zip(ids["item_id"], ids["internal_id"], strict=True)}
    return found


def read_hllm(folder: Path):
    """``Data`` and ``load_content``: a dictionary of texts by item, of which missing ones are left out."""
    inter = pd.read_csv(
        folder / "dataset" / f"{folder.name}.csv",
        delimiter=",",
        dtype={"item_id": str, "user_id": str, "timestamp": int},
        header=0,
        names=["item_id", "user_id", "timestamp"],
    )
    assert inter.groupby("user_id")["timestamp"].apply(lambda times: times.is_monotonic_increasing).all()
    assert pd.to_datetime(inter["timestamp"], unit="s").dt.year.between(2000, 2100).all()
    _, tokens = pd.factorize(inter["item_id"])
    manifest = json.loads((folder / "manifest.json").read_text())
    text_keys = list(manifest["features"])
    env = pd.read_csv(folder / "information" / f"{folder.name}.csv", delimiter=",", dtype={"item_id": str})
    titles = dict(zip(env["item_id"], env["title"], strict=True))
    env = env[[*text_keys, "item_id"]].set_index("item_id").T.to_dict()
    assert set(tokens) <= set(env)
    ids = pq.read_table(folder / "id_map.parquet")["item_id"].to_pylist()
    raw = {token: ids[int(token)] if manifest["options"]["ids"] == "index" else token for token in env}
    assert titles == {token: f"Title of {own}" for token, own in raw.items()}
    return {
        key: {
            raw[token]: str(texts[key])
            for token, texts in env.items()
            if texts[key] and str(texts[key]) != "nan"
        }
        for key in text_keys
    }


def read_hm4sr(folder: Path):
    """RecBole's numbers of items, from 1 in the order of the file, and ``HM4SR.__init__``'s three tensors."""
    frame = pd.read_csv(folder / f"{folder.name}.inter", delimiter="\t", dtype=str, engine="python")
    assert list(frame.columns) == ["user_id:token", "item_id:token", "timestamp:float"]
    _, tokens = pd.factorize(frame["item_id:token"])
    ids = pq.read_table(folder / "id_map.parquet").to_pydict()
    raw = dict(zip(map(str, ids["internal_id"]), ids["item_id"], strict=True))
    found = {}
    for role, name in (("text", "txt_emb.pt"), ("image", "img_emb.pt")):
        table = torch.nn.Embedding.from_pretrained(torch.load(folder / name))
        assert table.weight.shape == (len(tokens) + 1, 768) and not table.weight[0].any()
        found[role] = {raw[token]: table.weight[k].numpy() for k, token in enumerate(tokens, start=1)}
    marks = torch.load(folder / "cat.pt").float()
    assert len(marks) == len(tokens) + 1 and not marks[0].any()
    with (folder / "interval_num").open("rb") as file:
        assert type(pickle.load(file)) is float
    return found


READERS = {"hllm": read_hllm, "hm4sr": read_hm4sr, "mmssl": read_mmssl}
