"""Independent readers of the formats of generators and retrievers; see export_readers.py."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from helpers.readers_of_sequences import raw_ids


def read_dff(folder: Path):
    """``read_items``, ``read_behaviors`` (utils/load_data.py); rows by video number (model/model_dff.py)."""
    embs = {
        "video": torch.load(folder / "features" / "all_layers_tensor.pt"),
        "audio": torch.from_numpy(np.load(folder / "features" / "laionclap_fusion_audio_feature.npy")),
    }
    assert not any(tensor[0].any() for tensor in embs.values())
    names = {str(number): own for own, number in json.loads((folder / "item2id.json").read_text()).items()}
    last = len(names)
    counts = [0] * (last + 1)
    with (folder / f"{folder.name}_pairs.tsv").open() as f:
        for line in f:
            history = line.strip("\n").split("\t")[1].strip().split(" ")
            assert len(history) >= 5
            for name in history[-13:]:
                counts[int(name)] += 1
    keys, item_id = {}, 1
    for before in range(1, last + 1):
        if counts[before] != 0:
            keys[item_id] = str(before)
            item_id += 1
    return {
        role: {names[key]: tensor[torch.tensor(now)].numpy() for now, key in keys.items()}
        for role, tensor in embs.items()
    }


def read_pigeon(folder: Path):
    """``evaluate_pigeon.py:160-240`` and ``data_utils.py:190``: everything is indexed by image id."""
    all_clip_feats = torch.tensor(np.load(folder / "all_clip_feats.npy", allow_pickle=True))
    all_dino_feats = torch.tensor(np.load(folder / "all_dino_feats.npy"))
    semantics = np.load(folder / "sticker_semantics.npy", allow_pickle=True).tolist()
    ids = raw_ids(folder)
    assert len(all_clip_feats) == len(all_dino_feats) == len(semantics) == len(ids)
    return {
        "clip": {own: all_clip_feats[[iid]][0].numpy() for iid, own in enumerate(ids)},
        "dino": {own: all_dino_feats[iid].numpy() for iid, own in enumerate(ids)},
        "semantics": {own: semantics[iid] for iid, own in enumerate(ids)},
    }


def read_universalrag(folder: Path):
    """``InternImgRetriever.load_feats`` (eval/retrieve/retrieve_image.py:17-49)."""
    with (folder / f"{folder.name}.pkl").open("rb") as f:
        imgfeats = pickle.load(f)
    with (folder / f"{folder.name}_imgcap.pkl").open("rb") as f:
        imgcapfeats = pickle.load(f)
    stacked = np.stack([0.2 * imgcapfeats[img_id] + 0.8 * feat for img_id, feat in imgfeats.items()])
    assert stacked.dtype == np.float32
    return {"item": imgfeats, "caption": imgcapfeats}


def read_clamr(folder: Path):
    """``load_from_disk`` (src/main.py:296) and ``MultimodalCollator`` (src/multimodal_collator.py:71-98)."""
    (split,) = json.loads((folder / "dataset_dict.json").read_text())["splits"]
    state = json.loads((folder / split / "state.json").read_text())
    rows = []
    for entry in state["_data_files"]:
        with pa.memory_map(str(folder / split / entry["filename"])) as file:
            rows += pa.ipc.open_stream(file).read_all().to_pylist()
    assert all(row.get("query") is None for row in rows)
    found = {"ocr": {}, "description": {}, "asr": {}}
    for row in rows:
        for m in ("video", *found):
            value = row.get("images" if m == "video" else m)
            if value is None or (isinstance(value, list) and len(value) == 0):
                continue
            found[m][row["video_id"]] = value
    return found


READERS = {"clamr": read_clamr, "dff": read_dff, "pigeon": read_pigeon, "universalrag": read_universalrag}
