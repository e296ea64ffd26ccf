"""LanceDB's embedding registry: a table whose vectors are made when rows are added."""

import sys
from pathlib import Path

import lancedb
import numpy as np
from lancedb.embeddings import get_registry
from lancedb.pydantic import LanceModel, Vector

covers, weights, out = sys.argv[1:4]
clip = (
    get_registry()
    .get("open-clip")
    .create(name="ViT-B-32", pretrained=weights, device="cpu", batch_size=64, normalize=False)
)


class Cover(LanceModel):
    """A file and its vector."""

    image_uri: str = clip.SourceField()
    vector: Vector(clip.ndims()) = clip.VectorField()


table = lancedb.connect(f"{out}/lancedb").create_table("covers", schema=Cover, mode="overwrite")
table.add([{"image_uri": str(path)} for path in sorted(Path(covers).glob("*.jpg"))])
rows = table.to_arrow().sort_by("image_uri")
np.save(Path(out) / "vectors.npy", np.stack(rows["vector"].to_numpy()))
