"""The refusal of media over a limit, in one wording."""

from __future__ import annotations

from mmfeat.schemas.errors import ItemError


def check_bytes(stage: str, size: int, most: int) -> None:
    """Refuse a file of ``size`` bytes where ``most`` are allowed.

    Raises:
        ItemError: with both sizes in MB of 2^20 bytes.
    """
    if size > most:
        raise ItemError(
            stage, f"too large: file is {size / 2**20:,.1f} MB, over the limit of {most / 2**20:,.1f} MB"
        )


def check_pixels(width: int, height: int, most: int) -> None:
    """Refuse to decode pictures of ``width x height`` pixels where ``most`` are allowed.

    Raises:
        ItemError: stage ``decode``.
    """
    if width * height > most:
        raise ItemError(
            "decode",
            f"too large: {width:,} x {height:,} pixels are {width * height / 1e6:,.1f} million, "
            f"over the limit of {most / 1e6:,.1f} million",
        )
