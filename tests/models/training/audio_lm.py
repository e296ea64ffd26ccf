"""``tiny-audio-lm``: names the tone that it hears, a Qwen2-Audio of transformers."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from helpers import synthetic_tones
from torch import nn
from torch.nn import functional as F
from training import qwen
from training.shared import Schedule, batches, log

from mmfeat.extract.describers.prompts import load_prompt

RATE = 16_000
# Of what it hears at once: Whisper's extractor makes 100 frames of a second.
SECONDS, MEL = 2, 16
WIDTH = 48
OPENINGS = ("What do you hear?", "Describe this sound.", load_prompt("describe-sound").text)


def train_audio_lm(out: Path, steps: int) -> None:
    """Next-token loss on the names of tones, after the encoder was taught to tell them apart."""
    processor, model = _new_audio_lm()
    features, mask, tones = _pool(processor.feature_extractor, 3000)
    _teach_hearing(model.model, features, mask, tones, steps)
    schedule = Schedule(model, steps, matrix_rate=2e-3)
    # Of sound of so many frames, as the processor counts: two layers of it halve their number.
    sizes = ((mask.sum(1) - 1) // 2 + 1 - 2) // 2 + 1
    rng = np.random.default_rng(7)
    started = time.monotonic()
    for step, index in enumerate(batches(len(tones), 32, steps, seed=7)):
        shown = [f"<|audio_bos|>{'<|AUDIO|>' * int(sizes[i])}<|audio_eos|>" for i in index]
        answers = [tones[i].caption for i in index.tolist()]
        batch = qwen.questions(processor.tokenizer, shown, answers, OPENINGS, rng)
        loss = model(
            input_features=features[index], feature_attention_mask=mask[index], **batch, use_cache=False
        ).loss
        schedule.step(loss)
        log("audio-lm", step, started, loss)
    qwen.save(model, processor, out)


def _teach_hearing(
    inner: nn.Module,
    features: torch.Tensor,
    mask: torch.Tensor,
    tones: list[synthetic_tones.Tone],
    steps: int,
) -> None:
    """Rhythm, pitch and timbre read from the tokens of sound by a head that is dropped: far quicker than
    through the language model."""
    parts = (list(synthetic_tones.RHYTHMS), list(synthetic_tones.PITCHES), list(synthetic_tones.TIMBRES))
    named = [(t.rhythm, t.pitch, t.timbre) for t in tones]
    targets = torch.tensor([[p.index(n) for p, n in zip(parts, names, strict=True)] for names in named])
    head = nn.Linear(qwen.WIDTH, sum(map(len, parts)))
    taught = {"tower": inner.audio_tower, "projector": inner.multi_modal_projector, "head": head}
    schedule = Schedule(nn.ModuleDict(taught), steps)
    started = time.monotonic()
    for step, index in enumerate(batches(len(tones), 40, steps, seed=8)):
        tokens = inner.multi_modal_projector(inner.audio_tower(features[index]).last_hidden_state)
        there = mask[index, ::4, None].float()
        read = head((tokens * there).sum(1) / there.sum(1))
        loss = torch.zeros(())
        for part, logits in enumerate(read.split([len(p) for p in parts], dim=1)):
            loss = loss + F.cross_entropy(logits, targets[index, part])
        schedule.step(loss)
        log("audio-lm's hearing", step, started, loss)


def _pool(extractor, number: int) -> tuple[torch.Tensor, torch.Tensor, list[synthetic_tones.Tone]]:
    """Training windows as log-mel spectrograms ``[number, MEL, frames]``, which frames are not padding
    ``[number, frames]``, and their tones."""
    tones = [synthetic_tones.tone(seed) for seed in range(number)]
    windows = [synthetic_tones.samples(tone, RATE)[: SECONDS * RATE] for tone in tones]
    heard = extractor(
        windows,
        sampling_rate=RATE,
        padding="max_length",
        return_attention_mask=True,
        return_tensors="pt",
    )
    return heard["input_features"], heard["attention_mask"].long(), tones


def _new_audio_lm():
    from transformers import (
        Qwen2AudioConfig,
        Qwen2AudioEncoderConfig,
        Qwen2AudioForConditionalGeneration,
        Qwen2AudioProcessor,
        Qwen2Config,
        WhisperFeatureExtractor,
    )

    captions = [f"a {rhythm} {pitch} {timbre} tone" for rhythm, pitch, timbre in synthetic_tones.COMBOS]
    tokenizer = qwen.tokenizer_for(captions, OPENINGS)
    ids = qwen.ids_for(tokenizer)
    frames = 100 * SECONDS
    model = Qwen2AudioForConditionalGeneration(
        Qwen2AudioConfig(
            audio_config=Qwen2AudioEncoderConfig(
                num_mel_bins=MEL,
                encoder_layers=2,
                encoder_attention_heads=4,
                encoder_ffn_dim=2 * WIDTH,
                d_model=WIDTH,
                max_source_positions=frames // 2,
            ),
            text_config=Qwen2Config(vocab_size=len(tokenizer), **qwen.TEXT, **ids),
            audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
            tie_word_embeddings=True,
            **ids,
        )
    )
    extractor = WhisperFeatureExtractor(feature_size=MEL, sampling_rate=RATE, chunk_length=SECONDS)
    return Qwen2AudioProcessor(extractor, tokenizer, chat_template=qwen.CHAT_TEMPLATE), model
