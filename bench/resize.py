"""``python -m bench.resize [--pictures N] [--rounds R]``: the decode stage's resize beside processors.

Decoded covers of a pool (bench/media.py), the processors of transformers with the settings of published
models, one thread, in turn; pictures per second of the processor's time. *processor* is its whole call on
the original, *finished* the same on the resized picture, which is what is left for the engine. The last lines
are of the file in which a picture goes to an engine: milliseconds to write and to open.
"""

from __future__ import annotations

import argparse
import base64
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    Gemma3ImageProcessor,
    GotOcr2ImageProcessor,
    Qwen2VLImageProcessor,
    SmolVLMImageProcessor,
)

from bench import media
from mmfeat.extract.modalities.decoders.image import render_image
from mmfeat.extract.modalities.decoders.views import render_view
from mmfeat.extract.registry import resolve_all
from mmfeat.extract.served.parts import SentFormat, data_url
from mmfeat.schemas.inputs import PixelView
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import FeatureConfig

_SENT = PixelView(mode="bound", height=896, width=896)
_AS_DECODED = PixelView(mode="bound", height=1 << 15, width=1 << 15)


def processors() -> dict[str, Any]:
    """By model, its processor and what a question to it says of pictures."""
    square, crop = {"height": 896, "width": 896}, {"height": 336, "width": 336}
    return {
        "Qwen2.5-VL": Qwen2VLImageProcessor(),
        "Qwen3-VL": Qwen2VLImageProcessor(
            patch_size=16, size={"shortest_edge": 256**2, "longest_edge": 4096**2}
        ),
        "SmolVLM-256M": SmolVLMImageProcessor(
            size={"longest_edge": 2048}, max_image_size={"longest_edge": 512}
        ),
        "Gemma 3": Gemma3ImageProcessor(size=square),
        "InternVL, one tile": GotOcr2ImageProcessor(size={"height": 448, "width": 448}, max_patches=1),
        "LLaVA 1.5": CLIPImageProcessor(size={"shortest_edge": 336}, crop_size=crop),
    }


def main() -> None:
    """Pictures a second of each side, by model, and whether the pixels are the same."""
    parser = argparse.ArgumentParser(prog="python -m bench.resize", description=__doc__)
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        pool = media.write_pool(Path(place) / "pool", args.pictures, 0, 0)
        covers = [decoded(path) for path in media.covers_of(pool, args.pictures)]
        for model, processor in processors().items():
            processor.save_pretrained(place)
            compare(model, processor, view_of(Path(place)), covers, args.rounds)
        formats: tuple[SentFormat, ...] = ("png", "bmp")
        for sent_as in formats:
            send(sent_as, [render_view(cover, _SENT) for cover in covers], args.rounds)


def decoded(path: Path) -> np.ndarray:
    """uint8 ``[height, width, 3]``."""
    return render_image(path.read_bytes(), [_AS_DECODED], MediaLimits())[0].pixels[0]


def view_of(folder: Path) -> PixelView:
    """What a feature asks the decode stage for."""
    asked = {"source": "cover", "captioner": "openai", "model": "served", "resize": str(folder)}
    pixels = resolve_all({"caption": FeatureConfig(**asked)})[0].pixels
    assert pixels is not None, "it reads covers"
    return pixels.view


def compare(model: str, processor: Any, view: PixelView, covers: Sequence[np.ndarray], rounds: int) -> None:
    """One model's line."""
    finished = [render_view(cover, view) for cover in covers]
    originals, resized = ([Image.fromarray(one) for one in shown] for shown in (covers, finished))

    def process(picture: Image.Image) -> torch.Tensor:
        pixels: torch.Tensor = processor([picture], return_tensors="pt")["pixel_values"]
        return pixels

    same = all(torch.equal(process(a), process(b)) for a, b in zip(originals, resized, strict=True))
    sides: dict[str, Callable[[], Any]] = {
        "processor": lambda: [process(one) for one in originals],
        "mmfeat": lambda: [render_view(one, view) for one in covers],
        "finished": lambda: [process(one) for one in resized],
    }
    took: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, run in sides.items():
            began = time.process_time()
            run()
            took[side].append(time.process_time() - began)
    rate = {side: len(covers) / median(seconds) for side, seconds in took.items()}
    print(
        f"{model}: processor {rate['processor']:.0f}/s, mmfeat {rate['mmfeat']:.0f}/s "
        f"({rate['mmfeat'] / rate['processor']:.1f} x), finished {rate['finished']:.0f}/s; "
        f"{'the same to the bit' if same else 'PIXELS DIFFER'}",
        flush=True,
    )


def send(sent_as: SentFormat, pictures: Sequence[np.ndarray], rounds: int) -> None:
    """One format's line."""
    written, opened, size = [], [], 0
    for _ in range(rounds):
        began = time.process_time()
        urls = [data_url(picture, sent_as) for picture in pictures]
        written.append(time.process_time() - began)
        began = time.process_time()
        for url in urls:
            Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
        opened.append(time.process_time() - began)
        size = sum(map(len, urls))
    write, read = (1000 * median(seconds) / len(pictures) for seconds in (written, opened))
    print(f"{sent_as}: {write:.1f} ms to write, {read:.1f} ms to open, {size / len(pictures) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
