"""The plain PyTorch loops that an engineer would write: DataLoader, batches of 64, np.save.

``python -m bench.plain PART FOLDER OUT``: prints items, seconds and items per second as JSON. The
steady rate leaves out start-up: the import, the models and every loop's first batch.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from bench import minilm, models
from bench.decoders import FRAMES

BATCH = 64
CLIP_BATCH = BATCH // FRAMES

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
    """Eight uniform frames of each clip, preprocessed: ``[8, 3, h, w]``."""

    def __init__(self, folder: Path, preprocess: Preprocess) -> None:
        self.paths = sorted((folder / "videos").glob("*.mp4"))
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        import decord

        reader = decord.VideoReader(str(self.paths[index]), num_threads=1)
        middles = ((np.arange(FRAMES) + 0.5) * len(reader) / FRAMES).astype(int)
        frames = reader.get_batch(middles.tolist()).asnumpy()
        return torch.stack([self.preprocess(Image.fromarray(frame)) for frame in frames])


class Timed:
    """Seconds and items of loops; a loop's first batch is left out: it waits for the loader to start."""

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


def covers(folder: Path, out: Path, timed: Timed) -> None:
    """CLIP ViT-B/32 of the covers."""
    model, preprocess = models.image_model("CLIP ViT-B/32")
    np.save(out / "covers.npy", timed.run(Covers(folder, preprocess), model, BATCH))


def three_encoders(folder: Path, out: Path, timed: Timed) -> None:
    """Three models, a loop for each."""
    for number, name in enumerate(models.ENCODERS):
        model, preprocess = models.image_model(name)
        np.save(out / f"covers-{number}.npy", timed.run(Covers(folder, preprocess), model, BATCH))


def clips(folder: Path, out: Path, timed: Timed) -> None:
    """CLIP ViT-B/32 of eight frames, their mean."""
    model, preprocess = models.image_model("CLIP ViT-B/32")

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        vectors = torch.nn.functional.normalize(model(pixels.flatten(0, 1)), dim=-1)
        return vectors.unflatten(0, pixels.shape[:2]).mean(1)

    np.save(out / "clips.npy", timed.run(Clips(folder, preprocess), encode, CLIP_BATCH))


def titles(folder: Path, out: Path, timed: Timed) -> None:
    """MiniLM, as sentence-transformers encodes a list."""
    with (folder / "titles.csv").open() as file:
        texts = [row["title"] for row in csv.DictReader(file)]
    model = minilm.model()
    model.encode(texts[:BATCH], batch_size=BATCH, show_progress_bar=False)
    began = time.perf_counter()
    np.save(out / "titles.npy", model.encode(texts, batch_size=BATCH, show_progress_bar=False))
    timed.items += len(texts)
    timed.seconds += time.perf_counter() - began


def all_together(folder: Path, out: Path, timed: Timed) -> None:
    """Covers, clips and titles, one after the other."""
    for part in (covers, clips, titles):
        part(folder, out, timed)


PARTS = {
    "covers": covers,
    "three encoders": three_encoders,
    "clips": clips,
    "titles": titles,
    "all together": all_together,
}


def main() -> None:
    """Encode a folder and save the matrices."""
    part, folder, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    timed = Timed()
    PARTS[part](folder, out, timed)
    steady = timed.items / timed.seconds if timed.seconds else None
    print(json.dumps({"items": timed.items, "steady_seconds": timed.seconds, "rows_per_second": steady}))


if __name__ == "__main__":
    main()
