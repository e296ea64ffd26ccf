"""``python -m bench.joint [--items N] [--rounds R]``: a cover and its title as one vector, by mmfeat and by a
plain loop.

The loop is that of sentence-transformers' documentation: messages with opened pictures to ``encode``. mmfeat
reads and decodes the next covers behind its fence while the model runs, as in a run. A small Qwen2.5-VL with
random weights, float32, one thread, in turn, over the covers of a pool (bench/media.py).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench import media
from bench.runtimes import cosine
from mmfeat.extract.base import Encoder, Placement
from mmfeat.extract.fence.decode import MediaRequest, Wanted
from mmfeat.extract.fence.process import decode_fenced_all
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.schemas.catalog import Column
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import FeatureConfig

Encode = Callable[[Sequence[Path], Sequence[str]], np.ndarray]

_AT_ONCE = 8
_COLUMNS = {"title": Column("title", "text"), "cover": Column("cover", "image")}
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% else %}<|vision_start|><|image_pad|><|vision_end|>{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_MARKS = tuple(
    f"<|{name}|>"
    for name in ("endoftext", "im_start", "im_end", "vision_start", "vision_end", "image_pad", "video_pad")
)


def main() -> None:
    """Items a second of each side, and how alike the vectors are."""
    parser = argparse.ArgumentParser(prog="python -m bench.joint", description=__doc__)
    parser.add_argument("--items", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        pool = media.write_pool(Path(place) / "pool", args.items, 0, 0)
        covers, titles = media.covers_of(pool, args.items), media.titles_of(args.items)
        folder = _write_model(Path(place))
        library = {"encoder": "sentence_transformers", "model": str(folder)}
        own = {"encoder": "mllm", "model": str(folder.with_name("plain"))}
        sides = {"plain": _plain(folder), "mmfeat": _mmfeat(library), "mmfeat, mllm": _mmfeat(own)}
        for number in range(args.rounds):
            _round(number, sides, covers, titles)


def _round(number: int, sides: dict[str, Encode], covers: Sequence[Path], titles: Sequence[str]) -> None:
    rates, vectors = {}, {}
    for side, encode in sides.items():
        start = time.perf_counter()
        vectors[side] = encode(covers, titles)
        rates[side] = len(covers) / (time.perf_counter() - start)
    shown = ", ".join(
        f"{side} {rate:.2f} items/s ({rate / rates['plain']:.2f} x)" for side, rate in rates.items()
    )
    least = cosine(vectors["plain"], vectors["mmfeat"])
    load = os.getloadavg()[0]
    print(f"round {number + 1}: {shown}; least cosine {least:.6f}; load {load:.1f}", flush=True)


def _plain(folder: Path) -> Encode:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")

    def encode(covers: Sequence[Path], titles: Sequence[str]) -> np.ndarray:
        messages = []
        for cover, title in zip(covers, titles, strict=True):
            shown = {"type": "image", "image": Image.open(cover).convert("RGB")}
            messages.append([{"role": "user", "content": [{"type": "text", "text": title}, shown]}])
        vectors: np.ndarray = model.encode(messages, batch_size=_AT_ONCE, show_progress_bar=False)
        return vectors

    return encode


def _mmfeat(table: dict[str, Any]) -> Encode:
    config = FeatureConfig.model_validate({**table, "inputs": ["title", "cover"]})
    model = load_method(resolve_all({"item": config}, _COLUMNS)[0], Placement(threads=1))
    assert isinstance(model, Encoder)
    wanted = (Wanted.of(model.spec.inputs[1]),)

    def encode(covers: Sequence[Path], titles: Sequence[str]) -> np.ndarray:
        decoded = decode_fenced_all((MediaRequest(str(cover), wanted) for cover in covers), MediaLimits())
        rows = ((title, one.values[0]) for title, one in zip(titles, decoded, strict=True))
        return np.concatenate([np.stack(model.run(batch)) for batch in _ahead(rows)])

    return encode


def _ahead(rows: Iterator[Any]) -> Iterator[list[Any]]:
    """Rows in batches, the next of which is made while this one is used."""

    def batch() -> list[Any]:
        return [row for _, row in zip(range(_AT_ONCE), rows, strict=False)]

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(batch)
        while found := coming.result():
            coming = pool.submit(batch)
            yield found


def _write_model(place: Path) -> Path:
    """A folder of sentence-transformers, and beside it the plain one of transformers."""
    import transformers as t
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {word: n for n, word in enumerate([*_MARKS, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = t.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        extra_special_tokens={"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
    )  # fmt: skip
    tokenizer.add_special_tokens({"additional_special_tokens": list(_MARKS)})
    ids = {f"{kind}_token_id": vocabulary[f"<|{kind}_pad|>"] for kind in ("image", "video")}
    ids |= {f"vision_{end}_token_id": vocabulary[f"<|vision_{end}|>"] for end in ("start", "end")}
    width = 384
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]}
    config = t.Qwen2_5_VLConfig(
        text_config={
            "hidden_size": width, "intermediate_size": 1024, "num_hidden_layers": 8,
            "num_attention_heads": 12, "num_key_value_heads": 4, "vocab_size": len(tokenizer),
            "rope_parameters": rope,
        },
        vision_config={
            "depth": 8, "hidden_size": width, "intermediate_size": 1024, "num_heads": 6,
            "out_hidden_size": width, "fullatt_block_indexes": [3, 7],
        },
        **ids,
    )  # fmt: skip
    torch.manual_seed(0)
    plain, folder = place / "plain", place / "sentences"
    t.Qwen2_5_VLForConditionalGeneration(config).eval().save_pretrained(plain)
    bounds = {"shortest_edge": 56 * 56, "longest_edge": 256 * 28 * 28}
    pixels = t.Qwen2VLImageProcessor(size=bounds), t.Qwen2VLVideoProcessor(size=bounds)
    t.Qwen2_5_VLProcessor(pixels[0], tokenizer, pixels[1], chat_template=_TEMPLATE).save_pretrained(plain)
    modules = [Transformer(str(plain)), Pooling(width, "lasttoken"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder))
    return folder


if __name__ == "__main__":
    main()
