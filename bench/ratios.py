"""What the figures say of each other: medians, and mmfeat's rates as parts of limits and of other sides'."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.decoders import FRAMES, INEXACT, OTHER_FRAMES
from bench.ends import PLAIN
from bench.media import CODECS
from bench.models import CLIP_NAME, ENCODERS, EXACT_MODES

Row = dict[str, Any]


@dataclass(frozen=True)
class Ceiling:
    """What covers can reach, items/s: decoding and models alone, each with all cores."""

    decode: float
    model: float

    @property
    def least(self) -> float:
        """The smaller of the two; out of reach where they share the cores."""
        return min(self.decode, self.model)

    @property
    def together(self) -> float:
        """Where each has the cores for its share of the time."""
        return 1 / (1 / self.decode + 1 / self.model)


def steady(row: Row) -> float | None:
    """The median rate of an end-to-end row."""
    if "rounds" not in row:
        return row.get("rows_per_second")
    rates = [r["rows_per_second"] for r in row["rounds"] if r["rows_per_second"]]
    return median(rates) if rates else None


def spread(values: list[float]) -> str:
    """The median, and the least and the most where there are several."""
    if not values:
        return "-"
    middle = figure(median(values))
    return middle if len(values) == 1 else f"{middle} ({figure(min(values))}-{figure(max(values))})"


def figure(value: float) -> str:
    """Three figures of a number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def best(
    rows: Iterable[Row],
    part: str,
    having: str = "",
    *,
    case: str | None = None,
    without: tuple[str, ...] = (),
) -> float | None:
    """The greatest median rate of a limit's rows whose name ends with ``having``, of one case or of all."""
    rates = [
        median(row["per_second"])
        for row in rows
        if row["part"] == part and row.get("per_second") and case in (None, row["case"])
        if row["name"].endswith(having) and row["name"] not in without
    ]
    return max(rates, default=None)


def of_ceiling(rows: list[Row], row: Row) -> Ceiling | None:
    """The ceiling of an end-to-end row: the best exact decoders, each model's best mode of its precision.

    None if a limit that it takes was not measured.
    """
    precision = "16" if "bf16" in row["name"] else "32"
    counts = row.get("of", {})
    decode, model = [], []
    if covers := counts.get("covers", 0):
        models = ENCODERS if row["part"] == "three encoders" else (CLIP_NAME,)
        decode.append((covers, best(rows, "decode", without=INEXACT)))
        model += [(covers, _best_mode(rows, name, precision)) for name in models]
    for codec in CODECS:
        if clips := counts.get(codec, 0):
            decode.append((clips, best(rows, "clip decode", case=codec, without=OTHER_FRAMES)))
            model.append((clips * FRAMES, _best_mode(rows, CLIP_NAME, precision)))
    if titles := counts.get("titles", 0):
        model.append((titles, _best_mode(rows, "MiniLM", precision, "titles model")))
    items = sum(counts.values())
    rates = [_rate(items, work) for work in (decode, model)]
    return Ceiling(*rates) if items and all(rates) else None


_MODES = {"32": EXACT_MODES, "16": ("torch bf16", "OpenVINO bf16")}


def _best_mode(rows: list[Row], model: str, precision: str, part: str = "model") -> float | None:
    """Items per second of a model by its best mode of a precision."""
    found = [best(rows, part, f"{model}, {mode}") for mode in _MODES[precision]]
    return max(filter(None, found), default=None)


def _rate(items: int, work: list[tuple[int, float | None]]) -> float:
    """Items per second of doing so much of each at such a rate, in turn; 0 if a rate is not known."""
    if not all(rate for _, rate in work):
        return 0.0
    return items / seconds if (seconds := sum(number / rate for number, rate in work if rate)) else math.inf


def lines(rows: list[Row]) -> list[str]:
    """The ratios in words, a line each."""
    found = []
    for part in dict.fromkeys(row["part"] for row in rows if "rounds" in row):
        sides = [row for row in rows if row["part"] == part]
        plain = next((steady(row) for row in sides if row["name"] == PLAIN), None)
        for row in sides:
            rate = steady(row)
            if row["name"] != PLAIN and rate and plain:
                found.append(
                    f"{part}: {row['name']} {rate / plain:.2f} x the plain loop, steady{_of(rows, row, rate)}"
                )
    return found


def items_rate(row: Row, rate: float) -> float:
    """Rows per second as items per second: an item has a row for each of three encoders."""
    return rate / len(ENCODERS) if row["part"] == "three encoders" else rate


def _of(rows: list[Row], row: Row, rate: float) -> str:
    ceiling = of_ceiling(rows, row)
    if ceiling is None:
        return ""
    items = items_rate(row, rate)
    return (
        f"; {items / ceiling.least:.2f} of min(decode, model), "
        f"{items / ceiling.together:.2f} of what both leave each other"
    )
