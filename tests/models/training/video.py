"""``tiny-video``: vectors of clips that tell order, a VideoMAE of transformers."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from helpers import synthetic_stories
from torch import nn
from torch.nn import functional as F
from training.pictures import IMAGENET_MEAN, IMAGENET_STD, normalised
from training.shared import Schedule, batches, log, save_folder
from training.stories import FRAMES, PATCH, SIDE, pool

WIDTH = 64


def train_video(out: Path, steps: int) -> None:
    """What happens, by cosine of the mean of all tokens to learned prototypes, which are dropped."""
    from transformers import VideoMAEConfig, VideoMAEModel, VideoMAEVideoProcessor

    model = VideoMAEModel(
        VideoMAEConfig(
            hidden_size=WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=3 * WIDTH,
            image_size=SIDE,
            patch_size=PATCH,
            num_frames=FRAMES,
            tubelet_size=2,
        )
    )
    clips, events = pool(2000)
    prototypes = nn.Parameter(torch.randn(len(synthetic_stories.EVENTS), WIDTH) * 0.1)
    schedule = Schedule(nn.ModuleList([model, nn.ParameterDict({"embed": prototypes})]), steps)
    started = time.monotonic()
    for step, index in enumerate(batches(len(events), 32, steps, seed=6)):
        shown = normalised(clips[index], IMAGENET_MEAN, IMAGENET_STD)
        vectors = model(shown).last_hidden_state.mean(1)
        logits = 16 * F.normalize(vectors, dim=-1) @ F.normalize(prototypes, dim=-1).T
        loss = F.cross_entropy(logits, events[index])
        schedule.step(loss)
        log("video", step, started, loss)
    save_folder(model, out)
    VideoMAEVideoProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_STD),
    ).save_pretrained(out)
