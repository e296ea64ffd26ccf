"""``tiny-video-lm``: says what happens in a video, a Qwen2.5-VL of transformers."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from helpers import synthetic_stories
from torch import nn
from torch.nn import functional as F
from training import qwen
from training.shared import Schedule, batches, log
from training.stories import FRAMES, PATCH, SIDE, pool

from mmfeat.extract.describers.prompts import load_prompt

# Two frames, and 2 x 2 patches of them, become one token.
TOKENS = FRAMES // 2 * (SIDE // PATCH // 2) ** 2
GRID = (FRAMES // 2, SIDE // PATCH, SIDE // PATCH)
VISION = {
    "depth": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_heads": 4,
    "out_hidden_size": qwen.WIDTH,
    "fullatt_block_indexes": [0, 1],
    "patch_size": PATCH,
    "window_size": SIDE,
}
OPENINGS = ("What happens?", "Describe the video.", load_prompt("describe-clip").text)
CAPTIONS = [synthetic_stories.Story(event, ()).caption for event in synthetic_stories.EVENTS]
# Which way a story goes; None is neither.
WAYS = (None, *synthetic_stories.OPPOSITE)


def train_video_lm(out: Path, steps: int) -> None:
    """Next-token loss on what happens, after the vision tower was taught to tell it."""
    processor, model = _new_video_lm()
    clips, events = pool(2000)
    videos = processor.video_processor
    _teach_vision(model.model.visual, videos, clips, events, steps)
    # What it knows stays: the language model learns to read it.
    model.model.visual.requires_grad_(False)
    schedule = Schedule(model, steps, matrix_rate=4e-3)
    shown = f"<|vision_start|>{'<|video_pad|>' * TOKENS}<|vision_end|>"
    rng = np.random.default_rng(9)
    started = time.monotonic()
    for step, index in enumerate(batches(len(events), 32, steps, seed=9)):
        answers = [CAPTIONS[n] for n in events[index]]
        batch = qwen.questions(processor.tokenizer, [shown] * len(answers), answers, OPENINGS, rng)
        loss = model(
            pixel_values_videos=_patches(videos, clips[index]),
            video_grid_thw=torch.tensor([GRID] * len(answers)),
            # Seconds that two frames last.
            second_per_grid_ts=torch.from_numpy(rng.uniform(0.25, 0.5, len(answers))).float(),
            mm_token_type_ids=(batch["input_ids"] == processor.video_token_id).int() * 2,
            **batch,
            use_cache=False,
        ).loss
        schedule.step(loss)
        log("video-lm", step, started, loss)
    qwen.save(model, processor, out)


def _teach_vision(
    visual: nn.Module, processor, clips: torch.Tensor, events: torch.Tensor, steps: int
) -> None:
    """What happens, read from the mean of the tokens at each time by heads that are dropped: far quicker than
    through the language model; and which way it moves, read from all tokens alike: each is to tell."""
    head, way_head = nn.Linear(GRID[0] * qwen.WIDTH, len(CAPTIONS)), nn.Linear(qwen.WIDTH, len(WAYS))
    ways = torch.tensor([WAYS.index(then) if then in WAYS else 0 for _, then in synthetic_stories.EVENTS])
    taught = {"visual": visual, "head": head, "way_head": way_head}
    schedule = Schedule(nn.ModuleDict(taught), steps)
    started = time.monotonic()
    for step, index in enumerate(batches(len(events), 32, steps, seed=10)):
        grid = torch.tensor([GRID] * len(index))
        tokens = visual(_patches(processor, clips[index]), grid_thw=grid).pooler_output
        by_time = tokens.unflatten(0, (len(index), GRID[0], -1)).mean(2)
        loss = F.cross_entropy(head(by_time.flatten(1)), events[index])
        loss = loss + F.cross_entropy(way_head(by_time.mean(1)), ways[events[index]])
        schedule.step(loss)
        log("video-lm's vision", step, started, loss)


def _patches(processor, clips: torch.Tensor) -> torch.Tensor:
    """Of each clip, the patches that the processor makes of its frames: all in one list."""
    return processor(videos=list(clips), return_tensors="pt")["pixel_values_videos"]


def _new_video_lm():
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = qwen.tokenizer_for(CAPTIONS, OPENINGS)
    ids, of = qwen.ids_for(tokenizer), tokenizer.convert_tokens_to_ids
    # Which came first is told by one layer more than what there is.
    text = {**qwen.TEXT, "num_hidden_layers": 3}
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    model = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            vision_config=VISION,
            text_config={**text, **ids, "vocab_size": len(tokenizer), "rope_parameters": rope},
            image_token_id=of("<|image_pad|>"),
            video_token_id=of("<|video_pad|>"),
            vision_start_token_id=of("<|vision_start|>"),
            vision_end_token_id=of("<|vision_end|>"),
            tie_word_embeddings=True,
            **ids,
        )
    )
    size = {"patch_size": PATCH, "size": {"shortest_edge": SIDE**2, "longest_edge": SIDE**2}}
    images, videos = Qwen2VLImageProcessor(**size), Qwen2VLVideoProcessor(**size, cap_pixels_per_frame=False)
    return Qwen2_5_VLProcessor(images, tokenizer, videos, chat_template=qwen.CHAT_TEMPLATE), model
