"""Captions of pictures: mmfeat's captioner beside plain loops of transformers, and what arithmetic allows.

The model is SmolVLM-256M's architecture with random weights (200 M parameters: its vocabulary is one of
bytes); a picture of 512 x 512 is 64 of the 107 tokens of a question. Pictures are PNG files of that size, so
that every side sees the same pixels and its texts can be compared. ``python -m bench --only captions`` runs
all of it; ``python -m bench.captions FOLDER PICTURES OUT BATCH DTYPE NEW_TOKENS BEGAN`` is one plain loop, as
a model's card has it.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench import flops, limits, media, models
from bench.ends import LOAD, PLAIN, RUN
from bench.measure import measure
from bench.rates import Subject, interleaved
from bench.sizes import Captions, Size

SIDE = 512
_ASKED = "Describe this picture."
_VISION = flops.ViT(SIDE, 16, 768, 12, extra=0)
_LANGUAGE = flops.Decoder(width=576, layers=30, hidden=1536, keys=192, vocabulary=264)
_QUESTION = 107
_SHORT = {"float32": "fp32", "bfloat16": "bf16"}
_PROMPT = f"""
name = "bench"
version = 1
max_new_tokens = {{new_tokens}}
text = "{_ASKED}"
"""


@dataclass(frozen=True)
class Side:
    """One way to write captions.

    Attributes:
        batch: of a plain loop; None for mmfeat.
        resources: of mmfeat's job.
    """

    name: str
    dtype: str
    batch: int | None = None
    resources: str = 'executor = "local"'


SIDES = (
    Side(PLAIN, "float32", batch=8),
    Side(f"{PLAIN}, batch 1", "float32", batch=1),
    Side(f"{PLAIN}, bf16", "bfloat16", batch=8),
    Side("mmfeat fp32", "float32"),
    Side("mmfeat bf16", "bfloat16"),
    Side("mmfeat fp32, Ray, 1 worker", "float32", resources="workers = 1"),
    Side("mmfeat fp32, Ray, 2 workers", "float32", resources="workers = 2"),
)


def rows(data: Path, out: Path, size: Size) -> list[dict[str, Any]]:
    """Every side as a command, in turn, ``size.repeats`` times, and the limit of each precision."""
    asked = size.captions
    folder = data / f"captioner-{asked.cut}"
    if not folder.exists():
        write_model(folder, asked.cut)
    pictures = _pictures(out / "media" / "captions", asked.number)
    sides = [side for side in SIDES if asked.sides is None or side.name in asked.sides]
    found: dict[str, dict[str, Any]] = {
        side.name: {"part": "captions", "name": side.name, "precision": _SHORT[side.dtype], "rounds": []}
        for side in sides
    }
    bounds = _bounds(size, sorted({side.dtype for side in sides}))
    # What mmfeat keeps on a machine is made once: proofs, and networks that it converts. A cut model stands
    # for no figure, and has no load of its own for that.
    for side in sides:
        if side.batch is None and asked.cut == 1:
            began = time.perf_counter()
            measure([sys.executable, "-c", LOAD, str(_job(side, folder, pictures, out, asked))])
            found[side.name]["first_load_seconds"] = round(time.perf_counter() - began, 1)
    for _ in range(size.repeats):
        for side in sides:
            found[side.name]["rounds"].append(_run(side, folder, pictures, out, asked))
    first = found[PLAIN]["rounds"][0]["texts"]
    for row in found.values():
        texts = [round_.pop("texts") for round_ in row["rounds"]]
        row["same_texts"] = min(sum(map(str.__eq__, first, of_round)) for of_round in texts) / len(first)
    return [*bounds, *found.values()]


def _run(side: Side, folder: Path, pictures: Path, out: Path, asked: Captions) -> dict[str, Any]:
    if side.batch is None:
        return _mmfeat(side, folder, pictures, out, asked)
    texts = out / "captions.json"
    told = [str(x) for x in (folder, pictures, texts, side.batch, side.dtype, asked.new_tokens, time.time())]
    done = measure([sys.executable, "-m", "bench.captions", *told])
    return _round(done, json.loads(done.output), json.loads(texts.read_text()))


def _mmfeat(side: Side, folder: Path, pictures: Path, out: Path, asked: Captions) -> dict[str, Any]:
    store = _store(out)
    shutil.rmtree(store, ignore_errors=True)
    job = _job(side, folder, pictures, out, asked)
    done = measure([sys.executable, "-c", RUN, "run", str(job), "--json"])
    import mmfeat

    opened = mmfeat.open(store)
    texts = opened.lookup(sorted(opened.ids), ["caption"])["caption"].texts
    return _round(done, json.loads(done.output), list(texts))


def _job(side: Side, folder: Path, pictures: Path, out: Path, asked: Captions) -> Path:
    job, prompt = out / "captions.toml", out / "captions-prompt.toml"
    prompt.write_text(_PROMPT.format(new_tokens=asked.new_tokens))
    job.write_text(
        f'[store]\nuri = "{_store(out)}"\n[dataset]\nname = "folder"\nroot = "{pictures}"\n'
        f"[resources]\n{side.resources}\n"
        f'[features.caption]\nsource = "cover"\ncaptioner = "transformers"\nmodel = "{folder}"\n'
        f'prompt = "{prompt}"\ndtype = "{side.dtype}"\n'
    )
    return job


def _store(out: Path) -> Path:
    return out / "stores" / "captions"


def _round(done: Any, told: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    return {
        "rows_per_second": told["rows_per_second"],
        "start_seconds": told["start_seconds"],
        "seconds": round(done.seconds, 2),
        "cpu_seconds": done.cpu_seconds,
        "total_mb": done.total_mb,
        "texts": texts,
    }


def _bounds(size: Size, dtypes: list[str]) -> list[dict[str, Any]]:
    """Captions a second if all arithmetic went at the speed of a large matrix product."""
    each = flops_of_a_caption(size.captions)
    subjects = [
        Subject(
            "captions", f"limit {_SHORT[dtype]}", models.products,
            (f"torch {_SHORT[dtype]}", 2048, limits.cores()), 1, limits.cores(),
        )
        for dtype in dtypes
    ]  # fmt: skip
    found = interleaved(subjects, size.repeats, size.seconds)
    return [row | {"per_second": [round(g * 1e9 / each, 3) for g in row["per_second"]]} for row in found]


def flops_of_a_caption(asked: Captions) -> int:
    """Of one picture, its question and the answer, whose last token does not go through the model."""
    sight, language = (replace(part, layers=part.layers // asked.cut) for part in (_VISION, _LANGUAGE))
    # Sixteen patches become one token.
    shown = sight.flops + 2 * 64 * 16 * sight.width * language.width
    answer = language.flops(asked.new_tokens - 1, _QUESTION + asked.new_tokens // 2)
    return shown + language.flops(_QUESTION, _QUESTION) + answer + asked.new_tokens * language.head_flops


def write_model(folder: Path, cut: int = 1) -> None:
    """The model and its processor.

    The tests' tiny SmolVLM at its real size. What it writes are letters: no other token, the one that ends
    an answer among them, has weights in its head, so that each answer is as long as it may be.
    """
    import torch
    import transformers

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from helpers import tiny_listeners

    waiting = folder.with_suffix(".part")
    tiny_listeners.smolvlm(waiting)
    config = transformers.SmolVLMConfig.from_pretrained(waiting)
    for part, shape in ((config.text_config, _TEXT), (config.vision_config, _SIGHT)):
        layers = shape["num_hidden_layers"] // cut
        for name, value in {**shape, "num_hidden_layers": layers, "initializer_range": 0.02}.items():
            setattr(part, name, value)
    config.scale_factor = 4
    processor = transformers.AutoProcessor.from_pretrained(waiting)
    processor.image_seq_len = 64
    for part in (processor.image_processor, processor.video_processor):
        part.size = part.max_image_size = {"longest_edge": SIDE}
    torch.manual_seed(models.SEED)
    model = transformers.SmolVLMForConditionalGeneration(config)
    written = {number for token, number in processor.tokenizer.get_vocab().items() if _is_letter(token)}
    with torch.no_grad():
        model.lm_head.weight[[n for n in range(len(processor.tokenizer)) if n not in written]] = 0
    model.save_pretrained(waiting)
    processor.save_pretrained(waiting)
    waiting.rename(folder)


_TEXT = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "head_dim": 64,
}  # fmt: skip
_SIGHT = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "image_size": SIDE, "patch_size": 16,
}  # fmt: skip


def _is_letter(token: str) -> bool:
    return len(token) == 1 and token.isascii() and token.isprintable()


def _pictures(folder: Path, number: int) -> Path:
    """New PNG files, as mmfeat's dataset ``folder`` reads them."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "covers").mkdir(parents=True)
    for n in range(number):
        pixels = media.picture(np.random.default_rng([models.SEED, n]), SIDE, SIDE)
        Image.fromarray(pixels).save(folder / "covers" / f"{n:06d}.png")
    return folder


