"""How directions fill their space: principal axes, intrinsic dimension, hubness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_ROWS = 1024
# Facco et al. leave the largest tenth of the ratios out of their fit.
_FITTED = 0.9
_FEWEST = 20


@dataclass(frozen=True)
class Axes:
    """Principal axes of some vectors.

    Attributes:
        mean: ``[dims]``.
        variances: float64, of each axis, the largest first; none is below 0.
        axes: ``[axes, dims]``.
    """

    mean: np.ndarray
    variances: np.ndarray
    axes: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """Of all variance; zeros if there is none."""
        shares: np.ndarray = self.variances / (self.variances.sum() or 1.0)
        return shares


def principal_axes(vectors: np.ndarray) -> Axes:
    """Of ``[n, dims]`` vectors: eigenvectors of their covariance (over n), with signs by which the largest
    entry of an axis is positive.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    n, dims = vectors.shape
    if n < dims:
        _, lengths, axes = np.linalg.svd(vectors - mean, full_matrices=False)
        variances = lengths**2 / n
    else:
        covariance = np.zeros((dims, dims))
        for start in range(0, n, _ROWS):
            part = vectors[start : start + _ROWS] - mean
            covariance += part.T @ part
        found, columns = np.linalg.eigh(covariance / n)
        variances, axes = found[::-1], columns.T[::-1]
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    return Axes(mean, np.maximum(variances, 0), axes * signs[:, None])


def participation(shares: np.ndarray) -> float:
    """How many axes would hold the variance if all that did held equally much: 1 / sum of squared shares."""
    squares = float((shares**2).sum())
    return 1 / squares if squares else 0.0


def effective_rank(shares: np.ndarray) -> float:
    """e to the entropy of the shares (Roy and Vetterli, "The effective rank", 2007), of variances."""
    held = shares[shares > 0]
    return float(np.exp(-(held * np.log(held)).sum())) if len(held) else 0.0


def mean_cosine(unit: np.ndarray) -> float:
    """Of all pairs of different rows of length 1: by the length of their sum, no pair is looked at."""
    n = len(unit)
    total = unit.sum(axis=0, dtype=np.float64)
    return float((total @ total - n) / (n * (n - 1)))


def two_nn(vectors: np.ndarray, at: np.ndarray) -> float | None:
    """The intrinsic dimension by the ratio of the distances to the two nearest neighbours.

    After Facco, d'Errico, Rodriguez and Laio, "Estimating the intrinsic dimension of datasets by a minimal
    neighborhood information" (2017): with ratios mu in rising order and F(mu_i) = i / n, the dimension is the
    slope, through the origin, of -log(1 - F) over log(mu), the largest tenth of the ratios left out.

    Args:
        vectors: ``[n, dims]``, all different.
        at: ``[n, 2]``: the two nearest others of each.

    Returns:
        None of fewer than 20 vectors, or where all ratios are 1.
    """
    n = len(vectors)
    if n < _FEWEST:
        return None
    ratios = np.empty(n)
    for start in range(0, n, _ROWS):
        part = slice(start, start + _ROWS)
        # Differences in float64: from a cosine, a small distance would be mostly rounding.
        apart = vectors[part, None].astype(np.float64) - vectors[at[part]]
        lengths = np.sort(np.linalg.norm(apart, axis=2), axis=1)
        ratios[part] = lengths[:, 1] / lengths[:, 0]
    fitted = int(n * _FITTED)
    x = np.log(np.sort(ratios))[:fitted]
    y = -np.log(1 - np.arange(1, fitted + 1) / n)
    return float(x @ y / (x @ x)) if x.any() else None


def occurrences(at: np.ndarray) -> np.ndarray:
    """int64 ``[n]``: of how many others each row is among the nearest, ``at`` being ``[n, k]``."""
    return np.bincount(at.ravel(), minlength=len(at))


def skewness(values: np.ndarray) -> float:
    """The third standardised moment; 0 if all values are equal."""
    apart = values - values.mean()
    deviation = float(np.sqrt((apart**2).mean()))
    return float((apart**3).mean()) / deviation**3 if deviation else 0.0


def robin_hood(times: np.ndarray, k: int) -> float:
    """Half the mean distance from ``k``, over ``k`` (the Hoover index; Feldbauer et al. 2018)."""
    return float(np.abs(times - k).mean() / (2 * k))
