"""The names of a zip archive's members in the encoding that they were written in.

A name is UTF-8 where its member says so. Else it should be of code page 437, which is what Python's zipfile
takes it for, but Windows writes the machine's own: in China GBK. Others write UTF-8 and do not say so.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Sequence

from mmfeat.datasets.base import Note, note_of

_SAYS_UTF8 = 0x800
_DOS = 0
# Info-ZIP's extra field: version, a checksum of the name in the header, and the name in UTF-8.
_UNICODE_PATH = 0x7075


def names_of(members: Sequence[zipfile.ZipInfo]) -> tuple[list[str], list[Note]]:
    """The members' names with ``/`` between folders, and how they were told where an archive does not say.

    Returns:
        One name per member. Its place in the archive is still ``ZipInfo.filename``.
    """
    names = [_said(info) for info in members]
    unsaid = [n for n, name in enumerate(names) if name is None]
    raw = [members[n].filename.encode("cp437") for n in unsaid]
    encoding = _encoding(raw)
    notes: list[Note] = []
    if unsaid:
        for n, name in zip(unsaid, raw, strict=True):
            names[n] = name.decode(encoding)
        shown = [str(names[n]) for n in unsaid]
        if encoding == "cp437":
            message = "names in an archive that does not say their encoding: if they look wrong, extract it"
            notes = note_of("warning", "name_encoding", message, shown)
        else:
            message = f"names in an archive that does not say their encoding: read as {encoding.upper()}"
            notes = note_of("info", "name_encoding", message, shown)
    told = [name if name is not None else "" for name in names]
    plain = [
        name.replace("\\", "/") if info.create_system == _DOS else name
        for name, info in zip(told, members, strict=True)
    ]
    return plain, notes


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


def _encoding(names: Sequence[bytes]) -> str:
    """What all of the names are written in, as far as their bytes tell."""
    for encoding in ("utf-8", "gbk"):
        try:
            text = "".join(name.decode(encoding) for name in names)
        except UnicodeDecodeError:
            continue
        if encoding == "utf-8" or _is_chinese(text):
            return encoding
    return "cp437"


def _is_chinese(text: str) -> bool:
    """Whether most of what is not ASCII is common Chinese: bytes of other code pages give rare characters."""
    high = [character for character in text if not character.isascii()]
    common = [c for c in high if "\u3000" <= c <= "\uffef" and c.encode("gb2312", "ignore")]
    return 2 * len(common) > len(high)
