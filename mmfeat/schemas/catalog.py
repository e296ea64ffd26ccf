"""Arrow schemas of what dataset adapters hand over: items and interactions.

A catalog never relies on row order: ``item_id`` is the identity of a row, always a string, kept
exactly as the dataset writes it. Beside it a catalog has any columns, each of one modality.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from mmfeat.schemas.errors import ConfigError

ITEM_ID = "item_id"
#: The modalities of columns. Of media a catalog holds the location, of text the text itself.
MODALITIES = ("text", "image", "video", "audio")
#: The track of a clip that can be read by itself: ``video.sound``.
SOUND = "sound"

_MODALITY = b"mmfeat.modality"
_CELL = "parquet://"


@dataclass(frozen=True)
class Column:
    """What a catalog knows of its items under one name.

    Attributes:
        name: a Python identifier.
        modality: one of ``MODALITIES``.
        several: whether an item may have several: a list of pictures.
    """

    name: str
    modality: str
    several: bool = False

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name == ITEM_ID:
            raise ConfigError(
                f"{self.name!r} cannot be the name of a column.",
                hint="Take letters, digits and underscores, not beginning with a digit, and not item_id.",
            )
        if self.modality not in MODALITIES:
            raise ConfigError(
                f"The column {self.name!r} has no modality {self.modality!r}.",
                hint=f"There are: {', '.join(MODALITIES)}.",
            )

    @property
    def is_media(self) -> bool:
        """Whether its values are locations of files."""
        return self.modality != "text"

    @property
    def field(self) -> pa.Field:
        """Its field of a catalog's schema, which says the modality."""
        kind = pa.list_(pa.string()) if self.several else pa.string()
        return pa.field(self.name, kind, metadata={_MODALITY: self.modality.encode()})


#: The columns that every catalog has, empty where a dataset has no such thing.
USUAL_COLUMNS = (
    Column("title", "text"),
    Column("description", "text"),
    Column("cover", "image"),
    Column("video", "video"),
    Column("audio", "audio"),
)
_USUAL = {column.name: column for column in USUAL_COLUMNS}


def catalog_schema(columns: Iterable[Column] = ()) -> pa.Schema:
    """The schema of a catalog: ``item_id``, the usual columns, and ``columns`` after them.

    Media columns hold a location: an absolute local path, a URL (http, https, s3, gs, az), a member of
    a zip archive in fsspec's notation (``zip://member::/abs/archive.zip``), or a cell of a Parquet file in
    one like it (``parquet://row/column::/abs/table.parquet``).
    """
    further = [column for column in columns if column.name not in _USUAL]
    fields = [column.field for column in (*USUAL_COLUMNS, *further)]
    return pa.schema([pa.field(ITEM_ID, pa.string(), nullable=False), *fields])


def columns_of(schema: pa.Schema) -> dict[str, Column]:
    """The columns of a catalog by name, in its order."""
    return {field.name: _column(field) for field in schema if field.name != ITEM_ID}


def media_columns(schema: pa.Schema) -> list[str]:
    """The names of a catalog's columns that hold locations."""
    return [name for name, column in columns_of(schema).items() if column.is_media]


def usual(name: str) -> Column:
    """The usual column of that name."""
    return _USUAL[name]


def readable(columns: Mapping[str, Column]) -> dict[str, Column]:
    """What features can read of ``columns``: each of them, and the sound of each clip."""
    sounds = {
        f"{name}.{SOUND}": Column(name, "audio", column.several)
        for name, column in columns.items()
        if column.modality == "video"
    }
    return {**columns, **sounds}


def _column(field: pa.Field) -> Column:
    said = (field.metadata or {}).get(_MODALITY)
    if said is None and field.name in _USUAL:
        return _USUAL[field.name]
    return Column(field.name, (said or b"text").decode(), pa.types.is_list(field.type))


CATALOG_SCHEMA = catalog_schema()

INTERACTIONS_SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        # Milliseconds since 1970-01-01 UTC; null where the dataset gives an order but no time.
        pa.field("timestamp", pa.int64()),
    ]
)

# Files whose stamp changed and whose content did not: the content hash that goes with the new stamp.
# ``source`` is the column's name.
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


@dataclass(frozen=True)
class CellPlace:
    """A cell of a Parquet file that holds a whole file, or a list of them.

    Attributes:
        table: absolute path.
        column: its name.
        row: from 0, in the whole table.
        at: which file of the list, from 0; None where the cell is no list.
    """

    table: str
    column: str
    row: int
    at: int | None = None

    @property
    def location(self) -> str:
        """Its location, in a notation like that of zip members."""
        number = str(self.row) if self.at is None else f"{self.row}.{self.at}"
        return f"{_CELL}{number}/{self.column}::{self.table}"


def split_cell_location(location: str) -> CellPlace | None:
    """The cell that a location names, or None for any other location."""
    if not location.startswith(_CELL):
        return None
    inner, separator, table = location[len(_CELL) :].rpartition("::")
    number, _, column = inner.partition("/")
    row, _, at = number.partition(".")
    if not separator or not row.isdecimal() or (at and not at.isdecimal()):
        return None
    return CellPlace(table, column, int(row), int(at) if at else None)


def container_of(location: str) -> str | None:
    """The path of the archive or table that a location lies in; None for a file of its own, and for a URL."""
    if member := split_zip_location(location):
        return member[0]
    cell = split_cell_location(location)
    return cell.table if cell else None
