"""What a file is by its first bytes, for people who are told that it cannot be read."""

from __future__ import annotations

import re

_CONVERT = "convert it to JPEG, PNG or AVIF"
# From the start of a file, what it is; the first that fits counts.
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"II+\0", "a TIFF picture"),
    (b"MM\0+", "a TIFF picture"),
    (b"\xff\x0a", f"a JPEG XL picture, which is not read: {_CONVERT}"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", f"a JPEG XL picture, which is not read: {_CONVERT}"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", f"a JPEG 2000 picture, which is not read: {_CONVERT}"),
    (b"\xff\x4f\xff\x51", f"a JPEG 2000 picture, which is not read: {_CONVERT}"),
    (b"II\xbc", f"a JPEG XR picture, which is not read: {_CONVERT}"),
    (b"8BPS", f"a Photoshop document, which is not read: {_CONVERT}"),
    (b"qoif", f"a QOI picture, which is not read: {_CONVERT}"),
    (b"\x76\x2f\x31\x01", f"an OpenEXR picture, which is not read: {_CONVERT}"),
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"DDS ", "a texture (DDS)"),
    (b"%PDF-", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"\x1a\x45\xdf\xa3", "a Matroska or WebM clip"),
    (b"FLV\x01", "an FLV clip"),
    (b"\0\0\1\xba", "an MPEG clip"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a WMV clip or WMA sound"),
    (b".RMF", "a RealMedia clip, which is not read: convert it to MP4"),
    (b"OggS", "an Ogg sound or clip"),
    (b"fLaC", "a FLAC sound"),
    (b"ID3", "an MP3 sound"),
    (b"FORM", "an AIFF sound"),
    (b"version https://git-lfs", "a Git LFS pointer: run git lfs pull"),
    (b"#EXTM3U", "a playlist (M3U8) that names other files"),
    (b"PAR1", "a Parquet table"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)
_RIFF = {b"WEBP": "a WebP picture", b"AVI ": "an AVI clip", b"WAVE": "a WAV sound"}
# ISO/IEC 14496-12, 23008-12: the brand says what a file of boxes is.
_HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
_BRANDS = {
    **dict.fromkeys(_HEIC, f"a HEIC picture, which is not read: {_CONVERT}"),
    b"avif": "an AVIF picture",
    b"avis": "an AVIF picture",
    b"crx ": f"a raw picture (CR3), which is not read: {_CONVERT}",
    b"M4A ": "an M4A sound",
}
_NOT_READ = "which is not read"
_WANTED = {"an image": ("picture",), "a clip": ("clip",), "a sound or clip": ("sound", "clip")}
_LOOKED_AT = 4096
_TAR_AT = 257
_HTML = re.compile(rb"<(?:!doctype\s+html|html|head|body|script|meta|title|div|p|center|h1)[\s>]")


def kind_of(data: bytes) -> str | None:
    """What a file is, with its article (``an HTML page``), by its first bytes; None if they say nothing."""
    head = data[:_LOOKED_AT]
    if head[4:8] == b"ftyp":
        return _boxes(head)
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[_TAR_AT : _TAR_AT + 5] == b"ustar":
        return "a tar archive"
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    return _text(head)


def unreadable(wanted: str, data: bytes) -> str:
    """Why a file cannot be decoded as what is wanted: ``an image``, ``a clip``, ``a sound or clip``.

    A damaged file of the wanted kind is not told that it is one.
    """
    kind = kind_of(data)
    is_wanted = kind is not None and _NOT_READ not in kind and any(w in kind for w in _WANTED[wanted])
    return f"not {wanted} that can be read" + (f": it is {kind}" if kind and not is_wanted else "")


def _boxes(head: bytes) -> str:
    size = min(int.from_bytes(head[:4], "big"), len(head))
    # The first is the file's own; after four bytes of version come those that it is compatible with.
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]
    if brands[0] in (b"mif1", b"msf1") and (b"avif" in brands or b"avis" in brands):
        return _BRANDS[b"avif"]
    return _BRANDS.get(brands[0], "an MP4 or QuickTime clip")


def _text(head: bytes) -> str | None:
    if not head.strip(b"\0"):
        return "nothing but zero bytes"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in text and text.startswith(b"<"):
        return f"an SVG drawing, which is not read: {_CONVERT}"
    if _HTML.match(text) or (text.startswith((b"<?xml", b"<!--")) and _HTML.search(text)):
        return "an HTML page"
    if text.startswith(b"<?xml"):
        return "an XML document"
    try:
        # A character may be cut in two where the head ends.
        shown = head.decode("utf-8", "strict" if len(head) < _LOOKED_AT else "ignore")
    except UnicodeDecodeError:
        return None
    if len(shown.encode()) < len(head) - 3 or not all(c.isprintable() or c.isspace() for c in shown):
        return None
    if text.startswith((b"{", b"[")):
        return "a JSON document"
    return "plain text" if shown.strip() else "nothing but blanks"
