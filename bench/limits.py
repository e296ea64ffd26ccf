"""What this machine can do at most, each thing alone: read, decode, run a model on ready tensors, store."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench import decoders, media, minilm, models, scale
from bench.rates import Subject, interleaved
from bench.sizes import Size

# A converted network whose rate is asked for at this batch size only: mmfeat's own.
_OTHERS_BATCH = (32,)
_PRODUCT_SIDE = 2048
_STORE_ROWS, _STORE_DIMS = 100_000, 512


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def read(pool: Path, size: Size) -> list[dict[str, Any]]:
    """Covers read whole, by one process."""
    paths = media.covers_of(pool, size.pool[0])
    rows = interleaved([Subject("read", "read", decoders.reading, (paths,))], size.repeats, size.seconds)
    mean = float(np.mean([path.stat().st_size for path in paths]))
    return [{**row, "mean_bytes": round(mean)} for row in rows]


def decode(pool: Path, size: Size) -> list[dict[str, Any]]:
    """Every decoder of JPEGs, in one process and in one per core."""
    paths = media.covers_of(pool, min(size.pool[0], 200))
    subjects = [
        Subject("decode", name, decoders.images, (name, paths), processes)
        for name in size.decoders or decoders.NAMES
        for processes in _processes(size)
    ]
    rows = interleaved(subjects, size.repeats, size.seconds)
    apart = {name: decoders.difference(name, paths[:10]) for name in _measured(rows)}
    return [row | apart.get(row["name"], {}) for row in rows]


def clip_decode(pool: Path, size: Size) -> list[dict[str, Any]]:
    """Every decoder of clips, per codec, in one process and in one per core."""
    paths = {codec: media.clips_of(pool, codec, n) for codec, n in zip(media.CODECS, size.clips, strict=True)}
    subjects = [
        Subject("clip decode", name, decoders.clips, (name, paths), processes)
        for name in decoders.CLIPS
        for processes in _processes(size)
    ]
    return interleaved(subjects, size.repeats, size.seconds)


def matrix_product(size: Size) -> list[dict[str, Any]]:
    """Large matrix products: what the arithmetic of a model could reach."""
    subjects = [
        Subject("matrix product", mode, models.products, (mode, _PRODUCT_SIDE, threads), n, threads)
        for mode in ("torch fp32", "torch bf16")
        for n, threads in _shares(size)
    ]
    return interleaved(subjects, size.repeats, size.seconds)


def model(graphs: Path, size: Size) -> list[dict[str, Any]]:
    """Image models in every mode: one process with all threads, and one of one thread per core."""
    rows = []
    for name, batches, modes in _models(size):
        subjects = [
            Subject(
                "model", f"{name}, {mode}", models.images, (name, mode, batches, threads, graphs), n, threads
            )
            for mode in modes
            for n, threads in _shares(size)
        ]
        # One model at a time: all of them in all modes would not fit in memory.
        rows += interleaved(subjects, size.repeats, size.seconds)
    return rows


def titles_model(graphs: Path, size: Size) -> list[dict[str, Any]]:
    """MiniLM in every mode."""
    texts = media.titles_of(min(size.titles, 2048))
    subjects = [
        Subject("titles model", f"MiniLM, {mode}", minilm.titles, (mode, texts, threads, graphs), n, threads)
        for mode in minilm.MODES
        for n, threads in _shares(size)
    ]
    return interleaved(subjects, size.repeats, size.seconds)


def store(size: Size) -> list[dict[str, Any]]:
    """Rows committed in the groups that a run commits, and with the end of the run, by one process."""
    rates = [_store_rates() for _ in range(size.repeats)]
    row = {"part": "store", "name": f"rows of {_STORE_DIMS} float16", "setting": "1 x 1 thread"}
    return [{**row, "case": case, "per_second": [round(r[case]) for r in rates]} for case in rates[0]]


def _store_rates() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        took = scale.first_run(f"{folder}/store", _STORE_ROWS, _STORE_DIMS, pictures=0)
    commits, end = took["commits"], took["end: compaction, index"]
    return {"commits": _STORE_ROWS / commits, "and the end of a run": _STORE_ROWS / (commits + end)}


def _models(size: Size) -> list[tuple[str, tuple[int, ...], tuple[str, ...]]]:
    """Models, batch sizes and modes: CLIP in all of them; the others as three encoders need them."""
    first, *others = models.ENCODERS
    found = [(first, size.batches, size.modes or models.MODES)]
    return found + [(name, _OTHERS_BATCH, models.MODES) for name in others if size.three]


def _processes(size: Size) -> tuple[int, ...]:
    """How many processes of one thread decode."""
    return (1, cores()) if size.single and cores() > 1 else (cores(),)


def _shares(size: Size) -> tuple[tuple[int, int], ...]:
    """How many processes run a model, and with how many threads each."""
    return ((1, cores()), (cores(), 1)) if size.single and cores() > 1 else ((cores(), 1),)


def _measured(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["name"] for row in rows if "per_second" in row))
