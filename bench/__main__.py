"""``python -m bench [--full | --quick] [--only PART ...] [--rounds N]``: mmfeat beside the machine's
limits, the plain PyTorch loop and other tools.

Media and models are generated once (``bench/data``). Every part is written to ``bench/out`` as soon as it is
measured: the long form's to ``results.json``, another's to ``results-FORM.json``. Parts that are not measured
again keep what they had. ``python -m bench.table`` draws them.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench import captions, limits, media, ratios
from bench.ends import Suite
from bench.sizes import CAPTIONS, ENDS, FORMS, LIMITS, PEERS, Size

HERE = Path(__file__).parent
DATA, OUT = HERE / "data", HERE / "out"
RESULTS = OUT / "results.json"
_PACKAGES = (
    "mmfeat", "torch", "torchvision", "openvino", "open-clip-torch", "timm", "transformers",
    "sentence-transformers", "ray", "lancedb", "pylance", "av", "decord2", "simplejpeg", "pillow", "numpy",
)  # fmt: skip


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--full", action="store_true", help="the long form, without the peers: --only peers")
    form.add_argument("--quick", action="store_true", help="about a minute: prints ratios")
    parser.add_argument("--only", choices=LIMITS + ENDS + CAPTIONS + PEERS, action="append", metavar="PART")
    parser.add_argument("--rounds", type=int, metavar="N", help="instead of the form's own number")
    args = parser.parse_args()
    form_name = "full" if args.full else "quick" if args.quick else "short"
    size = FORMS[form_name]
    if args.rounds:
        size = replace(size, repeats=args.rounds)
    results = _measured(size, form_name, args.only or size.parts)
    print("\n".join(ratios.lines(results["rows"])))


def _measured(size: Size, form: str, parts: list[str] | tuple[str, ...]) -> dict[str, Any]:
    shutil.rmtree(OUT / "work", ignore_errors=True)
    pool, graphs = DATA / "pool", DATA / "models"
    covers, h264, hevc = size.pool
    # One in a hundred more, for what changes.
    media.write_pool(pool, covers + covers // 100, h264, hevc)
    wanted = ["weights"] * ("peers" in parts) + ["graphs"] * bool(
        {"model", "titles model"} & set(parts) and not size.modes
    )
    # In a process of its own: here nothing may hold memory or threads while others are measured.
    subprocess.run([sys.executable, "-m", "bench.models", str(graphs), *wanted], check=True)
    suite = Suite(pool, graphs, OUT / "work", size)
    measures: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "read": lambda: limits.read(pool, size),
        "decode": lambda: limits.decode(pool, size),
        "clip decode": lambda: limits.clip_decode(pool, size),
        "matrix product": lambda: limits.matrix_product(size),
        "model": lambda: limits.model(graphs, size),
        "titles model": lambda: limits.titles_model(graphs, size),
        "store": lambda: limits.store(size),
        "again": suite.again,
        "captions": lambda: captions.rows(DATA, OUT / "work", size),
        "peers": suite.peers,
    }
    results = _found(form)
    for part in parts:
        began = time.perf_counter()
        rows = measures[part]() if part in measures else suite.part(part)
        results["rows"] = [row for row in results["rows"] if row["part"] != part] + rows
        results["parts"][part] = {"took_seconds": round(time.perf_counter() - began), "size": asdict(size)}
        OUT.mkdir(parents=True, exist_ok=True)
        _file(form).write_text(json.dumps(results, indent=1))
        print(f"{part}: measured in {results['parts'][part]['took_seconds']} s", file=sys.stderr, flush=True)
    return results


def _found(form: str) -> dict[str, Any]:
    """The results of this form so far."""
    file = _file(form)
    found = json.loads(file.read_text()) if file.exists() else {"form": form, "parts": {}, "rows": []}
    return found | {"machine": _machine()}


def _file(form: str) -> Path:
    """Where the results of a form are."""
    return RESULTS if form == "full" else RESULTS.with_stem(f"results-{form}")


def _machine() -> dict[str, Any]:
    """What the figures were taken on."""
    cpu = next((line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")), None)
    return {
        "cpu": cpu or platform.machine(),
        "cores": limits.cores(),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


if __name__ == "__main__":
    main()
