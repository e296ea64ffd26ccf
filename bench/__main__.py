"""``python -m bench [--images N] [--clips N] [--only NAME]``: mmfeat beside the plain PyTorch loop.

Generates the media once (bench/data), runs each pair one after the other on the same files, checks that
both made the same vectors, and writes bench/out/results.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench import media
from bench.measure import Measured, measure

HERE = Path(__file__).parent
CLIP_JOB = {
    "clip_image": {"source": "cover", "encoder": "open_clip", "model": "ViT-B-32", "weights": "random:0"}
}


def main() -> None:
    """Run the comparisons that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--only", choices=["clip", "offline", "again"], action="append")
    args = parser.parse_args()
    data = HERE / "data" / f"{args.images}-{args.clips}"
    media.write_images(data, args.images)
    media.write_clips(data, args.clips)
    media.write_titles(data, args.images)
    out = HERE / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    wanted = args.only or ["clip", "offline", "again"]
    results: dict[str, Any] = {"machine": machine(), "images": args.images, "clips": args.clips}
    for name in wanted:
        results[name] = {"clip": clip, "offline": offline, "again": again}[name](data, out)
        print(json.dumps({name: results[name]}, indent=2), flush=True)
    (out / "results.json").write_text(json.dumps(results, indent=2))


def clip(data: Path, out: Path) -> dict[str, Any]:
    """CLIP ViT-B/32 with random weights on the covers."""
    plain = measure([sys.executable, "-m", "bench.plain", "clip", str(data), str(out / "plain")])
    job = write_job(out / "clip.toml", data, out / "store-clip", CLIP_JOB)
    mine = measure([sys.executable, "-c", RUN, "run", str(job), "--json"])
    return compare(plain, mine)


def offline(data: Path, out: Path) -> dict[str, Any]:
    """The preset ``offline`` on covers, clips and titles."""
    plain = measure([sys.executable, "-m", "bench.plain", "offline", str(data), str(out / "plain")])
    arguments = ["--dataset", "folder", "--root", str(data), "--store", str(out / "store-offline"), "--json"]
    mine = measure([sys.executable, "-c", RUN, "extract", "--preset", "offline", *arguments])
    theirs = np.load(out / "plain" / "covers.npy")
    return compare(plain, mine) | {
        "cover_cnn_cosine_min": agreement(out / "store-offline", "cover_cnn", theirs)
    }


def again(data: Path, out: Path) -> dict[str, Any]:
    """The same command on a store with nothing new."""
    arguments = ["--dataset", "folder", "--root", str(data), "--store", str(out / "store-offline"), "--json"]
    mine = measure([sys.executable, "-c", RUN, "extract", "--preset", "offline", *arguments])
    report = json.loads(mine.output)
    return {"seconds": mine.seconds, "computed": report["computed"], "driver_mb": mine.driver_mb}


RUN = "from mmfeat.cli import main; main()"


def write_job(path: Path, data: Path, store: Path, features: dict[str, dict[str, Any]]) -> Path:
    """A job file on the generated folder."""
    lines = [f'[store]\nuri = "{store}"', f'[dataset]\nname = "folder"\nroot = "{data}"']
    for name, config in features.items():
        lines.append(f"[features.{name}]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in config.items()))
    path.write_text("\n".join(lines))
    return path


def compare(plain: Measured, mine: Measured) -> dict[str, Any]:
    """Both sides and mmfeat's speed as a multiple of the plain loop's, with start-up and without."""
    loop, report = json.loads(plain.output), json.loads(mine.output)
    return {
        "plain": {**asdict(plain), "output": loop},
        "mmfeat": {**asdict(mine), "output": report},
        "ratio_whole_command": plain.seconds / mine.seconds,
        "ratio_steady": report["rows_per_second"] / loop["steady_per_second"],
    }


def agreement(store: Path, feature: str, theirs: np.ndarray) -> float:
    """The smallest cosine between mmfeat's vectors and the plain loop's, item by item."""
    import mmfeat

    opened = mmfeat.open(store)
    ids = sorted(i for i in opened.ids)[: len(theirs)]
    mine = opened.lookup(ids, [feature])[feature].matrix.astype(np.float64)
    theirs = theirs.astype(np.float64)
    dots = (mine * theirs).sum(1) / np.linalg.norm(mine, axis=1) / np.linalg.norm(theirs, axis=1)
    return float(dots.min())


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    from importlib.metadata import version

    names = (
        "torch",
        "torchvision",
        "open-clip-torch",
        "ray",
        "lancedb",
        "pylance",
        "decord2",
        "av",
        "mmfeat",
    )
    model = next(
        (line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")),
        platform.machine(),
    )
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in names},
    }


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


if __name__ == "__main__":
    main()
