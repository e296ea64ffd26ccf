"""``python -m bench.codes [--items N] [--sample S] [--dims D] [--codebook-size K]``: codes of large stores.

Fits residual k-means to a sample of made-up vectors in clusters, gives codes to all of them block by block,
and prints and writes to bench/out/codes.json: seconds of the fit and of the assignment, CPU seconds of both,
the share of the latter's that the same matrix products alone take (as much of the machine's matrix product as
assignment reaches), memory, and what ten million vectors would take. CPU seconds are the figures of a busy
machine, and with OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1: threads that wait for each other burn them.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from bench.export import memory_mb
from bench.measure import clocks

HERE = Path(__file__).parent
_CLUSTERS = 20_000
_BLOCK = 16_384


def main() -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(prog="python -m bench.codes", description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--sample", type=int, default=131_072)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--codebook-size", type=int, default=8192)
    args = parser.parse_args()
    results = {**vars(args), "load": os.getloadavg(), **measured(**vars(args))}
    (HERE / "out").mkdir(exist_ok=True)
    (HERE / "out" / "codes.json").write_text(json.dumps(results, indent=2))
    print(json.dumps(results))


def measured(items: int, sample: int, dims: int, levels: int, codebook_size: int) -> dict[str, Any]:
    """Seconds and memory of the fit and of the assignment."""
    from mmfeat.extract.fitted.codes import ResidualKMeans

    centres = np.random.default_rng(0).standard_normal((_CLUSTERS, dims)).astype(np.float32)
    before = memory_mb("VmRSS")
    vectors, sizes = block_of(centres, 0, sample), {"levels": levels, "codebook_size": codebook_size}
    began = clocks()
    fitted = ResidualKMeans.fit(vectors, **sizes, seed=0)
    fit = clocks() - began
    assign, products = np.zeros(2), np.zeros(2)
    for number, start in enumerate(range(0, items, _BLOCK), 1):
        block = block_of(centres, number, min(_BLOCK, items - start))
        began = clocks()
        fitted.encode(block)
        assign += clocks() - began
        # Right after it, so that both meet the machine in the same mood.
        began = clocks()
        for codebook in fitted.codebooks:
            block @ codebook.T
        products += clocks() - began
    return {
        "fit_seconds": fit[0],
        "fit_cpu_seconds": fit[1],
        "assign_seconds": assign[0],
        "assign_cpu_seconds": assign[1],
        "share_of_matrix_product": products[1] / assign[1],
        "ten_million_assign_seconds": assign[0] * 10_000_000 / items,
        "ten_million_assign_cpu_seconds": assign[1] * 10_000_000 / items,
        "peak_mb": memory_mb("VmHWM") - before,
    }


def block_of(centres: np.ndarray, number: int, rows: int) -> np.ndarray:
    """float32 ``[rows, dims]`` around the centres; every number gives others."""
    rng = np.random.default_rng(number + 1)
    noise = rng.standard_normal((rows, centres.shape[1]), np.float32)
    made: np.ndarray = centres[rng.integers(0, len(centres), rows)] + 0.5 * noise
    return made


if __name__ == "__main__":
    main()
