"""Semantic ids: a few integer codes per item, coarse to fine."""

from __future__ import annotations

import string

import numpy as np

from mmfeat.schemas.errors import UsageError

#: What stands in an int array of codes where an item has none.
NO_CODE = -1


def to_tokens(codes: np.ndarray) -> list[list[str]]:
    """Codes as tokens of a language model, in LC-Rec's form: a letter for the level, then the code.

    >>> to_tokens(np.array([[12, 3], [0, 7]]))
    [['<a_12>', '<b_3>'], ['<a_0>', '<b_7>']]

    Args:
        codes: integers ``[n, levels]``.

    Raises:
        UsageError: more levels than letters, or a row without codes (-1).
    """
    if codes.shape[1] > len(string.ascii_lowercase):
        raise UsageError(f"Tokens name code levels by letter, and there are {codes.shape[1]} levels.")
    if codes.size and codes.min() < 0:
        raise UsageError("Some items have no codes.", hint="Leave the masked rows out.")
    return [
        [f"<{a}_{c}>" for a, c in zip(string.ascii_lowercase, row, strict=False)] for row in codes.tolist()
    ]
