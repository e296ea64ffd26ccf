"""``tiny-clap``: sounds and texts in one space, a model of transformers."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from helpers import synthetic_tones
from torch.nn import functional as F
from training.shared import Schedule, batches, contrast, log, save_folder, write_json

RATE = 16_000
# Of a window. The tower sees four times the bands and a quarter of the frames: a square.
SECONDS, MEL, SIDE = 2, 16, 64
TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
AUDIO = {
    "num_mel_bins": MEL,
    "spec_size": SIDE,
    "window_size": 4,
    "patch_embeds_hidden_size": 24,
    "depths": [2, 2],
    "num_attention_heads": [2, 4],
    "hidden_size": 48,
    "hidden_dropout_prob": 0.0,
}


def train_clap(out: Path, steps: int) -> None:
    """Sound-text contrast against every caption of the world, each counted once, and every short name."""
    from transformers import ClapConfig, ClapModel

    tokenizer = _tokenizer()
    text = {**TEXT, "vocab_size": len(tokenizer)}
    model = ClapModel(ClapConfig(text_config=text, audio_config=AUDIO, projection_dim=32))
    model.train()
    spectrograms, tones = _pool(4000)
    full = tokenizer([_full(*combo) for combo in synthetic_tones.COMBOS], padding=True, return_tensors="pt")
    names = sorted({(pitch, timbre) for _, pitch, timbre in synthetic_tones.COMBOS})
    short = tokenizer(
        [f"a {pitch} {timbre} tone" for pitch, timbre in names], padding=True, return_tensors="pt"
    )
    captions = torch.tensor([synthetic_tones.COMBOS.index((t.rhythm, t.pitch, t.timbre)) for t in tones])
    named = torch.tensor([names.index((t.pitch, t.timbre)) for t in tones])
    schedule = Schedule(model, steps)
    started = time.monotonic()
    for step, index in enumerate(batches(len(tones), 48, steps, seed=5)):
        heard = F.normalize(model.get_audio_features(spectrograms[index]).pooler_output, dim=1)
        scale = model.logit_scale_a.exp()
        loss = torch.zeros(())
        for texts, target in ((full, captions[index]), (short, named[index])):
            told = F.normalize(model.get_text_features(**texts).pooler_output, dim=1)
            loss = loss + contrast(scale * heard @ told.T, target)
        schedule.step(loss)
        with torch.no_grad():
            model.logit_scale_a.clamp_(0, math.log(100))
        log("clap", step, started, loss)
    save_folder(model, out)
    tokenizer.save_pretrained(out)
    _save_extractor(out)


def _full(rhythm: str, pitch: str, timbre: str) -> str:
    return f"a {rhythm} {pitch} {timbre} tone"


def _extractor():
    from transformers import ClapFeatureExtractor

    return ClapFeatureExtractor(
        feature_size=MEL,
        sampling_rate=RATE,
        hop_length=128,
        max_length_s=SECONDS,
        fft_window_size=512,
        frequency_min=50,
        frequency_max=RATE // 2,
        truncation="rand_trunc",
    )


def _save_extractor(out: Path) -> None:
    """Without its filter bank, which it makes anew."""
    extractor = _extractor()
    body = json.loads(extractor.to_json_string())
    write_json(out / "preprocessor_config.json", {k: v for k, v in body.items() if "mel_filters" not in k})


def _pool(number: int) -> tuple[torch.Tensor, list[synthetic_tones.Tone]]:
    """Training windows as log-mel spectrograms ``[number, 1, frames, MEL]``; their tones."""
    extractor = _extractor()
    tones = [synthetic_tones.tone(seed) for seed in range(number)]
    windows = [synthetic_tones.samples(tone, RATE)[: SECONDS * RATE] for tone in tones]
    features = [extractor(w, sampling_rate=RATE, return_tensors="np")["input_features"][0] for w in windows]
    return torch.from_numpy(np.stack(features).astype(np.float32)), tones


def _tokenizer():
    """The words of the world, one token each."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ("<s>", "<pad>", "</s>", "<unk>")
    said = sorted({word for combo in synthetic_tones.COMBOS for word in _full(*combo).split()})
    vocabulary = {word: i for i, word in enumerate([*special, *said])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
