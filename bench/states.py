"""``python -m bench.states [--batch N] [--new-tokens T] [--rounds R]``: captions alone, and with states.

One captioner in one thread writes captions of the same pictures, in turn without and with the states of its
questions (all layers, the last token's and the mean of all tokens: two features), as a run computes them. It
has SmolVLM's architecture with random weights: the language model of SmolVLM-256M (30 layers of 576), in
float32, and a vision tower of one narrow layer, so that nothing but the language model takes time.

Prints and writes to bench/out/states.json: processor seconds of a batch on both sides, by round, the ratio of
their least ones and the least and most ratio of a round.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmfeat.extract.base import Placement
from mmfeat.extract.describers.captions.decoder_states import DecoderStates
from mmfeat.extract.describers.captions.transformers import TransformersCaptioner
from mmfeat.extract.registry import resolve_all
from mmfeat.schemas.media import Frames
from mmfeat.schemas.spec import Decoding, FeatureConfig

HERE = Path(__file__).parent
_SIDE = 512
_LANGUAGE_MODEL = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "vocab_size": 49_280,
}  # fmt: skip


def main() -> None:
    """Measure both sides in turn and print the results."""
    parser = argparse.ArgumentParser(prog="python -m bench.states", description=__doc__)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    folder = HERE / "data" / "states-captioner"
    if not folder.exists():
        make_folder(folder)
    caption, *states = resolve_all(features(folder, args.new_tokens))
    plain, giving = (TransformersCaptioner(caption, Placement(threads=1)) for _ in range(2))
    for spec in states:
        DecoderStates(spec, Placement(threads=1, beside=giving))
    rows = [(picture(seed),) for seed in range(args.batch)]
    # Replies and not captions: of random weights they are no texts.
    decoding = Decoding(max_new_tokens=args.new_tokens)
    tokens = [(said.prompt_tokens, said.new_tokens) for said in plain.replies(rows, decoding)]
    giving.replies(rows, decoding)
    rounds = [
        (seconds(lambda: plain.replies(rows, decoding)), seconds(lambda: giving.replies(rows, decoding)))
        for _ in range(args.rounds)
    ]
    without, with_states = (min(side) for side in zip(*rounds, strict=True))
    ratios = [b / a for a, b in rounds]
    results = {
        "tokens of question and answer": tokens, "load": os.getloadavg(),
        "rounds": rounds, "ratio": with_states / without, "least": min(ratios), "most": max(ratios),
    }  # fmt: skip
    (HERE / "out").mkdir(exist_ok=True)
    (HERE / "out" / "states.json").write_text(json.dumps(results, indent=2))
    print(json.dumps(results))


def features(folder: Path, new_tokens: int) -> dict[str, FeatureConfig]:
    """A caption, and two features of the states of its question."""
    caption = {"source": "cover", "captioner": "transformers", "model": str(folder), "weights": "random:0"}
    states = {"source": "caption", "encoder": "decoder_states"}
    return {
        "caption": FeatureConfig(**caption, max_new_tokens=new_tokens),
        "last": FeatureConfig(**states),
        "means": FeatureConfig(**states, pooling="mean"),
    }


def seconds(side: Callable[[], object]) -> float:
    """Of the processor for one call."""
    began = time.process_time()
    side()
    return time.process_time() - began


def picture(seed: int) -> Frames:
    """Noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (1, _SIDE, _SIDE, 3), dtype=np.uint8)
    return Frames(pixels, (0.0,))


def make_folder(folder: Path) -> None:
    """The tests' tiny SmolVLM with a larger language model, and as many tokens of a picture as the real one
    has (64)."""
    import transformers

    sys.path.insert(0, str(HERE.parent / "tests"))
    from helpers import tiny_listeners

    tiny_listeners.smolvlm(folder)
    (folder / "model.safetensors").unlink()
    config = transformers.SmolVLMConfig.from_pretrained(folder)
    for name, value in _LANGUAGE_MODEL.items():
        setattr(config.text_config, name, value)
    config.scale_factor, config.vision_config.image_size, config.vision_config.patch_size = 4, _SIDE, 16
    config.save_pretrained(folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    processor.image_seq_len = 64
    processor.image_processor.size = processor.image_processor.max_image_size = {"longest_edge": _SIDE}
    processor.save_pretrained(folder)


if __name__ == "__main__":
    main()
