"""The plain PyTorch loops that an engineer would write: DataLoader, batches of 64, np.save.

``python -m bench.plain clip|offline FOLDER OUT``: prints items per second, start-up aside, as JSON.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

BATCH = 64
CLIP_FRAMES = 4

Preprocess = Callable[[Image.Image], torch.Tensor]


class Covers(Dataset[torch.Tensor]):
    """The JPEGs of a folder, preprocessed: ``[3, h, w]`` each."""

    def __init__(self, folder: Path, preprocess: Preprocess) -> None:
        self.paths = sorted((folder / "covers").glob("*.jpg"))
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.preprocess(Image.open(self.paths[index]).convert("RGB"))


class Clips(Dataset[torch.Tensor]):
    """Four uniform frames of each clip, preprocessed: ``[4, 3, h, w]``."""

    def __init__(self, folder: Path, preprocess: Preprocess) -> None:
        self.paths = sorted((folder / "videos").glob("*.mp4"))
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        import decord

        reader = decord.VideoReader(str(self.paths[index]), num_threads=1)
        middles = ((np.arange(CLIP_FRAMES) + 0.5) * len(reader) / CLIP_FRAMES).astype(int)
        frames = reader.get_batch(middles.tolist()).asnumpy()
        return torch.stack([self.preprocess(Image.fromarray(frame)) for frame in frames])


class Timed:
    """Seconds and items per loop; the first batch is left out: it waits for the loader to start."""

    def __init__(self) -> None:
        self.items = 0
        self.seconds = 0.0

    def run(
        self, data: Dataset[torch.Tensor], encode: Callable[[torch.Tensor], torch.Tensor], batch: int
    ) -> np.ndarray:
        """Encode everything; ``[n, dims]``."""
        rows, last = [], None
        with torch.inference_mode():
            for pixels in DataLoader(data, batch_size=batch, num_workers=torch.get_num_threads()):
                rows.append(encode(pixels).float().numpy())
                now = time.perf_counter()
                if last is not None:
                    self.items += len(pixels)
                    self.seconds += now - last
                last = now
        return np.concatenate(rows)


def clip(folder: Path, out: Path) -> Timed:
    """CLIP ViT-B/32, random weights, on the covers."""
    import open_clip

    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms("ViT-B-32")
    timed = Timed()
    np.save(out / "clip.npy", timed.run(Covers(folder, preprocess), model.eval().encode_image, BATCH))
    return timed


def offline(folder: Path, out: Path) -> Timed:
    """What the preset ``offline`` computes: CNN vectors and labels of covers, CNN vectors of clips,
    MiniLM of titles and of the labels."""
    model, preprocess, labels, minilm = _offline_models()
    timed, said = Timed(), []

    def covers(pixels: torch.Tensor) -> torch.Tensor:
        features = model.forward_head(model.forward_features(pixels), pre_logits=True)
        best = model.classifier(features).softmax(1).topk(5).indices.tolist()
        said.extend("tags: " + ", ".join(labels(i) for i in row) for row in best)
        return features

    def clips(pixels: torch.Tensor) -> torch.Tensor:
        flat = model.forward_head(model.forward_features(pixels.flatten(0, 1)), pre_logits=True)
        return flat.unflatten(0, pixels.shape[:2]).mean(1)

    np.save(out / "covers.npy", timed.run(Covers(folder, preprocess), covers, BATCH))
    np.save(out / "clips.npy", timed.run(Clips(folder, preprocess), clips, BATCH // CLIP_FRAMES))
    with (folder / "titles.csv").open() as file:
        titles = [row["title"] for row in csv.DictReader(file)]
    for name, texts in (("titles", titles), ("tags", said)):
        began = time.perf_counter()
        np.save(out / f"{name}.npy", minilm.encode(texts, batch_size=BATCH, show_progress_bar=False))
        timed.items += len(texts)
        timed.seconds += time.perf_counter() - began
    return timed


def _offline_models() -> tuple[Any, Preprocess, Callable[[int], str], Any]:
    """The same weights as mmfeat's own, in upstream's hands."""
    from sentence_transformers import SentenceTransformer
    from torchvision import transforms

    from mmfeat import presets
    from mmfeat.extract.encoders.efficientnet_lite import EfficientNetLite
    from mmfeat.extract.encoders.sentence_transformers import _PACKAGES
    from mmfeat.extract.registry import resolve_all

    specs = {spec.name: spec for spec in resolve_all(presets.load("offline"))}
    cnn = EfficientNetLite(specs["cover_cnn"], "cpu")
    image = specs["cover_cnn"].image
    assert image is not None and image.view.resize is not None
    preprocess = transforms.Compose(
        [
            transforms.Resize(image.view.resize, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(image.view.height),
            transforms.ToTensor(),
            transforms.Normalize(image.mean, image.std),
        ]
    )
    folder = _PACKAGES["all-MiniLM-L6-v2"].path("title_text").parent
    minilm = SentenceTransformer(str(folder), device="cpu")
    return cnn._network.model, preprocess, cnn.labels.__getitem__, minilm


def main() -> None:
    """Encode a folder and save the matrices."""
    which, folder, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    timed = {"clip": clip, "offline": offline}[which](folder, out)
    print(
        json.dumps(
            {
                "items": timed.items,
                "steady_per_second": timed.items / timed.seconds,
                "steady_seconds": timed.seconds,
                "seconds": time.perf_counter() - began,
            }
        )
    )


if __name__ == "__main__":
    main()
