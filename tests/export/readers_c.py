"""Independent readers of the formats of projects with semantic ids; see export_readers.py.

Each follows the lines of the project's loader that its docstring names. Where a target reads pickles
these readers unpickle, as it does: the files are the tests' own.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from readers_a import raw_ids


def read_grid(folder: Path):
    """``pre_processing.py:120-149`` (``map_sparse_id_to_semantic_id``), ``274-291`` (``..._embedding``)."""
    embedding_map, id_map = torch.load(folder / "embeddings.pt"), torch.load(folder / "semantic_ids.pt")
    ids = raw_ids(folder)
    assert id_map.dtype == torch.int64 and id_map.shape == (4, len(ids))
    sequences = pq.read_table(folder / "sequences.parquet").to_pydict()
    assert sequences["user_id"] == list(range(len(sequences["user_id"])))
    assert all(set(items) == set(range(len(ids))) for items in sequences["sequence_data"])
    found = {"embedding": {}, "codes": {}}
    for number, own in enumerate(ids):
        v = torch.tensor([number])
        found["embedding"][own] = embedding_map[v].squeeze().numpy()
        found["codes"][own] = id_map.t()[v].view(-1).numpy()
    return found


def read_xiaolongtaoo_tiger(folder: Path):
    """``EmbDataset`` (rqvae/datasets.py:12), ``item2code`` and ``process_data`` (model/dataset.py:6-89)."""
    embeddings = np.stack(pd.read_parquet(folder / "item_emb.parquet")["embedding"].values, axis=0)
    data = np.load(folder / f"{folder.name}_t5_rqvae.npy", allow_pickle=True)
    ids = raw_ids(folder)
    assert len(embeddings) == len(data) == len(ids)
    sequences = {}
    for part in ("train", "valid", "test"):
        table = pd.read_parquet(folder / f"{part}.parquet")
        sequences[part] = [[*h, t] for h, t in zip(table["history"], table["target"], strict=True)]
    for train, valid, test in zip(*sequences.values(), strict=True):
        assert (train, valid) == (test[:-2], test[:-1])
        assert set(test) == set(range(1, len(ids) + 1))
    codes = {}
    for index, code in enumerate(data):
        offsets = [c + i * 256 + 1 for i, c in enumerate(code)]
        assert max(offsets) < 1025
        codes[ids[index]] = np.array([token - i * 256 - 1 for i, token in enumerate(offsets)])
    return {"embedding": dict(zip(ids, embeddings, strict=True)), "codes": codes}


def read_rq_vae_recommender(folder: Path):
    """``InMemoryDataset.load``, ``ItemData`` and ``SeqData`` (data/processed.py:59-69, 112-162).

    ``AmazonReviews`` (data/amazon.py:65-116) would make the same histories of the raw files.
    """
    raw, name = folder / "raw" / folder.name, folder.name
    data, slices = torch.load(folder / "processed" / f"data_{name}.pt", weights_only=True)
    assert slices is None
    x, text, is_train = (data["item"][key] for key in ("x", "text", "is_train"))
    assert len(text[is_train]) + len(text[~is_train]) == len(x)
    asin2id = {
        k: int(v) - 1 for k, v in json.loads((raw / "datamaps.json").read_text("utf-8"))["item2id"].items()
    }
    sequences = {sp: {"itemId": [], "itemId_fut": []} for sp in ("train", "eval", "test")}
    users = []
    for line in (raw / "sequential_data.txt").read_text().splitlines():
        user, *items = map(int, line.strip().split())
        users.append([user])
        items = [item - 1 for item in items]
        for sp, met, future in (
            ("train", items[:-2], items[-2]),
            ("eval", items[-22:-2], items[-2]),
            ("test", items[-21:-1], items[-1]),
        ):
            padding = [] if sp == "train" else [-1] * (20 - len(met))
            sequences[sp]["itemId"].append(met + padding)
            sequences[sp]["itemId_fut"].append([future])
    for sp, history in data["user", "rated", "item"]["history"].items():
        items = history["itemId"] if sp == "train" else history["itemId"].tolist()
        assert items == sequences[sp]["itemId"]
        assert history["itemId_fut"].tolist() == sequences[sp]["itemId_fut"]
        assert history["userId"].tolist() == users
    return {"item": {own: x[number, :768].numpy() for own, number in asin2id.items()}}


READERS_C = {
    "grid": read_grid,
    "rq-vae-recommender": read_rq_vae_recommender,
    "xiaolongtaoo-tiger": read_xiaolongtaoo_tiger,
}

# Ids of the common sample that a format refuses, as its target would mangle them.
REFUSED_C: dict[str, set[str]] = {}
