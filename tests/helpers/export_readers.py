"""One independent reader per format, written from the target's loading rule without mmfeat.

A reader takes the export's folder and returns role (or feature) to raw item id to value.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file

from helpers import (
    readers_of_generators,
    readers_of_graphs_and_llms,
    readers_of_mmssl_hllm_hm4sr,
    readers_of_semantic_ids,
    readers_of_sequences,
)


def read_parquet(folder: Path):
    table = pq.read_table(folder / "features.parquet").to_pydict()
    ids = table.pop("item_id")
    return {
        name: {
            i: v if isinstance(v, str) else np.array(v)
            for i, v in zip(ids, values, strict=True)
            if v is not None
        }
        for name, values in table.items()
    }


def read_feast(folder: Path):
    """The file source's columns that features.py declares as fields, by the entity's join key."""
    declared = re.findall(r'Field\(name="(\w+)"', (folder / "features.py").read_text())
    table = pd.read_parquet(folder / "features.parquet").set_index("item_id")
    return {name: dict(table[name].dropna()) for name in declared}


def read_npy(folder: Path):
    ids = json.loads((folder / "ids.json").read_text())
    found = {}
    for path in folder.glob("*.npy"):
        if not path.name.endswith((".mask.npy", ".offsets.npy")):
            mask = folder / f"{path.stem}.mask.npy"
            present = np.load(mask) if mask.exists() else np.ones(len(ids), bool)
            matrix = np.load(path)
            if (offsets := folder / f"{path.stem}.offsets.npy").exists():
                matrix = ragged(matrix, np.load(offsets))
            assert len(matrix) == len(ids)
            found[path.stem] = {i: row for i, row, ok in zip(ids, matrix, present, strict=True) if ok}
    for path in folder.glob("*.json"):
        if path.name not in ("ids.json", "manifest.json"):
            texts = json.loads(path.read_text())
            found[path.stem] = {i: t for i, t in zip(ids, texts, strict=True) if t is not None}
    return found


def ragged(values, offsets):
    assert offsets[0] == 0 and offsets[-1] == len(values)
    return [values[start:end] for start, end in pairwise(offsets)]


def read_safetensors(folder: Path):
    ids = json.loads((folder / "ids.json").read_text())
    tensors = load_file(folder / "features.safetensors")
    masks = {name: tensors.pop(name) for name in list(tensors) if name.endswith(".mask")}
    offsets = {name: tensors.pop(name) for name in list(tensors) if name.endswith(".offsets")}
    found = {}
    for name, matrix in tensors.items():
        if f"{name}.offsets" in offsets:
            matrix = ragged(matrix, offsets[f"{name}.offsets"])
        present = masks.get(f"{name}.mask", np.ones(len(ids), bool))
        found[name] = {i: row for i, row, ok in zip(ids, matrix, present, strict=True) if ok}
    return found


def read_mmrec(folder: Path):
    """``RecDataset``: items are counted by the largest itemID; matrices are indexed by itemID."""
    inter = pd.read_csv(folder / f"{folder.name}.inter", usecols=["userID", "itemID", "x_label"], sep="\t")
    n_items = int(inter["itemID"].max()) + 1
    mapping = pd.read_csv(
        folder / "i_id_mapping.csv", sep="\t", dtype={"asin": str}, keep_default_na=False, na_values=[]
    )
    assert list(mapping.columns) == ["asin", "itemID"]
    found = {}
    for role in ("image", "text"):
        matrix = np.load(folder / f"{role}_feat.npy", allow_pickle=True)
        assert len(matrix) == n_items
        assert matrix.dtype == np.float32
        assert (np.linalg.norm(matrix, axis=1) > 0).all()
        found[role] = {a: matrix[k] for a, k in zip(mapping["asin"], mapping["itemID"], strict=True)}
    return found


def read_recbole(folder: Path):
    """``Dataset._load_feat`` and ``_preload_weight_matrix``: tokens are factorised over both files."""
    features = recbole_table(folder / f"{folder.name}.itememb")
    vectors = [np.array(list(map(float, filter(None, v.split(" "))))) for v in features["item_emb"]]
    interactions = recbole_table(folder / f"{folder.name}.inter")
    tokens, vocabulary = pd.factorize(
        np.concatenate([interactions["item_id"].values, features["iid"].values])
    )
    weights = np.zeros((len(vocabulary) + 1, max(map(len, vectors))))
    for token, vector in zip(tokens[len(interactions) :] + 1, vectors, strict=True):
        weights[token, : len(vector)] = vector
    names = list(vocabulary)
    if json.loads((folder / "manifest.json").read_text())["options"]["ids"] == "index":
        ids = pq.read_table(folder / "id_map.parquet")["item_id"].to_pylist()
        names = [ids[int(token)] for token in names]
    return {"item": {name: weights[k + 1].astype(np.float32) for k, name in enumerate(names)}}


def recbole_table(path: Path) -> pd.DataFrame:
    with path.open(encoding="utf-8") as file:
        fields = file.readline()[:-1].split("\t")
    dtype = {f: np.float64 if f.endswith(":float") else str for f in fields}
    frame = pd.read_csv(path, delimiter="\t", dtype=dtype, encoding="utf-8", engine="python")
    frame.columns = [f.split(":")[0] for f in fields]
    return frame


def read_lc_rec(folder: Path):
    """``EmbDataset`` and ``index.json``: row, and key, = the number of ``item2id``."""
    name = folder.name
    numbers = {}
    for line in (folder / f"{name}.item2id").read_text(encoding="utf-8").removesuffix("\n").split("\n"):
        raw, number = line.split("\t")
        numbers[raw] = int(number)
    embeddings = np.load(folder / f"{name}.emb-model-b-td.npy")
    index = json.loads((folder / f"{name}.index.json").read_text())
    items = json.loads((folder / f"{name}.item.json").read_text())
    assert len(embeddings) == len(index) == len(items) == len(numbers)
    assert all(items[str(n)]["title"] == f"Title of {raw}" for raw, n in numbers.items())
    codes = {}
    for raw, number in numbers.items():
        letters = [token[1] for token in index[str(number)]]
        assert letters == list("abcdefgh"[: len(letters)])
        codes[raw] = np.array([int(token.strip("<>").split("_")[1]) for token in index[str(number)]])
    return {"embedding": {raw: embeddings[n] for raw, n in numbers.items()}, "codes": codes}


def read_elliot(folder: Path):
    """``VisualAttribute``: every file of the folder is an item, its name the integer before the dot."""
    ids = pq.read_table(folder / "id_map.parquet").to_pydict()
    raw = dict(zip(ids["internal_id"], ids["item_id"], strict=True))
    found = {}
    for role, name in (("image", "visual"), ("text", "textual"), ("audio", "audio")):
        paths = list((folder / f"{name}_features").iterdir())
        found[role] = {raw[int(p.name.split(".")[0])]: np.load(p) for p in paths}
        assert all(v.ndim == 1 and v.dtype == np.float32 for v in found[role].values())
    train = pd.read_csv(folder / "dataset.tsv", sep="\t", header=None)
    assert set(train[1]) == set(raw)
    return found


def read_ducho(folder: Path):
    """``create_output_file``: output/backend/model/layer/id.npy, arrays with a batch axis of one."""
    indexed = json.loads((folder / "manifest.json").read_text())["options"]["ids"] == "index"
    ids = pq.read_table(folder / "id_map.parquet")["item_id"].to_pylist()
    found = {}
    for role, name in (("image", "visual"), ("text", "textual"), ("audio", "audio")):
        found[role] = {}
        layer = folder / f"{name}_embeddings" / "transformers" / "Model-B" / "output"
        for path in layer.iterdir() if layer.exists() else []:
            token = path.name.split(".")[0]
            array = np.load(path)
            assert array.shape[0] == 1
            found[role][ids[int(token)] if indexed else token] = array[0]
    return found


def read_hf(folder: Path):
    """``Dataset.load_from_disk``: the Arrow streams that state.json lists, one after the other."""
    state = json.loads((folder / "state.json").read_text())
    rows = []
    for entry in state["_data_files"]:
        with pa.memory_map(str(folder / entry["filename"])) as file:
            rows += pa.ipc.open_stream(file).read_all().to_pylist()
    names = [name for name in rows[0] if name != "item_id"]
    return {
        name: {
            r["item_id"]: r[name] if isinstance(r[name], str) else np.array(r[name])
            for r in rows
            if r[name] is not None
        }
        for name in names
    }


def read_tiger(folder: Path):
    """An item's codes are the columns code_0, code_1, ... in the order of their numbers."""
    table = pd.read_parquet(folder / "semantic_ids.parquet").set_index("item_id")
    levels = sorted(table.columns, key=lambda name: int(name.removeprefix("code_")))
    return {"codes": {item_id: row.to_numpy() for item_id, row in table[levels].iterrows()}}


