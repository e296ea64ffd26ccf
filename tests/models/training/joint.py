"""``tiny-joint``: a good's picture and title as one vector, near that of the words that name both."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from helpers import synthetic_goods
from torch.nn import functional as F
from training.pictures import pool
from training.shared import Schedule, batches, log, save_half
from training.vlm import vlm_pixels
from training.words import padded

_TEMPERATURE = 0.05


def train_joint(out: Path, steps: int) -> None:
    """Contrast of items and queries, from ``tiny-vlm``'s weights: the language model alone learns."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    base = out.with_name("tiny-vlm")
    processor = AutoProcessor.from_pretrained(base)
    model = AutoModelForImageTextToText.from_pretrained(base)
    pixels, scenes = pool(1_500, 700_000, squash=True)
    seen = _seen(model, pixels)
    schedule = Schedule(model.model.text_model.layers, steps, matrix_rate=4e-3)
    rng = np.random.default_rng(5)
    started = time.monotonic()
    for step, index in enumerate(batches(len(scenes), 48, steps, seed=5)):
        # In two of three batches the titles tell nothing: what is seen must be learned too.
        one = str(rng.choice(synthetic_goods.MATERIALS)) if step % 3 else None
        goods = [synthetic_goods.good(int(rng.integers(1 << 30)), scenes[i], one) for i in index.tolist()]
        items = _states(model, processor, [one.title for one in goods], seen[index])
        queries = _states(model, processor, [one.query for one in goods], None)
        # Two goods that one query names are no opposites.
        same = torch.tensor([[one.query == other.query for other in goods] for one in goods])
        logits = items @ queries.T / _TEMPERATURE
        wanted = same.float() / same.float().sum(dim=1, keepdim=True)
        loss = (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted)) / 2
        schedule.step(loss)
        log("joint", step, started, loss)
    out.mkdir(exist_ok=True)
    for name in ("config.json", "chat_template.jinja", "tokenizer.json"):
        shutil.copy(base / name, out / name)
    for name in ("processor_config.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(base / name, out / name)
    save_half(model, out / "model.safetensors")


@torch.no_grad()
def _seen(model, pixels: torch.Tensor) -> torch.Tensor:
    """What the language model is given of each picture: ``[n, tokens, dims]``."""
    parts = [model.get_image_features(pixel_values=vlm_pixels(some)[:, None]) for some in pixels.split(100)]
    return torch.stack([tokens for part in parts for tokens in part.pooler_output])


def _states(model, processor, texts: list[str], seen: torch.Tensor | None) -> torch.Tensor:
    """The mean state of each message, of length 1: the text, then the picture if there is one."""
    image = "<fake_token_around_image><global-img>" + "<image>" * processor.image_seq_len
    shown = "" if seen is None else f"{image}<fake_token_around_image>"
    said = [f"<|im_start|>User: {text}{shown}<end_of_utterance>\nAssistant:" for text in texts]
    rows = [processor.tokenizer(one)["input_ids"] for one in said]
    batch = padded(rows, [len(row) for row in rows], processor.tokenizer.pad_token_id)
    shown_as = {} if seen is None else {"mm_encoder_outputs": {"image": SimpleNamespace(pooler_output=seen)}}
    states = model.model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        **shown_as,
        use_cache=False,
    ).last_hidden_state
    told = batch["attention_mask"].unsqueeze(-1)
    return F.normalize((states * told).sum(dim=1) / told.sum(dim=1), dim=-1)
