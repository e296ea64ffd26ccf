"""The suffixes by which files of each modality are known."""

from __future__ import annotations

#: Modality to the suffixes of its files, lower case. Where several files claim one place, the suffix that
#: stands first wins.
SUFFIXES: dict[str, tuple[str, ...]] = {
    "image": (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tiff", ".tif"),
    "video": (".mp4", ".mkv", ".webm", ".mov", ".m4v", ".avi", ".flv", ".mpeg", ".mpg", ".ts", ".wmv"),
    "audio": (".mp3", ".wav", ".flac", ".m4a", ".ogg", ".opus", ".aac", ".wma"),
}