def read_trie(folder: Path):
    """As a decoder does that may take any code that follows: every way down, and the items at its end."""
    read, found = json.loads((folder / "trie.json").read_text(encoding="utf-8")), {}

    def down(node, codes):
        if len(codes) == read["levels"]:
            found.update((item_id, np.array(codes)) for item_id in node)
        else:
            for code, below in node.items():
                down(below, [*codes, int(code)])

    down(read["trie"], [])
    return {"codes": found}


READERS = {
    "ducho": read_ducho,
    "elliot": read_elliot,
    "feast": read_feast,
    "hf": read_hf,
    "lc-rec": read_lc_rec,
    "mmrec": read_mmrec,
    "npy": read_npy,
    "parquet": read_parquet,
    "recbole": read_recbole,
    "safetensors": read_safetensors,
    "tiger": read_tiger,
    "trie": read_trie,
    **readers_of_sequences.READERS,
    **readers_of_graphs_and_llms.READERS,
    **readers_of_semantic_ids.READERS,
    **readers_of_generators.READERS,
    **readers_of_mmssl_hllm_hm4sr.READERS,
}

# What a target holds of a value, where it is not the value itself.
HELD = readers_of_sequences.HELD

# Ids of the sample for a format whose target goes by integers.
_INTEGERS = ["10", "9", "7", "3", "1", "2", "12", "11", "8", "4", "6", "5"]
SAMPLE_IDS = {"dff": _INTEGERS, "mmctr": _INTEGERS, "muse": _INTEGERS, "tencentgr": _INTEGERS}

# Ids of the common sample that a format refuses, as its target would mangle them.
REFUSED = {"ducho": {"B00.1"}, **readers_of_graphs_and_llms.REFUSED, **readers_of_semantic_ids.REFUSED}
