"""dinotool: its command on a folder of images, one vector each.

It knows hub models alone, so the model of that name is built here from the same seeded weights.
"""

import sys
from pathlib import Path

import numpy as np
import open_clip
import pandas
from dinotool.cli import main

covers, weights, out = sys.argv[1:4]


def create_model_from_pretrained(_name: str, return_transform: bool = True) -> object:
    """Stands in for open_clip's function, which would ask the hub."""
    model, _, preprocess = open_clip.create_model_and_transforms("ViT-B-32", pretrained=weights)
    return (model, preprocess) if return_transform else model


open_clip.create_model_from_pretrained = create_model_from_pretrained
options = [
    "--model-name",
    "hf-hub:timm/vit_base_patch32_clip_224.openai",
    "--save-features",
    "frame",
    "--no-vis",
]
sys.argv = [
    "dinotool",
    covers,
    "--output",
    f"{out}/covers",
    *options,
    "--batch-size",
    "64",
    "--input-size",
    "224",
    "224",
]
main()
found = Path(out) / "covers.parquet"
np.save(Path(out) / "vectors.npy", pandas.read_parquet(found).sort_index().select_dtypes("number").to_numpy())
