"""A last code that tells items apart whose other codes are the same."""

from __future__ import annotations

import numpy as np


def number_collisions(codes: np.ndarray, numbered: np.ndarray | None = None) -> np.ndarray:
    """``[n, levels]`` codes and one more: 0, 1, 2, ... among equal rows, in the order of the rows.

    Every row of the int32 ``[n, levels + 1]`` result is unique. It is TIGER's answer to collisions
    (arXiv 2305.05065, section 3.1). The new code is bounded by the largest group, not by the codebook.

    Args:
        numbered: ``[m, levels + 1]`` of numbers that are given out already: those of equal codes go on after
            the largest of them.
    """
    known = np.empty((0, codes.shape[1] + 1), np.int32) if numbered is None else numbered
    groups = np.unique(np.vstack([known[:, :-1], codes]), axis=0, return_inverse=True)[1].reshape(-1)
    next_number = np.zeros(groups.max(initial=-1) + 1, np.int64)
    np.maximum.at(next_number, groups[: len(known)], known[:, -1] + 1)
    group = groups[len(known) :]
    # Rows of one group stand together, in their own order; starts[g] is where group g begins.
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group, minlength=len(next_number))
    starts = np.cumsum(sizes) - sizes
    number = np.empty(len(codes), np.int64)
    number[order] = np.arange(len(codes)) - starts[group[order]] + next_number[group[order]]
    return np.column_stack([codes.astype(np.int32), number.astype(np.int32)])


def last_numbers(numbered: np.ndarray) -> np.ndarray:
    """``[m, levels + 1]`` with numbers to ``[k, levels + 1]``: every code once, with its largest number."""
    codes, group = np.unique(numbered[:, :-1], axis=0, return_inverse=True)
    largest = np.zeros(len(codes), np.int32)
    np.maximum.at(largest, group.reshape(-1), numbered[:, -1])
    return np.column_stack([codes, largest]).astype(np.int32)
