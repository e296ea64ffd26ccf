"""``tiny-dino``: vectors of pictures, a model of transformers."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from helpers import synthetic
from torch import nn
from torch.nn import functional as F
from training.pictures import IMAGENET_MEAN, IMAGENET_STD, PATCH, SIDE, combo_index, normalised, pool
from training.shared import Schedule, batches, log


def train_dino(out: Path, steps: int) -> None:
    """Colour-shape pairs by cosine to learned prototypes, from the CLS token and from the patch mean.

    The prototypes are dropped; what stays is a backbone whose vectors lie together by colour and shape.
    """
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    model = Dinov2Model(
        Dinov2Config(
            hidden_size=96, num_hidden_layers=4, num_attention_heads=4, image_size=SIDE, patch_size=PATCH
        )
    )
    pixels, scenes = pool(30_000, 100_000, squash=False)
    combos = combo_index(scenes)
    prototypes = nn.Parameter(torch.randn(2, len(synthetic.COMBOS), 96) * 0.1)
    schedule = Schedule(nn.ModuleList([model, nn.ParameterDict({"embed": prototypes})]), steps)
    started = time.monotonic()
    for step, index in enumerate(batches(len(scenes), 40, steps, seed=2)):
        tokens = model(normalised(pixels[index], IMAGENET_MEAN, IMAGENET_STD)).last_hidden_state
        views = torch.stack([tokens[:, 0], tokens[:, 1:].mean(1)])
        logits = 16 * F.normalize(views, dim=-1) @ F.normalize(prototypes, dim=-1).transpose(1, 2)
        loss = F.cross_entropy(logits.flatten(0, 1), combos[index].repeat(2))
        schedule.step(loss)
        log("dino", step, started, loss)
    model.save_pretrained(out)
    BitImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_STD),
        do_convert_rgb=True,
    ).save_pretrained(out)
