"""The suffixes by which files of each modality are known.

A suffix says that a file is to be read, and as what; how it is decoded goes by its content. Kinds that are
not read are among them: their items fail with the reason, where a file that is passed over would leave none.
"""

from __future__ import annotations

#: Modality to the suffixes of its files, lower case. Where several files claim one place, the suffix that
#: stands first wins.
SUFFIXES: dict[str, tuple[str, ...]] = {
    "image": (
        *(".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tiff", ".tif", ".avif", ".jfif", ".jpe"),
        *(".apng", ".heic", ".heif", ".hif", ".jxl", ".jp2"),
    ),
    "video": (
        *(".mp4", ".mkv", ".webm", ".mov", ".m4v", ".avi", ".flv", ".mpeg", ".mpg", ".ts", ".wmv"),
        *(".3gp", ".3g2", ".m2ts", ".mts", ".ogv", ".f4v", ".qt", ".asf", ".vob", ".divx", ".gif", ".apng"),
    ),
    "audio": (
        *(".mp3", ".wav", ".flac", ".m4a", ".ogg", ".opus", ".aac", ".wma"),
        *(".oga", ".aif", ".aiff", ".m4b", ".mka", ".weba"),
    ),
}

#: Suffixes of pictures that may hold clips: they are clips in a folder of clips alone.
PICTURES_AND_CLIPS = tuple(suffix for suffix in SUFFIXES["video"] if suffix in SUFFIXES["image"])


def loose_suffixes(modality: str) -> tuple[str, ...]:
    """The suffixes of files that stand among those of other modalities."""
    if modality != "video":
        return SUFFIXES[modality]
    return tuple(suffix for suffix in SUFFIXES[modality] if suffix not in PICTURES_AND_CLIPS)
