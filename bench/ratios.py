"""What the figures say of each other: medians, and mmfeat's rates as parts of limits and of other sides'."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.decoders import INEXACT
from bench.ends import PLAIN
from bench.models import ENCODERS, EXACT_MODES

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


def best(rows: Iterable[Row], part: str, having: str = "", without: tuple[str, ...] = ()) -> float | None:
    """The greatest median rate of a limit's rows whose name ends with ``having``."""
    rates = [
        median(row["per_second"])
        for row in rows
        if row["part"] == part and row.get("per_second")
        if row["name"].endswith(having) and row["name"] not in without
    ]
    return max(rates, default=None)


def cover_ceiling(rows: list[Row], precision: str, models: Iterable[str]) -> Ceiling | None:
    """The ceiling of covers that several models see after one decoding, by the best exact decoder and each
    model's best mode of a precision (``32`` or ``16``)."""
    decode = best(rows, "decode", without=INEXACT)
    modes = {"32": EXACT_MODES, "16": ("torch bf16", "OpenVINO bf16")}[precision]
    rates = [
        max((best(rows, "model", f"{model}, {mode}") or 0.0 for mode in modes), default=0.0)
        for model in models
    ]
    if decode is None or not all(rates):
        return None
    return Ceiling(decode, 1 / sum(1 / rate for rate in rates))


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


def of_ceiling(rows: list[Row], row: Row) -> Ceiling | None:
    """The ceiling of an end-to-end row, where there is one."""
    precision = "16" if "bf16" in row["name"] else "32"
    if row["part"] == "covers":
        return cover_ceiling(rows, precision, ("CLIP ViT-B/32",))
    if row["part"] == "three encoders":
        return cover_ceiling(rows, precision, ENCODERS)
    return None


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
