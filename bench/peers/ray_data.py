"""A plain Ray Data script: images read by Ray, a class with the model mapped over batches."""

import os
import sys
from pathlib import Path

import numpy as np
import open_clip
import ray
import torch
from PIL import Image

covers, weights, out = sys.argv[1:4]


class Embed:
    """CLIP's image tower, one per worker."""

    def __init__(self) -> None:
        self.model, _, self.preprocess = open_clip.create_model_and_transforms("ViT-B-32", pretrained=weights)
        self.model.eval()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Vectors of a batch."""
        pixels = torch.stack([self.preprocess(Image.fromarray(image)) for image in batch["image"]])
        with torch.inference_mode():
            vectors = self.model.encode_image(pixels).numpy()
        return {"path": batch["path"], "vector": vectors}


# By default it would join a cluster that an earlier program left the address of.
ray.init(address="local", log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
images = ray.data.read_images(covers, mode="RGB", include_paths=True)
# A core is left to reading: a model takes one for as long as it lives.
embedded = images.map_batches(Embed, batch_size=64, concurrency=max(1, len(os.sched_getaffinity(0)) - 1))
embedded.write_parquet(f"{out}/parquet")
rows = sorted(ray.data.read_parquet(f"{out}/parquet").take_all(), key=lambda row: row["path"])
np.save(Path(out) / "vectors.npy", np.stack([row["vector"] for row in rows]))
