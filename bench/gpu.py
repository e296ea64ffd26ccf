"""``python -m bench.gpu FOLDER``: mmfeat's stages on a GPU, without Ray.

From JPEGs on disk to vectors beside the model alone, decoders, and captions by batch size. FOLDER holds
``covers/*.jpg``; they are made if there are none. Weights are random and seeded, networks run in bfloat16.
Figures are printed as JSON. ``--device cpu --tiny`` runs the same code on small models anywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from bench import media
from bench.flops import DINOV2_L, VIT_B_32, VIT_L_14, ViT
from mmfeat.extract.registry import resolve_all
from mmfeat.pipelines.execution.stages import Decode, Encode
from mmfeat.pipelines.planning.work import PAYLOAD, STAMP, WORK_SCHEMA
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec

# bfloat16 without sparsity, as the makers' data sheets give it, by a part of the device's name.
_PEAK_FLOPS = {
    "H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12,
}  # fmt: skip
_WORK_PER_BATCH = 64


@dataclass(frozen=True)
class Picture:
    """An image model: how a job names it, and its shape."""

    encoder: str
    model: str
    shape: ViT

    def spec(self) -> FeatureSpec:
        """Its feature of covers, in bfloat16."""
        config = {"source": "cover", "encoder": self.encoder, "model": self.model, "weights": "random:0"}
        return resolve_all({"covers": FeatureConfig.model_validate({**config, "dtype": "bfloat16"})})[0]

    def network(self, device: str) -> torch.nn.Module:
        """Its upstream's image tower."""
        if self.encoder == "open_clip":
            import open_clip

            network = open_clip.create_model(self.model).visual
        else:
            import timm

            network = timm.create_model(self.model, num_classes=0)
        return network.to(device, torch.bfloat16).eval()


PICTURES = {
    "CLIP ViT-B/32": Picture("open_clip", "ViT-B-32", VIT_B_32),
    "CLIP ViT-L/14": Picture("open_clip", "ViT-L-14", VIT_L_14),
    "DINOv2-L": Picture("timm", "vit_large_patch14_dinov2", DINOV2_L),
}
TINY_PICTURES = {"ViT-Ti/16": Picture("timm", "vit_tiny_patch16_224", ViT(224, 16, 192, 12))}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small models and few files, to try the harness")
    parser.add_argument("--covers", type=int, default=4096)
    parser.add_argument("--decode", choices=["processes", "threads"], default="processes")
    parser.add_argument("--only", choices=["pictures", "decode", "captions"], action="append")
    args = parser.parse_args()
    wanted = args.only or ["pictures", "decode", "captions"]
    paths = media.covers_of(
        media.write_pool(args.folder, covers := 32 if args.tiny else args.covers, 0, 0), covers
    )
    peak = _peak(args.device)
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if args.device == "cuda" else args.device,
        "cores": _cores(),
        "torch": torch.__version__,
        "peak_flops": peak,
        "matmul_flops": matmul_flops(args.device, 512 if args.tiny else 8192),
    }
    print(json.dumps(found), flush=True)
    if "pictures" in wanted:
        for name, picture in (TINY_PICTURES if args.tiny else PICTURES).items():
            batches = (4,) if args.tiny else (32, 64, 128, 256, 512)
            alone = {batch: model_alone(picture, args.device, batch) for batch in batches}
            best = max(alone.values())
            found[name] = {
                "model_alone_per_second": alone,
                "flops_per_picture": picture.shape.flops,
                "mfu": best * picture.shape.flops / peak if peak else None,
                "share_of_matmul": best * picture.shape.flops / found["matmul_flops"],
                "end_to_end": end_to_end(
                    picture, paths, args.device, args.decode, max(alone, key=alone.__getitem__)
                ),
            }
            print(json.dumps({name: found[name]}), flush=True)
    if "decode" in wanted:
        found["decode"] = decoding(paths, args.device)
        print(json.dumps({"decode": found["decode"]}), flush=True)
    if "captions" in wanted:
        for batch in (1, 2) if args.tiny else (1, 8, 32, 64, 128):
            row = captions(args.device, args.tiny, batch)
            print(json.dumps({"captions": row}), flush=True)


def model_alone(picture: Picture, device: str, batch: int) -> float:
    """Pictures per second on ready tensors."""
    network = picture.network(device)
    side = picture.shape.side
    pixels = torch.randn(batch, 3, side, side, device=device, dtype=torch.bfloat16)

    def step() -> int:
        with torch.inference_mode():
            network(pixels)
        return batch

    return _rate(step, device)


