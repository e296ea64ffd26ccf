"""A last code that tells items apart whose other codes are the same."""

from __future__ import annotations

import numpy as np


def with_collision_level(codes: np.ndarray) -> np.ndarray:
    """``[n, levels]`` codes and one more: 0, 1, 2, ... among equal rows, in the order of the rows.

    Every row of the int32 ``[n, levels + 1]`` result is unique. It is TIGER's answer to collisions
    (arXiv 2305.05065, section 3.1). The new code is bounded by the largest group, not by the codebook.
    """
    group = np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    starts = np.cumsum(sizes) - sizes
    number = np.empty(len(codes), np.int32)
    number[order] = np.arange(len(codes)) - starts[group[order]]
    return np.column_stack([codes.astype(np.int32), number])
