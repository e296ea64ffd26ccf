"""Independent readers of the formats of projects with semantic ids; see export_readers.py.

Each follows the lines of the project's loader that its docstring names. Where a target reads pickles
these readers unpickle, as it does: the files are the tests' own.
"""

from __future__ import annotations

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


READERS_C = {
    "grid": read_grid,
    "xiaolongtaoo-tiger": read_xiaolongtaoo_tiger,
}

# Ids of the common sample that a format refuses, as its target would mangle them.
REFUSED_C: dict[str, set[str]] = {}
