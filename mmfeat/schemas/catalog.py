"""Arrow schemas of what dataset adapters hand over: items and interactions.

A catalog never relies on row order: ``item_id`` is the identity of a row, always a string, kept
exactly as the dataset writes it.
"""

from __future__ import annotations

import pyarrow as pa

TEXT_SOURCES = ("title", "description")
MEDIA_SOURCES = ("cover", "video", "audio")
SOURCES = TEXT_SOURCES + MEDIA_SOURCES

CATALOG_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("description", pa.string()),
        # Media columns hold a location: an absolute local path, a URL (http, https, s3, gs, az),
        # or a member of a zip archive in fsspec's notation: zip://member::/abs/archive.zip
        pa.field("cover", pa.string()),
        pa.field("video", pa.string()),
        pa.field("audio", pa.string()),
    ]
)

INTERACTIONS_SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        # Milliseconds since 1970-01-01 UTC; null where the dataset gives an order but no time.
        pa.field("timestamp", pa.int64()),
    ]
)

# Files whose stamp changed and whose content did not: the content hash that goes with the new stamp.
STAMPS_SCHEMA = pa.schema(
    [pa.field(name, pa.string()) for name in ("item_id", "source", "stamp", "content_hash")]
)


def zip_location(archive: str, member: str) -> str:
    """The location of one member of a zip archive, in fsspec's chained notation."""
    return f"zip://{member}::{archive}"


def split_zip_location(location: str) -> tuple[str, str] | None:
    """``(archive, member)`` of a zip location, or None for any other location."""
    if not location.startswith("zip://"):
        return None
    member, separator, archive = location[len("zip://") :].rpartition("::")
    return (archive, member) if separator else None