def end_to_end(picture: Picture, paths: list[Path], device: str, decode: str, batch: int) -> dict[str, float]:
    """Pictures per second from files to vectors while all cores decode, and of the decoding alone.

    The first batch is left out: it waits for the decoders to start.
    """
    spec = picture.spec()
    tables = [work(paths[start : start + _WORK_PER_BATCH]) for start in range(0, len(paths), _WORK_PER_BATCH)]
    if len(tables) == 1:
        tables = [work(paths[: len(paths) // 2]), work(paths[len(paths) // 2 :])]
    encode = Encode([spec], [0], last=True, device=device, batch_size=batch)
    with _decoders(decode, spec) as pool:
        alone = _drained(_decoded(pool, tables, decode, spec), lambda table: len(table))
        both = _drained(_decoded(pool, tables, decode, spec), lambda table: len(_checked(encode(table))))
    return {"decode_per_second": alone, "per_second": both}


def _drained(tables: Iterator[pa.Table], use: Callable[[pa.Table], int]) -> float:
    use(next(tables))
    began, items = time.perf_counter(), 0
    for table in tables:
        items += use(table)
    return round(items / (time.perf_counter() - began), 1)


def _checked(results: pa.Table) -> pa.Table:
    failed = set(results["status"].to_pylist()) - {"ok"}
    assert not failed, f"some covers are {failed}: {set(results['reason'].to_pylist())}"
    return results


def _decoders(kind: str, spec: FeatureSpec) -> Executor:
    if kind == "threads":
        return ThreadPoolExecutor(_cores())
    return ProcessPoolExecutor(_cores(), get_context("spawn"), initializer=_one_thread)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _decoded(pool: Executor, tables: list[pa.Table], kind: str, spec: FeatureSpec) -> Iterator[pa.Table]:
    """Decoded tables in order, a few ahead of what is asked for."""
    left = iter(tables)
    decode = partial(_decode, spec)
    waiting: deque[Future[pa.Table]] = deque(pool.submit(decode, t) for t in islice(left, 2 * _cores()))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(decode, table) for table in islice(left, 1))


def _decode(spec: FeatureSpec, table: pa.Table) -> pa.Table:
    return Decode([spec], MediaLimits())(table)


def work(paths: list[Path]) -> pa.Table:
    """A work item per cover that wants the one feature."""
    columns: dict[str, Any] = {
        "work": range(len(paths)),
        "item_id": [path.stem for path in paths],
        "group": ["cover"] * len(paths),
        "features": [[0]] * len(paths),
    }
    arrays = {field.name: pa.array(columns[field.name], field.type) for field in WORK_SCHEMA}
    places = pa.array([str(path) for path in paths])
    return pa.table({**arrays, f"{PAYLOAD}cover": places, f"{STAMP}cover": pa.repeat("", len(paths))})


def decoding(paths: list[Path], device: str) -> dict[str, float]:
    """JPEGs per second by torchvision, 64 at a time, not resized: on the CPU and by the GPU's decoder."""
    from torchvision.io import decode_jpeg, read_file

    files = [read_file(str(path)) for path in paths[:64]]

    def step(where: str) -> int:
        decode_jpeg(files, device=where)
        return len(files)

    found = {"torchvision, one thread": _rate(lambda: step("cpu"), "cpu")}
    if device == "cuda":
        found["torchvision, cuda"] = _rate(lambda: step("cuda"), device)
    return found


def captions(device: str, tiny: bool, batch: int, new_tokens: int = 64) -> dict[str, float]:
    """Tokens per second of a vision-language model by transformers: greedy, every answer of the same length.

    LLaVA's architecture of CLIP ViT-L/14 at 336 pixels and a language model of three billion weights.
    """
    model = _vlm(tiny).to(device, torch.bfloat16).eval()
    vision = model.config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    ids = torch.full((batch, patches + 32), 5)
    ids[:, :patches] = model.config.image_token_id
    pixels = torch.randn(batch, 3, vision.image_size, vision.image_size, dtype=torch.bfloat16)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}
    inputs = {name: value.to(device) for name, value in inputs.items()}
    new_tokens = 8 if tiny else new_tokens

    def step() -> int:
        with torch.inference_mode():
            model.generate(
                **inputs,
                max_new_tokens=new_tokens,
                min_new_tokens=new_tokens,
                do_sample=False,
                pad_token_id=0,
            )
        return batch * new_tokens

    weights = sum(weight.numel() for weight in model.parameters())
    return {"batch": batch, "weights": weights, "new_tokens_per_second": _rate(step, device)}


def _vlm(tiny: bool) -> Any:
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, Qwen2Config

    torch.manual_seed(0)
    if tiny:
        sees = CLIPVisionConfig(
            image_size=56, patch_size=14, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, projection_dim=32,
        )  # fmt: skip
        says = Qwen2Config(
            vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2,
        )  # fmt: skip
    else:
        sees = CLIPVisionConfig(
            image_size=336, patch_size=14, hidden_size=1024, intermediate_size=4096, num_hidden_layers=24,
            num_attention_heads=16, projection_dim=768,
        )  # fmt: skip
        says = Qwen2Config(
            vocab_size=151936, hidden_size=2048, intermediate_size=11008, num_hidden_layers=36,
            num_attention_heads=16, num_key_value_heads=2,
        )  # fmt: skip
    config = LlavaConfig(vision_config=sees, text_config=says, image_token_id=says.vocab_size - 1)
    return LlavaForConditionalGeneration._from_config(config, dtype=torch.bfloat16)


def matmul_flops(device: str, side: int) -> float:
    """FLOP/s of a large bfloat16 product: what the device reaches in practice."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))

    def step() -> int:
        torch.mm(a, b)
        return 1

    return _rate(step, device) * 2 * side**3


def _rate(step: Callable[[], int], device: str, seconds: float = 3.0) -> float:
    """Items per second of a step, after two that are not counted."""
    for _ in range(2):
        step()
    _wait(device)
    began, items = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        items += step()
        # Work is queued faster than it is done: without waiting now and then the clock means nothing.
        _wait(device)
    return round(items / (time.perf_counter() - began), 3)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _peak(device: str) -> float | None:
    if device != "cuda":
        return None
    name = torch.cuda.get_device_name()
    return next((flops for part, flops in _PEAK_FLOPS.items() if part in name), None)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()
