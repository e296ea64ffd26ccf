"""Reads text files of datasets: UTF-8, with or without a byte order mark."""

from __future__ import annotations

from pathlib import Path

from mmfeat.schemas.errors import DatasetError


def read_text(path: Path) -> str:
    """The file's text as written, line ends included; DatasetError when it is not UTF-8."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"Cannot read {path}: {error.strerror}.") from None
    return decode_text(data, path)


def decode_text(data: bytes, place: str | Path) -> str:
    """The text in a file's bytes; DatasetError, which names the ``place``, when it is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(place, data.count(b"\n", 0, error.start) + 1, data[error.start]) from None


def not_utf8(place: str | Path, line: int, byte: int) -> DatasetError:
    """The error that a text is not UTF-8."""
    return DatasetError(
        f"{place} is not UTF-8: line {line} holds the byte 0x{byte:02x}.",
        hint="Convert it first, for Chinese texts often: iconv -f GB18030 -t UTF-8 FILE > NEW.",
    )


def text_or_none(text: str | None) -> str | None:
    """The text as written; None if it is blank, for an item with a blank text has none."""
    return text if text and not text.isspace() else None
