"""``python -m bench.runtimes [--seconds S] [--only NAME]``: torch beside OpenVINO on this CPU.

In processes of one thread each: pictures per second on ready pixels, or titles per second; seconds to load,
memory, and how alike the vectors are. The first load by OpenVINO converts the network; its cache is a
temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench import media
from mmfeat.extract.base import Encoder, Placement
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.schemas.spec import FeatureConfig

MODELS: dict[str, dict[str, Any]] = {
    "EfficientNet-Lite2": {"encoder": "efficientnet_lite"},
    "ViT-S/16": {"encoder": "timm", "model": "vit_small_patch16_224", "weights": "random:0"},
    "ResNet-50": {"encoder": "timm", "model": "resnet50", "weights": "random:0"},
    "MiniLM": {
        "source": "title",
        "encoder": "sentence_transformers",
        "model": "all-MiniLM-L6-v2",
        "weights": "package",
    },
    "CLIP ViT-B/32": {"encoder": "open_clip", "model": "ViT-B-32", "weights": "random:0"},
}
#: Runtime to the number type, and the pictures that are said to come.
RUNTIMES: dict[str, tuple[str, int | None]] = {
    "torch float32": ("float32", None),
    "openvino float32": ("float32", 10**6),
    "torch bfloat16": ("bfloat16", None),
    "openvino bfloat16": ("bfloat16", 10**6),
}
BATCH, TITLES = 32, 512


def main() -> None:
    """Measure every model in every runtime."""
    parser = argparse.ArgumentParser(prog="python -m bench.runtimes", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--only", choices=list(MODELS), action="append")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        model, runtime, out = args.worker
        print(json.dumps(work(model, runtime, Path(out), args.seconds)))
        return
    with tempfile.TemporaryDirectory() as cache:
        for model in args.only or MODELS:
            compare(model, args.seconds, Path(cache))


def compare(model: str, seconds: float, cache: Path) -> None:
    """One model in every runtime, as one process and as two."""
    for runtime in RUNTIMES:
        if runtime.startswith("openvino"):
            first = run(model, runtime, 1, 0, cache)[0]
            print(f"{model}, {runtime}: {first['load']:.1f} s to load and convert", flush=True)
    for runtime in RUNTIMES:
        for processes in (1, 2):
            found = run(model, runtime, processes, seconds, cache)
            rate = sum(one["rate"] for one in found)
            rest = f"{found[0]['load']:.1f} s to load, at most {found[0]['memory']:.0f} MB per process"
            print(f"{model}, {runtime}, {processes} x 1 thread: {rate:.1f}/s, {rest}", flush=True)
    plain = np.load(cache / "torch float32.npy")
    for runtime in list(RUNTIMES)[1:]:
        found = np.load(cache / f"{runtime}.npy")
        middle = plain.mean(0)
        alike = f"cosine {cosine(found, plain):.7f}, centred {cosine(found - middle, plain - middle):.7f}"
        print(f"{model}, {runtime} to torch float32: least {alike}", flush=True)


def run(model: str, runtime: str, processes: int, seconds: float, cache: Path) -> list[dict[str, float]]:
    """What as many processes at once measured."""
    command = [sys.executable, "-m", "bench.runtimes", "--seconds", str(seconds)]
    command += ["--worker", model, runtime, str(cache / f"{runtime}.npy")]
    env = {**os.environ, "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)
        for _ in range(processes)
    ]
    return [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]


def work(model: str, runtime: str, out: Path, seconds: float) -> dict[str, float]:
    """Load, encode a batch for some seconds, and write its vectors."""
    dtype, expected = RUNTIMES[runtime]
    spec = resolve_all({"feature": FeatureConfig(dtype=dtype, **{"source": "cover", **MODELS[model]})})[0]
    began = time.perf_counter()
    encoder = load_method(spec, Placement("cpu", threads=1, expected=expected))
    loaded = time.perf_counter() - began
    assert isinstance(encoder, Encoder)
    encode = pictures(encoder) if encoder.spec.pixels else titles(encoder)
    np.save(out, vectors := encode(0))
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        calls += 1
        encode(calls)
    took = time.perf_counter() - began
    assert (encoder.runtime or "").startswith(runtime.split()[0]), encoder.notes
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rate": calls * len(vectors) / took, "load": loaded, "memory": memory}


def pictures(encoder: Encoder) -> Callable[[int], np.ndarray]:
    """The vectors of a batch, whose pixels differ from call to call."""
    assert encoder.spec.pixels is not None
    view = encoder.spec.pixels.view
    blocks = np.random.default_rng(0).integers(0, 256, (BATCH, 8, 8, 3), dtype=np.uint8)
    rows, columns = np.arange(view.height) * 8 // view.height, np.arange(view.width) * 8 // view.width
    pixels = np.ascontiguousarray(blocks[:, rows][:, :, columns])
    return lambda call: encoder.encode_images(pixels + np.uint8(call % 100))


def titles(encoder: Encoder) -> Callable[[int], np.ndarray]:
    """The vectors of generated titles, the same ones in every call."""
    texts = media.titles_of(TITLES)
    return lambda call: encoder.encode_texts(texts)


def cosine(found: np.ndarray, expected: np.ndarray) -> float:
    """The least between vectors that belong together."""
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((found * expected).sum(1) / lengths).min())


if __name__ == "__main__":
    main()
