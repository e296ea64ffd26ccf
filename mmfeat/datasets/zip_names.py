"""The names of a zip archive's members in the encoding that they were written in.

A name is UTF-8 where its member says so. Else it should be of code page 437, which is what Python's zipfile
takes it for, but Windows writes the machine's own: in China GBK. Others write UTF-8 and do not say so.
"""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from typing import Literal

from mmfeat.datasets.base import Note, note_of

_SEVERAL = re.compile(rb"[\x80-\xff]{2}")
_JAPANESE = re.compile("[\u3040-\u30ff\u4e00-\u9fff]{2,}")
_SAYS_UTF8 = 0x800
_DOS = 0
# Info-ZIP's extra field: version, a checksum of the name in the header, and the name in UTF-8.
_UNICODE_PATH = 0x7075


def names_of(members: Sequence[zipfile.ZipInfo]) -> tuple[list[str | None], list[Note]]:
    """The members' names with ``/`` between folders, and how they were told where an archive does not say.

    Returns:
        One name per member, None where it cannot be told. Its place in the archive is still
        ``ZipInfo.filename``.
    """
    names = [_said(info) for info in members]
    unsaid = [n for n, name in enumerate(names) if name is None]
    raw = {n: members[n].filename.encode("cp437") for n in unsaid}
    encoding = _encoding(list(raw.values()))
    notes: list[Note] = []
    if encoding is None:
        message = (
            "archive members with names of an unknown encoding: refused, extract them (unzip -O ENCODING)"
        )
        notes = note_of("error", "name_encoding", message, [members[n].filename for n in unsaid])
    elif unsaid:
        names = [raw[n].decode(encoding) if n in raw else name for n, name in enumerate(names)]
        message = f"names in an archive that does not say their encoding: read as {encoding.upper()}"
        level: Literal["info", "warning"] = "warning" if encoding == "cp437" else "info"
        notes = note_of(level, "name_encoding", message, [str(names[n]) for n in unsaid])
    for n, info in enumerate(members):
        if (name := names[n]) is not None and info.create_system == _DOS:
            names[n] = name.replace("\\", "/")
    return names, notes


def _said(info: zipfile.ZipInfo) -> str | None:
    """The name of a member that says its encoding, or needs none; None for any other."""
    if info.flag_bits & _SAYS_UTF8 or info.filename.isascii():
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


def _encoding(names: Sequence[bytes]) -> str | None:
    """What all of the names are written in, as far as their bytes tell."""
    for encoding, fits in _ENCODINGS:
        try:
            texts = [name.decode(encoding) for name in names]
        except UnicodeDecodeError:
            continue
        if fits("\0".join(texts)):
            return encoding
    # Accents stand alone between plain letters; what has several of them in a row is of another script.
    return None if any(_SEVERAL.search(name) for name in names) else "cp437"


def _is_chinese(text: str) -> bool:
    """Whether most of what is not ASCII is common Chinese: bytes of other code pages give rare characters."""
    high = [character for character in text if not character.isascii()]
    common = [c for c in high if "\u4e00" <= c <= "\u9fff" and c.encode("gb2312", "ignore")]
    return 2 * len(common) > len(high)


def _is_japanese(text: str) -> bool:
    """Whether most of what is not ASCII stands in words of kana and Chinese characters."""
    high = [character for character in text if not character.isascii()]
    return 2 * sum(map(len, _JAPANESE.findall(text))) > len(high)


# Names that happen to be UTF-8 are hardly anything else.
_ENCODINGS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("utf-8", lambda text: True),
    ("gbk", _is_chinese),
    ("cp932", _is_japanese),
)
