"""``python -m bench.clip_texts [--seconds S]``: titles through the text tower of CLIP ViT-B/32.

open_clip's ``encode_text`` sees all 77 tokens of a text; mmfeat's encoder cuts a batch behind its longest.
Batches of 32 titles of like length, as a run makes them, in one process with all cores, in turn.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable

import numpy as np
import torch

from bench import media
from bench.models import CLIP
from bench.runtimes import cosine
from mmfeat.extract.encoders.open_clip import OpenClip
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.schemas.spec import FeatureConfig

TITLES, BATCH, ROUNDS = 2000, 32, 3
DTYPES = ("float32", "bfloat16")


def main() -> None:
    """Titles per second of both, and how alike the vectors are."""
    parser = argparse.ArgumentParser(prog="python -m bench.clip_texts", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    seconds = parser.parse_args().seconds
    # open_clip warns that the weights are random.
    logging.disable(logging.WARNING)
    in_order = sorted(media.titles_of(TITLES), key=len)
    batches = [in_order[start : start + BATCH] for start in range(0, TITLES, 5 * BATCH)]
    for dtype in DTYPES:
        config = {"encoder": "open_clip", "model": CLIP, "weights": "random:0", "dtype": dtype}
        spec = resolve_all({"feature": FeatureConfig.model_validate({"source": "title", **config})})[0]
        ours = load_method(spec)
        assert isinstance(ours, OpenClip)
        sides = {"open_clip": upstream(ours), "mmfeat": ours.encode_texts}
        least = cosine(*(np.concatenate([side(batch) for batch in batches]) for side in sides.values()))
        for number in range(ROUNDS):
            rates = {name: rate(side, batches, seconds) for name, side in sides.items()}
            shown = ", ".join(f"{name} {found:.1f}/s" for name, found in rates.items())
            ratio = rates["mmfeat"] / rates["open_clip"]
            print(f"{dtype}, round {number + 1}: {shown}, {ratio:.2f} x", flush=True)
        print(f"{dtype}: least cosine {least:.7f}", flush=True)


def upstream(model: OpenClip) -> Callable[[list[str]], np.ndarray]:
    """open_clip's own way with the same module and tokenizer."""

    def encode(texts: list[str]) -> np.ndarray:
        with torch.inference_mode():
            outputs = model._model.encode_text(model._tokenizer(texts), normalize=True)
        vectors: np.ndarray = outputs.float().numpy()
        return vectors

    return encode


def rate(encode: Callable[[list[str]], np.ndarray], batches: list[list[str]], seconds: float) -> float:
    """Titles per second over whole passes."""
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        done += sum(len(encode(batch)) for batch in batches)
    return done / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
