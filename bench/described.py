"""``python -m bench.described [--rounds N] [--cut N]``: clips as video, and sounds, told by a language model.

Arrays go through mmfeat's captioner and, in turn, through ``generate`` of transformers as models' cards have
it, one item at a time and eight. Clips are eight frames of 512 x 512, shown as one video to SmolVLM's
architecture (:mod:`bench.captions`); sounds are ten seconds for Qwen2-Audio's, with the encoder of Whisper
small and a language model of SmolVLM's size. Weights are random, answers 24 tokens in float32. Seconds are of
the processor. Speech and text on screen: ``bench.transcripts``, ``bench.ocr``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import captions, media, models
from mmfeat.extract.base import Placement, Row
from mmfeat.extract.clips import metadata
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.schemas.media import Frames
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import FeatureConfig

DATA = Path(__file__).parent / "data"
_ITEMS, _NEW_TOKENS, _RATE = 8, 24, 16_000
_ASKED = "Describe it."

#: Texts of rows, in order.
Side = Callable[[Sequence[Row]], list[str]]


def main() -> None:
    """Items per second of the processor, and whose texts are the plain loop's."""
    parser = argparse.ArgumentParser(prog="python -m bench.described", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cut", type=int, default=6, help="of so many layers of each tower one is there")
    asked = parser.parse_args()
    prompt = DATA / "described.toml"
    DATA.mkdir(exist_ok=True)
    prompt.write_text(f'name = "bench"\nversion = 1\nmax_new_tokens = {_NEW_TOKENS}\ntext = "{_ASKED}"\n')
    for kind, write, rows, shown in (
        (
            "clips",
            captions.write_model,
            clips(),
            {"source": "video", "as": "video", "max_side": captions.SIDE},
        ),
        ("sounds", write_listener, sounds(), {"source": "audio"}),
    ):
        folder = DATA / f"{kind}-{asked.cut}"
        if not folder.exists():
            write(folder, asked.cut)
        sides: dict[str, Side] = {
            "generate, one at a time": plain(folder, kind, 1),
            "generate, eight": plain(folder, kind, _ITEMS),
            "mmfeat": ours(folder, prompt, shown),
        }
        _compare(kind, rows, sides, asked.rounds)


def _compare(kind: str, rows: Sequence[Row], sides: dict[str, Side], rounds: int) -> None:
    said: dict[str, list[str]] = {}
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            began = time.process_time()
            said[name] = side(rows)
            spent[name].append(time.process_time() - began)
    first = next(iter(said.values()))
    for name, seconds in spent.items():
        same = sum(map(str.__eq__, said[name], first))
        rates = ", ".join(f"{len(rows) / s:.3f}" for s in seconds)
        print(f"{kind}, {name}: {rates} per second of the processor, {same} of {len(rows)} texts the first's")


def clips() -> list[Row]:
    """Eight frames of 512 x 512 each, a quarter of a second apart."""
    frames = [
        np.stack([media.picture(np.random.default_rng([models.SEED, n, k]), captions.SIDE, captions.SIDE)
                  for k in range(8)])
        for n in range(_ITEMS)
    ]  # fmt: skip
    return [(Frames(pixels, tuple(k / 4 for k in range(8))),) for pixels in frames]


def sounds() -> list[Row]:
    """Ten seconds of noise each, at 16 kHz."""
    draws = np.random.default_rng(models.SEED)
    samples = draws.normal(0, 0.1, (_ITEMS, 10 * _RATE)).astype(np.float32)
    return [(Sound(one, _RATE, ((0.0, 10.0, len(one)),), rms=0.1),) for one in samples]


def ours(folder: Path, prompt: Path, shown: dict[str, Any]) -> Side:
    """The feature as a run computes it."""
    table = {**shown, "captioner": "transformers", "model": str(folder), "prompt": str(prompt)}
    model = load_method(resolve_all({"told": FeatureConfig.model_validate(table)})[0], Placement())
    return lambda rows: [said.text for said in model.run(rows)]


def plain(folder: Path, kind: str, batch: int) -> Side:
    """What a model's card shows."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoModelForSeq2SeqLM, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    processor.tokenizer.padding_side = "left"
    loader = AutoModelForImageTextToText if kind == "clips" else AutoModelForSeq2SeqLM
    model = loader.from_pretrained(folder).eval()
    content = [{"type": "video" if kind == "clips" else "audio"}, {"type": "text", "text": _ASKED}]
    asked = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)

    def tell(rows: Sequence[Row]) -> list[str]:
        said: list[str] = []
        for start in range(0, len(rows), batch):
            given = [row[0] for row in rows[start : start + batch]]
            inputs = processor(text=[asked] * len(given), return_tensors="pt", padding=True, **_shown(given))
            with torch.inference_mode():
                ids = model.generate(**inputs, max_new_tokens=_NEW_TOKENS, do_sample=False)
            answers = ids[:, inputs["input_ids"].shape[1] :]
            said += [text.strip() for text in processor.batch_decode(answers, skip_special_tokens=True)]
        return said

    return tell


def _shown(given: Sequence[Any]) -> dict[str, Any]:
    """The processor's arguments for clips or sounds."""
    if isinstance(given[0], Sound):
        return {"audio": [sound.samples for sound in given], "sampling_rate": _RATE}
    how = {"do_sample_frames": False, "input_data_format": "channels_last"}
    return {
        "videos": [clip.pixels for clip in given],
        "videos_kwargs": {**how, "video_metadata": [metadata(clip) for clip in given]},
    }


def write_listener(folder: Path, cut: int) -> None:
    """Qwen2-Audio's architecture at the size above: the tests' tiny one with other numbers."""
    import torch
    import transformers

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from helpers import tiny_listeners

    waiting = folder.with_suffix(".part")
    tiny_listeners.qwen2_audio(waiting)
    processor = transformers.AutoProcessor.from_pretrained(waiting)
    extractor = transformers.WhisperFeatureExtractor(feature_size=128)
    processor.feature_extractor = extractor
    config = transformers.Qwen2AudioConfig.from_pretrained(waiting)
    config.audio_config.update(
        {"num_mel_bins": 128, "encoder_layers": 12 // cut, "encoder_attention_heads": 12,
         "encoder_ffn_dim": 3072, "d_model": 768, "max_source_positions": 1500, "init_std": 0.02}
    )  # fmt: skip
    config.text_config.update(
        {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30 // cut,
         "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "max_position_embeddings": 8192,
         "initializer_range": 0.02, "layer_types": ["full_attention"] * (30 // cut)}
    )  # fmt: skip
    torch.manual_seed(models.SEED)
    transformers.Qwen2AudioForConditionalGeneration(config).save_pretrained(waiting)
    processor.save_pretrained(waiting)
    waiting.rename(folder)


if __name__ == "__main__":
    main()
