"""Train the tiny models of this folder: ``python tests/models/train.py [clip] [dino] [vlm]``.

CPU, seeded, minutes each. The folders it writes have the layout of the same architecture's folder on
the Hugging Face hub. They know one thing: the colour and shape in ``tests/synthetic.py``'s pictures.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import synthetic  # noqa: E402

SIDE = 48
PATCH = 8
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
COLOURS = list(synthetic.COLOURS)
SHAPES = list(synthetic.SHAPES)


def pool(number: int, first_seed: int, squash: bool) -> tuple[torch.Tensor, list[synthetic.Scene]]:
    """Training pictures, squashed or centre cropped, as uint8 ``[number, 3, SIDE, SIDE]``; their scenes."""
    scenes = [synthetic.scene(first_seed + i) for i in range(number)]
    pixels = np.stack([_fit(synthetic.render(s), squash) for s in scenes])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), scenes


def _fit(pixels: np.ndarray, squash: bool) -> np.ndarray:
    image = Image.fromarray(pixels)
    if not squash:
        short = min(image.size)
        left, top = (image.width - short) // 2, (image.height - short) // 2
        image = image.crop((left, top, left + short, top + short))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def normalised(pixels: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    scale = torch.tensor(std).view(3, 1, 1) * 255
    return (pixels.float() - torch.tensor(mean).view(3, 1, 1) * 255) / scale


def batches(number: int, size: int, steps: int, seed: int) -> Iterator[torch.Tensor]:
    """``steps`` batches of indices, drawn without repeats within an epoch."""
    generator = torch.Generator().manual_seed(seed)
    queue = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(queue) < size:
            queue = torch.randperm(number, generator=generator)
        yield queue[:size]
        queue = queue[size:]


class Schedule:
    """Muon for the hidden matrices and AdamW for the rest; linear warm-up, then linear decay.

    On this world many small batches with Muon learn shapes sooner than fewer large ones with AdamW.
    """

    def __init__(self, model: nn.Module, steps: int, matrix_rate: float = 6e-3) -> None:
        named = list(model.named_parameters())
        matrices = [p for n, p in named if p.ndim == 2 and "embed" not in n and "head" not in n]
        ids = {id(p) for p in matrices}
        rest = [p for _, p in named if id(p) not in ids]
        self.optimizers = (
            torch.optim.Muon(matrices, lr=matrix_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=2e-3, weight_decay=0.0, betas=(0.9, 0.98)),
        )
        self.peaks = [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]
        self.parameters = matrices + rest
        self.steps, self.done = steps, 0

    def step(self, loss: torch.Tensor) -> None:
        share = min(1.0, (self.done + 1) / 40) * max(0.01, 1 - self.done / self.steps)
        for optimizer, peak in zip(self.optimizers, self.peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * share
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.done += 1


def save_half(model: nn.Module, path: Path) -> None:
    """Weights as float16 safetensors, contiguous, shared tensors written once."""
    seen: set[int] = set()
    kept = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() in seen:
            continue
        seen.add(tensor.data_ptr())
        kept[name] = tensor.detach().to(torch.float16).contiguous() if tensor.is_floating_point() else tensor
    save_file(kept, path, metadata={"format": "pt"})


def write_json(path: Path, body: object) -> None:
    path.write_text(json.dumps(body, indent=2) + "\n")


def combo_index(scenes: list[synthetic.Scene]) -> torch.Tensor:
    return torch.tensor([synthetic.COMBOS.index((s.colour, s.shape)) for s in scenes])


# ---- CLIP ---------------------------------------------------------------------------------------

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
        loss = _contrast(scale * images @ texts[: len(short)].T, combos[index])
        loss = loss + _contrast(scale * images @ texts[len(short) :].T, captions[index])
        schedule.step(loss)
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        _log("clip", step, started, loss)
    out.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": CLIP_MEAN, "std": CLIP_STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    write_json(out / "open_clip_config.json", {"model_cfg": CLIP_CONFIG, "preprocess_cfg": preprocess})
    save_half(model, out / "open_clip_model.safetensors")


def _contrast(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Each image picks its caption; each caption present picks its images, as a distribution."""
    to_text = F.cross_entropy(logits, target)
    present = target.unique()
    positive = (target[None, :] == present[:, None]).float()
    to_image = F.cross_entropy(logits.T[present], positive / positive.sum(1, keepdim=True))
    return (to_text + to_image) / 2


def _log(name: str, step: int, started: float, loss: torch.Tensor) -> None:
    if step % 100 == 0:
        print(f"{name} step {step} loss {loss.item():.3f} {time.monotonic() - started:.0f}s", flush=True)


# ---- DINO ---------------------------------------------------------------------------------------


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
        _log("dino", step, started, loss)
    model.save_pretrained(out)
    BitImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_STD),
        do_convert_rgb=True,
    ).save_pretrained(out)


# ---- vision-language model ----------------------------------------------------------------------

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
        _log("vlm", step, started, loss)
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
        _log("vlm's vision", step, started, loss)


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
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    labels = torch.full((len(rows), longest), -100)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
        ids[i, : len(row)] = torch.tensor(row)
        labels[i, start : len(row)] = torch.tensor(row[start:])
        mask[i, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


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
    """A byte-level BPE of a few hundred tokens, trained on what this world says and asks."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    said = [
        f" a {c} {s} lies on a {b} background" for c, s in synthetic.COMBOS for b in synthetic.BACKGROUNDS
    ]
    moves = [line.replace("lies", "moves") for line in said]
    bpe.train_from_iterator([*said, *moves, *(OPENINGS + FILLERS) * 20, "User:", "\nAssistant:"], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        model_max_length=4096,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["clip", "dino", "vlm"])
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=None)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    trainers = {"clip": (train_clip, 1500), "dino": (train_dino, 4500), "vlm": (train_vlm, 1200)}
    for name in args.models:
        train, steps = trainers[name]
        torch.manual_seed(0)
        started = time.monotonic()
        train(args.out / f"tiny-{name}", args.steps or steps)
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
