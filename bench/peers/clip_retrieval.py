"""clip-retrieval: its inference on a folder of images."""

import sys
from pathlib import Path

import numpy as np
from clip_retrieval.clip_inference import clip_inference

if __name__ == "__main__":
    covers, weights, out = sys.argv[1:4]
    clip_inference(
        input_dataset=covers,
        output_folder=f"{out}/embeddings",
        clip_model=f"open_clip:ViT-B-32/{weights}",
        enable_text=False,
        batch_size=64,
        num_prepro_workers=2,
    )
    parts = sorted(Path(out).glob("embeddings/img_emb/*.npy"))
    np.save(Path(out) / "vectors.npy", np.concatenate([np.load(part) for part in parts]))
