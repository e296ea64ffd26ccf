"""Daft: files found by a pattern, downloaded and decoded by Daft, the model in a class UDF."""

import sys
from pathlib import Path

import daft
import numpy as np
import open_clip
import torch
from daft import DataType, Series, col
from PIL import Image

covers, weights, out = sys.argv[1:4]


@daft.udf(return_dtype=DataType.embedding(DataType.float32(), 512), batch_size=64)
class Embed:
    """CLIP's image tower."""

    def __init__(self) -> None:
        self.model, _, self.preprocess = open_clip.create_model_and_transforms("ViT-B-32", pretrained=weights)
        self.model.eval()

    def __call__(self, images: Series) -> list[np.ndarray]:
        """Vectors of a batch."""
        pixels = torch.stack([self.preprocess(Image.fromarray(image)) for image in images.to_pylist()])
        with torch.inference_mode():
            return list(self.model.encode_image(pixels).numpy())


frame = daft.from_glob_path(f"{covers}/*.jpg")
frame = frame.with_column("image", col("path").download().decode_image(mode="RGB"))
frame = frame.with_column("vector", Embed(col("image"))).select("path", "vector")
rows = sorted(frame.to_pylist(), key=lambda row: row["path"])
np.save(Path(out) / "vectors.npy", np.stack([row["vector"] for row in rows]))