def _plain(folder: Path, pictures: Path, batch: int, dtype: str, new_tokens: int) -> Iterator[list[str]]:
    """The texts of each batch, as a model's card shows it."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    processor.tokenizer.padding_side = "left"
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    content = [{"type": "image"}, {"type": "text", "text": _ASKED}]
    asked = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    paths = sorted((pictures / "covers").iterdir())
    for start in range(0, len(paths), batch):
        shown = [[Image.open(path).convert("RGB")] for path in paths[start : start + batch]]
        inputs = processor(text=[asked] * len(shown), images=shown, return_tensors="pt", padding=True)
        inputs = inputs.to(dtype=model.dtype)
        with torch.inference_mode():
            ids = model.generate(**inputs, max_new_tokens=new_tokens, do_sample=False)
        answers = ids[:, inputs["input_ids"].shape[1] :]
        yield [text.strip() for text in processor.batch_decode(answers, skip_special_tokens=True)]


def main() -> None:
    """One plain loop: prints captions a second without the first batch, and when that came."""
    folder, pictures, out, batch, dtype, new_tokens, began = sys.argv[1:]
    texts, ends = list[str](), list[float]()
    for said in _plain(Path(folder), Path(pictures), int(batch), dtype, int(new_tokens)):
        texts += said
        ends.append(time.time())
    Path(out).write_text(json.dumps(texts))
    later = len(texts) - min(int(batch), len(texts))
    rate = later / (ends[-1] - ends[0]) if later else None
    print(json.dumps({"rows_per_second": rate, "start_seconds": round(ends[0] - float(began), 2)}))


if __name__ == "__main__":
    main()
