"""The few statistics that the report's sections share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmfeat.report.model import Distribution, Histogram

_BINS = 20


def distribution(values: Sequence[float] | np.ndarray) -> Distribution | None:
    """Quantiles (linear between ranks) and 20 equal bins of the values; None of no values."""
    array = np.asarray(values, np.float64)
    if not len(array):
        return None
    p05, median, p95 = np.quantile(array, (0.05, 0.5, 0.95))
    return Distribution(
        n=len(array),
        mean=float(array.mean()),
        minimum=float(array.min()),
        p05=float(p05),
        median=float(median),
        p95=float(p95),
        maximum=float(array.max()),
        histogram=histograms([array])[0],
    )


def histograms(samples: Sequence[np.ndarray]) -> list[Histogram]:
    """A histogram of each sample, all on the same edges: 20 equal bins, whole numbers wide for counts."""
    everything = np.concatenate([np.asarray(s, np.float64) for s in samples])
    low, high = float(everything.min()), float(everything.max())
    if (everything == np.round(everything)).all():
        width = max(1.0, np.ceil((high - low + 1) / _BINS))
        edges = np.arange(low, high + 1 + width, width)
    else:
        edges = np.linspace(low, high, _BINS + 1)
    return [
        Histogram(
            edges=tuple(float(e) for e in edges),
            counts=tuple(int(c) for c in np.histogram(sample, edges)[0]),
        )
        for sample in samples
    ]


def placements(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Per value of ``own`` the share of ``other`` below it, ties half: their mean is the AUC.

    Args:
        own: ``[n]``.
        other: ``[m]``.

    Returns:
        ``[n]`` in 0..1 (the Mann-Whitney statistic's terms).
    """
    ordered = np.sort(other)
    below = np.searchsorted(ordered, own, side="left")
    up_to = np.searchsorted(ordered, own, side="right")
    return (below + up_to) / (2 * len(ordered))


def bootstrap_interval(values: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the mean of ``[n]`` values, items resampled (Efron 1979)."""
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)])
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def derangement(n: int, seed: int) -> np.ndarray:
    """A seeded order of ``n >= 2`` positions that leaves none in its place."""
    rng = np.random.default_rng(seed)
    cycle = rng.permutation(n)
    shuffled = np.empty(n, np.int64)
    shuffled[cycle] = np.roll(cycle, 1)
    return shuffled
