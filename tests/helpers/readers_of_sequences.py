"""Readers for the formats of sequential, click and generative recommenders; see ``export_readers``."""

from __future__ import annotations

import ast
import gzip
import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import torch


def raw_ids(folder: Path):
    return pq.read_table(folder / "id_map.parquet")["item_id"].to_pylist()


def options(folder: Path):
    return json.loads((folder / "manifest.json").read_text())["options"]


def inter_table(path: Path):
    """RecBole's reader of atomic files."""
    frame = pd.read_csv(path, delimiter="\t", dtype=str, encoding="utf-8", engine="python")
    assert list(frame.columns) == ["user_id:token", "item_id_list:token_seq", "item_id:token"]
    return frame.set_axis(["user", "history", "item"], axis=1)


def read_unisrec(folder: Path):
    """``load_plm_embedding`` of either project, for the tokens of the three interaction files."""
    name, form = folder.name, options(folder)["form"]
    suffix = {"unisrec": "feat1CLS", "amazon2023": "Model-B.feature"}[form]
    loaded = np.fromfile(folder / f"{name}.{suffix}", dtype=np.float32).reshape(-1, 8)
    tables = [inter_table(folder / f"{name}.{part}.inter") for part in ("train", "valid", "test")]
    tokens = {token for table in tables for token in table["item"]}
    for table in tables:
        tokens |= {token for history in table["history"] for token in history.split(" ")}
    if form == "amazon2023":
        maps = json.loads((folder / f"{name}.data_maps").read_text())
        assert maps["item2id"]["[PAD]"] == 0
        found = {token: loaded[int(maps["item2id"][token]) - 1] for token in tokens}
    else:
        ids = raw_ids(folder)
        assert len(ids) == 1 or {int(t) for t in tokens} == set(range(len(ids)))
        found = {ids[row]: loaded[row] for row in range(len(loaded))}
    return {"text": found}


def read_mmctr(folder: Path):
    """``BatchCollator``: ``item_info.iloc[item_id]``, columns stacked; sequences are padded with 0."""
    info = pd.read_parquet(folder / "item_info.parquet")
    assert list(info.columns) == ["item_id", "item_tags", "item_emb_d128"]
    assert (info["item_id"].to_numpy() == np.arange(len(info))).all()
    tags = np.stack(info["item_tags"].to_numpy())
    assert (tags.shape, tags.dtype) == ((len(info), 5), np.int64)
    assert not np.any(info.iloc[0]["item_emb_d128"])
    matrix = np.stack(info["item_emb_d128"].to_numpy())
    assert matrix.dtype == np.float32
    indexed = options(folder)["ids"] == "index"
    ids = raw_ids(folder)
    names = ids if indexed else [str(k + 1) for k in range(len(ids))]
    return {"item": {own: matrix[k] for k, own in enumerate(names, start=1)}}


def read_tencentgr(folder: Path):
    """``load_mm_emb_from_parquet_folder``: a dictionary by the text of ``anonymous_cid``."""
    table = ds.dataset(str(folder / "mm_emb" / "emb_81_32_parquet"), format="parquet").to_table(
        columns=["anonymous_cid", "emb"]
    )
    data = table.to_pydict()
    found = zip(data["anonymous_cid"], data["emb"], strict=True)
    return {"item": {str(int(cid)): np.asarray(emb, dtype=np.float32) for cid, emb in found}}


def read_muse(folder: Path):
    """``FeatureEmbeddingDict``: searchsorted in the keys; a row of zeros stands before the values."""
    keys = np.load(folder / "scl_emb_int8_p90_keys.npy")
    values = np.load(folder / "scl_emb_int8_p90_values.npy")
    assert (keys.dtype, values.dtype) == (np.int64, np.int8)
    table = np.concatenate([np.zeros((1, values.shape[1]), np.int8), values])
    indexed = options(folder)["ids"] == "index"
    found = {}
    for number, own in enumerate(raw_ids(folder), start=1):
        key = number if indexed else int(own)
        place = np.searchsorted(keys, key)
        if place < len(keys) and keys[place] == key:
            found[own] = table[place + 1]
    return {"item": found}


