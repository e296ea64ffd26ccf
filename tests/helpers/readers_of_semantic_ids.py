"""Independent readers of the formats of projects with semantic ids; see export_readers.py.

Each follows the lines of the project's loader that its docstring names. Where a target reads pickles
these readers unpickle, as it does: the files are the tests' own.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

from helpers.readers_of_sequences import raw_ids


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


def read_preference_discerning(folder: Path):
    """``train`` (ID_generation/generate_id.py:137-214) and ``load_data`` (GenRet/load_data.py:311-329)."""
    with (folder / f"{folder.name}_Model-B_title_price_brand_categories_embeddings.pkl").open("rb") as f:
        embeddings = pickle.load(f)
    ids = raw_ids(folder)
    assert len(embeddings) == len(ids)
    with (folder / f"{folder.name}.txt").open() as f:
        lines = [line.split(" ") for line in f]
    assert [line[0] for line in lines] == [str(k) for k in range(1, len(lines) + 1)]
    assert all({int(item) for item in line[1:]} == set(range(1, len(ids) + 1)) for line in lines)
    return {"item": {ids[k - 1]: embeddings[k - 1] for k in range(1, len(ids) + 1)}}


def read_preferdiff(folder: Path):
    """``load_item_embeddings`` (models/PreferDiff/_model.py:56-65) and ``load_data`` (recdata.py:46-59)."""
    with (folder / "openai_item_embedding.pkl").open("rb") as f:
        embeddings = torch.tensor(pickle.load(f)).float()
    embeddings = torch.cat([torch.randn_like(embeddings)[0, :].reshape(1, -1), embeddings], dim=0)
    sequences = {}
    for mode in ("", "train_", "valid_", "test_"):
        with (folder / f"{mode}data.txt").open("r") as file:
            sequences[mode] = [list(map(int, line.split())) for line in file]
    item_num = max(item for met in sequences[""] for item in met)
    assert item_num + 1 == len(embeddings)
    assert all(1 < len(met) <= 11 for mode in ("train_", "valid_", "test_") for met in sequences[mode])
    assert sum(map(len, sequences.values())) == 2 * len(sequences[""])
    return {"item": {own: embeddings[k].numpy() for k, own in enumerate(raw_ids(folder), start=1)}}


def read_unimp(folder: Path):
    """``MMRecDataset`` (rec_dataset.py:113-130, 303-316, 372-419): tokens of every item of a user."""
    id2semantic = json.loads((folder / "id2semantic.json").read_text())
    meta = json.loads((folder / "meta_all.json").read_text(encoding="utf-8"))
    ids, codes = raw_ids(folder), {}
    for part in ("train", "eval", "test"):
        data = json.loads((folder / f"{part}_users.json").read_text(encoding="utf-8"))
        for full_seq in data.values():
            seq = [item[0] for item in full_seq]
            assert len(seq) > 5
            for item in seq:
                assert meta[str(item)]["title"] == f"Title of {ids[item]}"
                assert meta[str(item)].keys() == {"category", "price", "brand", "title"}
                semantic_id = id2semantic[str(item)].split(",")
                tokens = [f"item_{id}" if i < 3 else f"item_last_{id}" for i, id in enumerate(semantic_id)]
                codes[ids[item]] = np.array([int(token.rsplit("_", 1)[1]) for token in tokens])
    return {"codes": codes}


READERS = {
    "grid": read_grid,
    "preference-discerning": read_preference_discerning,
    "preferdiff": read_preferdiff,
    "rq-vae-recommender": read_rq_vae_recommender,
    "unimp": read_unimp,
    "xiaolongtaoo-tiger": read_xiaolongtaoo_tiger,
}

# Ids of the common sample that a format refuses, as its target would mangle them.
REFUSED: dict[str, set[str]] = {}
