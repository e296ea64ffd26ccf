"""The names of a zip archive's members in the encoding that they were written in.

A name is UTF-8 where its member says so. Else it should be of code page 437, which is what Python's zipfile
takes it for, but Windows writes the machine's own, in China GBK, and others write UTF-8 and do not say so.
Short names are plausible in several encodings, so none is guessed that would make another item.
"""

from __future__ import annotations

import re
import struct
import unicodedata
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mmfeat.datasets.base import Note, note_of
from mmfeat.schemas.errors import DatasetError

_SAYS_UTF8 = 0x800
_DOS = 0
# Info-ZIP's extra field: version, a checksum of the name in the header, and the name in UTF-8.
_UNICODE_PATH = 0x7075
# What archives are written in that do not say so: of several bytes a character, and of one.
_WIDE = ("gbk", "cp950", "cp949", "cp932")
_NARROW = ("cp437", "cp850", "cp852", "cp866", "cp1250", "cp1251", "cp1252")
# Western machines' code pages of DOS: what is the same letter in all of them is hardly anything else.
_LATIN = ("cp437", "cp850", "cp852")
_LONE = re.compile("(?<=[A-Za-z])[^\0-\x7f](?![^\0-\x7f])|(?<![^\0-\x7f])[^\0-\x7f](?=[A-Za-z])")


@dataclass(frozen=True)
class Telling:
    """What tells the names in archives that do not say their encoding.

    Attributes:
        encoding: the one that a person named; None to tell it.
        ids: of items that files may be named by.

    Raises:
        DatasetError: there is no such encoding.
    """

    encoding: str | None = None
    ids: Collection[str] = ()

    def __post_init__(self) -> None:
        try:
            b"a".decode(self.encoding or "ascii")
        except (LookupError, UnicodeDecodeError):
            raise DatasetError(
                f"{self.encoding!r} is no encoding of names in archives.",
                hint=f"Give one such as {', '.join(_WIDE)} or cp866.",
            ) from None


NOTHING_TOLD = Telling()


def names_of(
    members: Sequence[zipfile.ZipInfo], telling: Telling, *, flat: bool = False
) -> tuple[list[str | None], list[Note]]:
    """The members' names with ``/`` between folders, and how they were told where an archive does not say.

    Args:
        flat: whether a member's folders mean nothing, so that only its own name has to be told.

    Returns:
        One name per member, None if it cannot be told. Its place in the archive is still
        ``ZipInfo.filename``.
    """
    names = [_said(info, flat) for info in members]
    raw = {n: members[n].filename.encode("cp437") for n, name in enumerate(names) if name is None}
    encoding = telling.encoding or _encoding(list(raw.values()), set(telling.ids))
    for n, name in raw.items():
        names[n] = _decoded(name, encoding) if encoding else None
    refused = [_shown(name) for n, name in raw.items() if names[n] is None]
    notes = note_of("error", "name_encoding", _refusal(telling.encoding), refused)
    told = [str(names[n]) for n in raw if names[n] is not None]
    if encoding and not telling.encoding:
        message = f"names in an archive that does not say their encoding: read as {encoding.upper()}"
        level: Literal["info", "warning"] = "info" if encoding == "utf-8" else "warning"
        notes += note_of(level, "name_encoding", message, told)
    for n, info in enumerate(members):
        if (found := names[n]) is not None and info.create_system == _DOS:
            names[n] = found.replace("\\", "/")
    return names, notes


def _said(info: zipfile.ZipInfo, flat: bool) -> str | None:
    """The name of a member that says its encoding, or needs none; None for any other."""
    needed = info.filename.rpartition("/")[2] if flat else info.filename
    if info.flag_bits & _SAYS_UTF8 or needed.isascii():
        return info.filename
    extra = info.extra
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        if kind == _UNICODE_PATH and size > 5:
            try:
                return extra[9 : 4 + size].decode("utf-8")
            except UnicodeDecodeError:
                return None
        extra = extra[4 + size :]
    return None


def _refusal(encoding: str | None) -> str:
    if encoding:
        return f"archive members whose names are not of the encoding {encoding}: refused"
    return (
        "archive members with names of an unknown encoding: refused; for the dataset folder name it "
        "(--option zip_encoding=cp949), or extract them (unzip -O ENCODING)"
    )


def _encoding(names: Sequence[bytes], ids: Collection[str]) -> str | None:
    """What all of the names are written in; None if it does not show."""
    readings = {
        encoding: texts for encoding in ("utf-8", *_WIDE, *_NARROW) if (texts := _read(names, encoding))
    }
    matches = {
        encoding: sum(_names_one_of(text, ids) for text in texts) for encoding, texts in readings.items()
    }
    most = max(matches.values(), default=0)
    if most:
        best = [encoding for encoding, n in matches.items() if n == most]
        return best[0] if all(readings[encoding] == readings[best[0]] for encoding in best) else None
    if "utf-8" in readings:
        # Names that happen to be UTF-8 are hardly anything else.
        return "utf-8"
    return "cp437" if _are_western(readings) else None


def _read(names: Sequence[bytes], encoding: str) -> list[str]:
    """The names in an encoding; none where it is not that of all."""
    texts = [_decoded(name, encoding) for name in names]
    return [text for text in texts if text is not None] if None not in texts else []


def _decoded(name: bytes, encoding: str) -> str | None:
    try:
        return name.decode(encoding)
    except UnicodeDecodeError:
        return None


def _names_one_of(path: str, ids: Collection[str]) -> bool:
    """Whether a file's name, or its folder's, is one of the ids by what is not ASCII in it."""
    return any(not name.isascii() and name in ids for name in _names_in(path))


def _names_in(path: str) -> Iterator[str]:
    *folders, own = re.split(r"[/\\]", path)
    stem = own.rpartition(".")[0]
    yield from (stem, stem.rpartition("_")[0], *folders[-1:])


def _are_western(readings: Mapping[str, Sequence[str]]) -> bool:
    """Whether all that is not ASCII are accented letters, each alone within a word of plain letters."""
    latin = [readings.get(encoding) for encoding in _LATIN]
    if (
        any(encoding in readings for encoding in _WIDE)
        or latin[0] is None
        or latin.count(latin[0]) < len(latin)
    ):
        return False
    high = [character for text in latin[0] for character in text if not character.isascii()]
    alone = sum(len(_LONE.findall(text)) for text in latin[0])
    return alone == len(high) and all(unicodedata.name(c, "").startswith("LATIN ") for c in high)


def _shown(name: bytes) -> str:
    """A name in each encoding that it may be of."""
    texts = {encoding: _decoded(name, encoding) for encoding in (*_WIDE, "cp866", "cp437")}
    readable = {text: encoding for encoding, text in reversed(texts.items()) if text and text.isprintable()}
    return " or ".join(f"{text} ({encoding})" for text, encoding in reversed(readable.items()))
