"""Independent readers of further research formats; see export_readers.py and readers_c.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch


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


READERS_D = {"dff": read_dff}