def held_by_muse(own: np.ndarray):
    """The rule by which the released vectors were made."""
    unit = own / np.linalg.norm(own)
    return np.trunc(np.clip(unit, -1.0, 1.0) * 127).astype(np.int8)


def read_fmrlrec(folder: Path):
    """``AmazonDataset`` and ``LRUEmbedding``: a pad row goes before both matrices."""
    maps = json.loads((folder / "datamaps.json").read_text(encoding="utf-8"))
    item2id = {k: int(v) for k, v in maps["item2id"].items()}
    assert {int(k): v for k, v in maps["id2item"].items()} == {v: k for k, v in item2id.items()}
    assert pickle.loads((folder / "item2img_dict.pkl").read_bytes()) == {}
    with gzip.open(folder / "meta.json.gz") as file:
        titles = {meta["asin"]: meta["title"] for meta in map(ast.literal_eval, map(bytes.decode, file))}
    assert titles == {own: f"Title of {own}" for own in item2id}
    users = {}
    for line in (folder / "sequential_data.txt").read_text().splitlines():
        user, items = line.strip().split(" ", 1)
        users[int(user)] = [int(item) for item in items.split(" ")]
    assert set(users) == set(maps["user2id"].values())
    assert len(set().union(*users.values())) == len(item2id)
    found = {}
    for role, suffix in (("text", "_embeddings.npy"), ("image", "_img_embeddings.npy")):
        embeddings = torch.tensor(np.load(folder / f"model-b{suffix}"))
        table = torch.cat([torch.zeros(1, embeddings.size(1)), embeddings], dim=0).numpy()
        found[role] = {own: table[number] for own, number in item2id.items()}
    return found


def read_mmm4rec(folder: Path):
    """``AmazonSequentialDataset`` and ``get_text_embedding``: a pad row goes before both tensors."""
    lines = {}
    for name in ("item2id", "user2id", "train_seq", "eval_seq", "test_seq"):
        with (folder / f"{name}.jsonl").open(encoding="utf8") as file:
            lines[name] = [json.loads(line) for line in file]
    item2id = dict(lines["item2id"])
    for user, sequence in lines["test_seq"]:
        assert user in {number for _, number in lines["user2id"]}
        assert {item for item, _ in sequence} == set(item2id.values())
    found = {}
    for role in ("text", "image"):
        embed = torch.load(folder / f"{role}_feat.pth")
        table = torch.cat([torch.zeros(1, embed.shape[-1]), embed], dim=0).numpy()
        assert len(table) == len(item2id) + 1
        found[role] = {own: table[number] for own, number in item2id.items()}
    return found


def read_iisan(folder: Path):
    """``load_output(stored_vector_path + '/bert_outputs', item_id, prefix='bert')``."""
    indexed = options(folder)["ids"] == "index"
    found = {}
    for role, prefix in (("text", "bert"), ("image", "vit")):
        found[role] = {}
        for number, own in enumerate(raw_ids(folder)):
            path = folder / f"{prefix}_outputs" / f"{prefix}_{number if indexed else own}.pt"
            found[role][own] = torch.load(path).numpy()
            assert found[role][own].ndim == 2
    return found


def read_cornac(folder: Path):
    """``FeatureModality.build``: listed rows move to the places of Cornac's own id map."""
    features, ids = np.load(folder / "features.npy"), json.loads((folder / "ids.json").read_text())
    id_map, moved = {}, features.copy()
    for line in (folder / "interactions.tsv").read_text(encoding="utf-8").split("\n")[:-1]:
        user, item, rating, time = line.strip().split("\t")
        id_map.setdefault(item, len(id_map))
        assert user
        assert float(rating) == 1.0
        assert int(time) > 0
    for row, own in enumerate(ids):
        moved[id_map[own]] = features[row]
    names = raw_ids(folder) if options(folder)["ids"] == "index" else None
    return {"item": {names[int(i)] if names else i: moved[place] for i, place in id_map.items()}}


READERS = {
    "cornac": read_cornac,
    "fmrlrec": read_fmrlrec,
    "iisan": read_iisan,
    "mmctr": read_mmctr,
    "mmm4rec": read_mmm4rec,
    "muse": read_muse,
    "tencentgr": read_tencentgr,
    "unisrec": read_unisrec,
}

HELD = {"muse": held_by_muse}
