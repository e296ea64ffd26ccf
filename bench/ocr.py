"""``python -m bench.ocr [--cards N]``: text on pictures, beside rapidocr's own loop.

Cards of three sizes with one to four lines in letters of several heights, whose words are known. Both sides
read the same arrays with one thread, one picture after the other: rapidocr with its own settings, and
mmfeat's ``rapidocr``. Rates are of the processor's time. A card is right if its words are, in order.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmfeat.extract.base import Placement
from mmfeat.extract.describers.ocr.rapidocr import OnScreen, RapidOcr
from mmfeat.extract.registry import resolve_all
from mmfeat.schemas.media import Frames
from mmfeat.schemas.spec import FeatureConfig

SHAPES = {"320 x 240": (240, 320), "640 x 360": (360, 640), "1280 x 720": (720, 1280)}
HEIGHTS = (14, 20, 32, 48)
WORDS = (
    "summer", "sale", "bakery", "kitchen", "recipe", "travel", "winter", "garden", "music", "river",
    "mountain", "camera", "coffee", "market", "holiday", "bridge", "window", "journey", "chapter", "nature",
)  # fmt: skip

#: Words of a picture, uint8 ``[height, width, 3]`` RGB, in the order in which they are read.
Reader = Callable[[np.ndarray], list[str]]


def main() -> None:
    """Pictures per second of the processor and right cards of both, by size."""
    parser = argparse.ArgumentParser(prog="python -m bench.ocr", description=__doc__)
    parser.add_argument("--cards", type=int, default=20)
    number = parser.parse_args().cards
    readers = {"rapidocr": upstream(), "mmfeat": ours()}
    for name, shape in SHAPES.items():
        cards = [card(shape, seed) for seed in range(number)]
        rates = {}
        for side, read in readers.items():
            read(cards[0][0])
            began = time.process_time()
            right = sum(read(pixels) == words for pixels, words in cards)
            rates[side] = number / (time.process_time() - began)
            print(f"{name}, {side}: {rates[side]:.2f}/s, {right} of {number} right", flush=True)
        print(f"{name}: {rates['mmfeat'] / rates['rapidocr']:.2f} x", flush=True)


def card(shape: tuple[int, int], seed: int) -> tuple[np.ndarray, list[str]]:
    """A picture with lines of random words, as large as fit, and the words."""
    rng = np.random.default_rng(seed)
    height, width = shape
    font = ImageFont.load_default(HEIGHTS[seed % len(HEIGHTS)])
    paper, ink = rng.permutation([int(rng.integers(0, 70)), int(rng.integers(185, 256))])
    picture = Image.new("RGB", (width, height), (int(paper),) * 3)
    draw, top, words = ImageDraw.Draw(picture), 0.1 * height, []
    for _ in range(rng.integers(1, 5)):
        line = list(rng.choice(WORDS, rng.integers(1, 4)))
        while draw.textlength(" ".join(line), font) > 0.9 * width:
            line.pop()
        draw.text((0.05 * width, top), " ".join(line), (int(ink),) * 3, font)
        top, words = top + 2 * font.size, words + line
    return np.asarray(picture), words


def upstream() -> Reader:
    """rapidocr with its own settings and one thread."""
    from rapidocr import RapidOCR

    one_thread = {"EngineConfig.onnxruntime.intra_op_num_threads": 1}
    engine: Any = RapidOCR(params={"Global.log_level": "error", **one_thread})
    return lambda pixels: " ".join(engine(np.ascontiguousarray(pixels[..., ::-1])).txts or ()).split()


def ours() -> Reader:
    """The feature as a run computes it."""
    config = FeatureConfig.model_validate({"source": "cover", "ocr": "rapidocr"})
    model = RapidOcr(resolve_all({"screen": config})[0], Placement(threads=1))

    def read(pixels: np.ndarray) -> list[str]:
        (found,) = model.run([(Frames(pixels[None], (0.0,)),)])
        assert isinstance(found, OnScreen)
        return found.text.split()

    return read


if __name__ == "__main__":
    main()
