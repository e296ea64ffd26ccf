"""``tiny-clip``: pictures and texts in one space, a model of open_clip."""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
from helpers import synthetic
from training.pictures import PATCH, SIDE, combo_index, normalised, pool
from training.shared import Schedule, batches, contrast, log, save_half, write_json

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
CLIP_CONFIG = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": SIDE, "layers": 4, "width": 96, "head_width": 24, "patch_size": PATCH},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def train_clip(out: Path, steps: int) -> None:
    """Image-text contrast against every caption of the world, each counted once."""
    import open_clip

    model = open_clip.CLIP(**CLIP_CONFIG)
    tokenizer = open_clip.SimpleTokenizer(context_length=32)
    pixels, scenes = pool(20_000, 0, squash=False)
    short = tokenizer([f"a {colour} {shape}" for colour, shape in synthetic.COMBOS])
    backgrounds = list(synthetic.BACKGROUNDS)
    full = tokenizer(
        [f"a {c} {s} on a {b} background" for c, s in synthetic.COMBOS for b in backgrounds],
    )
    combos = combo_index(scenes)
    captions = combos * len(backgrounds) + torch.tensor([backgrounds.index(s.background) for s in scenes])
    schedule = Schedule(model, steps)
    started = time.monotonic()
    for step, index in enumerate(batches(len(scenes), 64, steps, seed=1)):
        images = model.encode_image(normalised(pixels[index], CLIP_MEAN, CLIP_STD), normalize=True)
        texts = model.encode_text(torch.cat([short, full]), normalize=True)
        scale = model.logit_scale.exp()
        loss = contrast(scale * images @ texts[: len(short)].T, combos[index])
        loss = loss + contrast(scale * images @ texts[len(short) :].T, captions[index])
        schedule.step(loss)
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        log("clip", step, started, loss)
    out.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": CLIP_MEAN, "std": CLIP_STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    write_json(out / "open_clip_config.json", {"model_cfg": CLIP_CONFIG, "preprocess_cfg": preprocess})
    save_half(model, out / "open_clip_model.safetensors")
