"""``python -m bench.report [--items N]``: a caption report of a store with made-up captions and vectors.

Makes two versions of captions (25 to 60 words), picture, caption and title vectors once (bench/data), then
makes the report with a comparison, renders the page, and writes bench/out/report.json. The text tower is the
tests' tiny CLIP; the seconds inside it are told apart from the rest. CPU seconds are of all threads, and say
more on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
TESTS = HERE.parent / "tests"
COVERS, WORDS, CHANGED = 200, 5000, 0.3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    args = parser.parse_args()
    folder = HERE / "data" / f"report-{args.items}"
    sys.path[:0] = [str(TESTS), str(TESTS / "report")]
    if not folder.exists():
        make_store(folder, args.items)
    measured = {"items": args.items, "load": os.getloadavg(), **measure(folder / "store")}
    (HERE / "out" / "report.json").write_text(json.dumps(measured, indent=2))
    print(json.dumps(measured))


def measure(store: Path) -> dict[str, Any]:
    """Seconds of the report, of the models in it and of the page; bytes of the page."""
    import mmfeat
    from mmfeat.extract.encoders.open_clip import OpenClip
    from mmfeat.report.build import ReportOptions
    from mmfeat.report.page import render

    in_model = np.zeros(2)
    encode = OpenClip.encode_texts

    def timed(self: OpenClip, texts: Any) -> np.ndarray:
        nonlocal in_model
        began = _clocks()
        vectors = encode(self, texts)
        in_model += _clocks() - began
        return vectors

    OpenClip.encode_texts = timed  # type: ignore[method-assign]
    began = _clocks()
    report = mmfeat.open(store).report_captions(ReportOptions(language="en"))
    made = _clocks()
    page = render(report)
    drawn = _clocks()
    (HERE / "out" / "report.html").write_text(page)
    parts = {"report": made - began - in_model, "models": in_model, "page": drawn - made}
    return {
        **{f"{part}_seconds": round(float(spent[0]), 2) for part, spent in parts.items()},
        **{f"{part}_cpu_seconds": round(float(spent[1]), 2) for part, spent in parts.items()},
        "page_mb": len(page.encode()) / 1e6,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def _clocks() -> np.ndarray:
    """Wall and CPU seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def make_store(folder: Path, n: int) -> None:
    """Captions of words by Zipf's law; vectors that find each other somewhat."""
    import reporting
    from helpers import synthetic, worlds
    from test_caption_report import random_spec

    rng = np.random.default_rng(0)
    covers = [str(worlds.write_cover(folder, str(k), s)) for k, s in enumerate(synthetic.held_out(COVERS))]
    ids = [f"{k:06d}" for k in range(n)]
    media = {i: covers[k % COVERS] for k, i in enumerate(ids)}
    titles = {i: " ".join(_words(rng, 6)) for i in ids}
    texts = {i: " ".join(_words(rng, int(rng.integers(25, 60)))) + "." for i in ids}
    before = {i: " ".join(_words(rng, 40)) if rng.random() < CHANGED else texts[i] for i in ids}
    reporting.write(folder / "store", reporting.Planted(ids, before, titles, media))
    store = reporting.write(folder / "store", reporting.Planted(ids, texts, titles, media), prompt_version=2)
    upstream = store.resolve("caption").fingerprint
    told = rng.normal(size=(n, 384))
    reporting.add_vectors(store, random_spec("caption_text", 384, upstream=upstream), ids, told)
    named = told + rng.normal(size=told.shape)
    reporting.add_vectors(store, random_spec("title_text", 384, source="title"), ids, named)
    reporting.add_vectors(store, reporting.CLIP_SPEC, ids, rng.normal(size=(n, 64)))


def _words(rng: np.random.Generator, n: int) -> list[str]:
    return [_VOCABULARY[k % WORDS] for k in rng.zipf(1.3, n)]


def _vocabulary() -> list[str]:
    rng = np.random.default_rng(1)
    syllables = ["ba", "den", "ing", "for", "ler", "ma", "ton", "re", "sha", "ver", "pen", "ight"]
    return ["".join(rng.choice(syllables, rng.integers(1, 4))) for _ in range(WORDS)]


_VOCABULARY = _vocabulary()

if __name__ == "__main__":
    main()
