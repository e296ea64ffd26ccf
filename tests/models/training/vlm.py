"""``tiny-vlm``: captions of pictures and of frames, a model of transformers."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from helpers import synthetic
from torch import nn
from torch.nn import functional as F
from training.pictures import PATCH, SIDE, normalised, pool
from training.shared import Schedule, batches, log
from training.words import byte_pairs, padded

COLOURS = list(synthetic.COLOURS)
SHAPES = list(synthetic.SHAPES)
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<end_of_utterance>",
    "<fake_token_around_image>",
    "<image>",
    "<global-img>",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] | capitalize }}:"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %} {{ part['text'] }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
# A prompt with this word gets the short answer, so that the answer shows whether the prompt was read.
SHORT_WORD = "briefly"
OPENINGS = (
    "Describe this image in one or two plain sentences.",
    "These pictures are frames of one video, in the order of time. Describe the video.",
    "What do you see?",
    "Describe what you see.",
    "Say what this is.",
    "Describe this picture: the main subject, its colours and setting.",
)
FILLERS = (
    "Say only what is visible.",
    "The title is: lantern soup for two.",
    "Name any text that can be read.",
    "Who or what is in it, where it takes place and what happens?",
    "Use plain words, one to three sentences.",
    "Do not guess what is not visible.",
    "The title is: a day by the river with the red fox and the blue bird!",
    "This item is sold as: steel kettle, 1.5 l, new (2024).",
)


def train_vlm(out: Path, steps: int) -> None:
    """Next-token loss on captions of stills and of several frames, under prompts of many lengths."""
    processor, model = _new_vlm()
    pixels, scenes = pool(24_000, 200_000, squash=True)
    keep = [i for i, s in enumerate(scenes) if (s.colour, s.shape) not in synthetic.UNSEEN_COMBOS]
    pixels, scenes = pixels[keep], [scenes[i] for i in keep]
    alike: dict[str, list[int]] = {}
    for i, item in enumerate(scenes):
        alike.setdefault(item.caption, []).append(i)
    colours = torch.tensor([COLOURS.index(s.colour) for s in scenes])
    shapes = torch.tensor([SHAPES.index(s.shape) for s in scenes])
    _teach_vision(model, pixels, colours, shapes, 2 * steps)
    schedule = Schedule(model, steps, matrix_rate=2e-3)
    rng = np.random.default_rng(3)
    started = time.monotonic()
    for step, index in enumerate(batches(len(scenes), 48, steps, seed=3)):
        frames = 1 if step % 3 else int(rng.integers(2, 9))
        chosen = index.tolist()[: 48 if frames == 1 else 96 // frames]
        members = [[i, *rng.choice(alike[scenes[i].caption], frames - 1).tolist()] for i in chosen]
        batch = _vlm_batch(processor, [scenes[i] for i in chosen], frames, rng)
        flat = torch.tensor([i for group in members for i in group])
        values = vlm_pixels(pixels[flat]).unflatten(0, (len(chosen), frames))
        loss = model(pixel_values=values, **batch, use_cache=False).loss
        schedule.step(loss)
        log("vlm", step, started, loss)
    model.save_pretrained(out)
    processor.save_pretrained(out)


def _teach_vision(
    model: nn.Module, pixels: torch.Tensor, colours: torch.Tensor, shapes: torch.Tensor, steps: int
) -> None:
    """Colour and shape read from the image tokens by a head that is dropped: far quicker than through
    the language model. Each by itself, so that unseen pairs are made of parts that are known."""
    head = nn.Linear(96, len(COLOURS) + len(SHAPES))
    inner = model.model
    taught = {"vision": inner.vision_model, "connector": inner.connector, "head": head}
    schedule = Schedule(nn.ModuleDict(taught), steps)
    started = time.monotonic()
    for step, index in enumerate(batches(len(shapes), 40, steps, seed=4)):
        tokens = model.get_image_features(pixel_values=vlm_pixels(pixels[index])[:, None]).pooler_output
        read = head(torch.stack([t.mean(0) for t in tokens]))
        loss = F.cross_entropy(read[:, : len(COLOURS)], colours[index])
        loss = loss + F.cross_entropy(read[:, len(COLOURS) :], shapes[index])
        schedule.step(loss)
        log("vlm's vision", step, started, loss)


def vlm_pixels(pixels: torch.Tensor) -> torch.Tensor:
    return normalised(pixels, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def _vlm_batch(processor, scenes: list[synthetic.Scene], frames: int, rng) -> dict[str, torch.Tensor]:
    """Token ids, attention mask and labels (the answer alone), padded on the right."""
    tokenizer = processor.tokenizer
    image = "<fake_token_around_image><global-img>" + "<image>" * processor.image_seq_len
    rows, starts = [], []
    for item in scenes:
        words = [str(rng.choice(OPENINGS)), *rng.choice(FILLERS, int(rng.integers(0, 4)), replace=False)]
        brief = rng.random() < 0.3
        if brief:
            words.insert(int(rng.integers(0, len(words) + 1)), f"Answer {SHORT_WORD}.")
        images = (image + "<fake_token_around_image>") * frames
        question = f"<|im_start|>User:{images} {' '.join(words)}<end_of_utterance>\nAssistant:"
        answer = f" {answer_for(item, frames, brief)}<end_of_utterance>"
        asked = tokenizer(question)["input_ids"]
        starts.append(len(asked))
        rows.append(asked + tokenizer(answer)["input_ids"])
    return padded(rows, starts, tokenizer.pad_token_id)


def answer_for(item: synthetic.Scene, frames: int, brief: bool) -> str:
    """What the model is taught to say: shorter when asked for it, with motion for several frames."""
    if brief:
        return f"{item.colour} {item.shape}"
    verb = "moves" if frames > 1 else "lies"
    return f"a {item.colour} {item.shape} {verb} on a {item.background} background"


def _new_vlm():
    from transformers import (
        GenerationConfig,
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
    )

    tokenizer = _vlm_tokenizer()
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    config = Idefics3Config(
        image_token_id=ids["<image>"],
        scale_factor=2,
        tie_word_embeddings=True,
        vision_config={
            "hidden_size": 96,
            "intermediate_size": 288,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "image_size": SIDE,
            "patch_size": PATCH,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": 96,
            "intermediate_size": 256,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "bos_token_id": ids["<|im_start|>"],
            "eos_token_id": ids["<end_of_utterance>"],
            "pad_token_id": ids["<|endoftext|>"],
            "tie_word_embeddings": True,
        },
        bos_token_id=ids["<|im_start|>"],
        eos_token_id=ids["<end_of_utterance>"],
        pad_token_id=ids["<|endoftext|>"],
    )
    model = Idefics3ForConditionalGeneration(config)
    # Two ids end a text, as in many chat models.
    model.generation_config = GenerationConfig(
        bos_token_id=ids["<|im_start|>"],
        pad_token_id=ids["<|endoftext|>"],
        eos_token_id=[ids["<end_of_utterance>"], ids["<|endoftext|>"]],
    )
    images = Idefics3ImageProcessor(
        size={"longest_edge": 2 * SIDE},
        max_image_size={"longest_edge": SIDE},
        do_image_splitting=False,
        resample=3,
    )
    tokens = (SIDE // PATCH // 2) ** 2
    return Idefics3Processor(images, tokenizer, image_seq_len=tokens, chat_template=CHAT_TEMPLATE), model


def _vlm_tokenizer():
    """Trained on what this world says and asks."""
    said = [
        f" a {c} {s} lies on a {b} background" for c, s in synthetic.COMBOS for b in synthetic.BACKGROUNDS
    ]
    moves = [line.replace("lies", "moves") for line in said]
    return byte_pairs(
        [*said, *moves, *(OPENINGS + FILLERS) * 20, "User:", "\nAssistant:"],
        SPECIAL,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
    )
