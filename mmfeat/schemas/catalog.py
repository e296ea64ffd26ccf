"""Arrow schemas of what dataset adapters hand over: items and interactions.

A catalog never relies on row order: ``item_id`` is the identity of a row, always a string, kept
exactly as the dataset writes it. Beside it a catalog has any columns, each of one modality.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.templates import END

ITEM_ID = "item_id"
#: What features read. Of media a catalog holds the location, of text the text itself.
MODALITIES = ("text", "image", "video", "audio")
#: A price or a year: a finite number, which features read as part of a text.
NUMBER = "number"
#: What columns are of.
KINDS = (*MODALITIES, NUMBER)
#: The track of a clip that can be read by itself: ``video.sound``.
SOUND = "sound"

_MODALITY = b"mmfeat.modality"
# The notations of cells, by the suffix of the table's file.
_CELLS = {".parquet": "parquet://", ".arrow": "arrow://"}


@dataclass(frozen=True)
class Column:
    """What a catalog knows of its items under one name.

    Attributes:
        name: a Python identifier.
        modality: one of ``KINDS``.
        several: whether an item may have several: a list of pictures or of texts, not of numbers.
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
        if self.modality not in KINDS:
            raise ConfigError(
                f"The column {self.name!r} has no modality {self.modality!r}.",
                hint=f"There are: {', '.join(KINDS)}.",
            )
        if self.modality == NUMBER and self.several:
            raise ConfigError(
                f"The column {self.name!r} holds lists of numbers.",
                hint="A list is of texts or of files: read it as text.",
            )

    @property
    def is_media(self) -> bool:
        """Whether its values are locations of files."""
        return self.modality not in ("text", NUMBER)

    @property
    def field(self) -> pa.Field:
        """Its field of a catalog's schema, which says the modality."""
        one = pa.float64() if self.modality == NUMBER else pa.string()
        kind = pa.list_(one) if self.several else one
        return pa.field(self.name, kind, metadata={_MODALITY: self.modality.encode()})


#: The columns that every catalog has, empty if a dataset has no such thing.
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
    a zip archive in fsspec's notation (``zip://member::/abs/archive.zip``), or a cell of a Parquet or Arrow
    file in one like it (``parquet://row/column::/abs/table.parquet``, ``arrow://row/column::/abs/a.arrow``).
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


def texts_of(values: pa.Array | pa.ChunkedArray, column: Column) -> pa.Array | pa.ChunkedArray:
    """The text form of a column that holds no media.

    A text is as it is; a number in its shortest form, a whole one without a point (``12``); a list as
    :func:`mmfeat.schemas.templates.listed` gives it.

    Args:
        values: ``[n]`` of ``column``.

    Returns:
        ``[n]`` strings, null if the item has none.
    """
    if column.modality == NUMBER:
        return _number_texts(values)
    return joined_lists(values) if column.several else values


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
    kind = NUMBER if pa.types.is_floating(field.type) or pa.types.is_integer(field.type) else "text"
    return Column(field.name, kind if said is None else said.decode(), pa.types.is_list(field.type))


def _number_texts(numbers: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    # Arrow writes a large whole number with an exponent, 1e+16, where the digits of an integer are plain.
    whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), 2.0**63))
    integers = pc.if_else(whole, numbers, pa.scalar(None, pa.float64())).cast(pa.int64())
    return pc.coalesce(integers.cast(pa.string()), numbers.cast(pa.string()))


def joined_lists(lists: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """``[n]`` each list of texts or locations as :func:`mmfeat.schemas.templates.listed` gives it; null if
    it is null or empty."""
    if isinstance(lists, pa.ChunkedArray):
        return pa.chunked_array([joined_lists(chunk) for chunk in lists.chunks], pa.string())
    plain = pc.replace_substring(lists.flatten().fill_null(""), END, " ")
    # Of an item without a list, as of one whose list is empty, nothing is in the flat values.
    sizes = pc.list_value_length(lists).fill_null(0)
    ends = pc.cumulative_sum(pc.cast(sizes, pa.int32()))
    starts = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    joined = pc.binary_join(pa.ListArray.from_arrays(starts, plain), END)
    whole = pc.binary_join_element_wise(joined, "", END)
    return pc.if_else(pc.greater(sizes, 0), whole, pa.scalar(None, pa.string()))


CATALOG_SCHEMA = catalog_schema()

INTERACTIONS_SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        # Milliseconds since 1970-01-01 UTC; null if the dataset gives an order but no time.
        pa.field("timestamp", pa.int64()),
        # As the dataset counts them, and what kind of interaction it is; null if it does not say.
        pa.field("rating", pa.float64()),
        pa.field("event", pa.string()),
    ]
)


def as_interactions(table: pa.Table) -> pa.Table:
    """A table of interactions with all columns: of those that it lacks, the ones that may be null are."""
    lacking = [f for f in INTERACTIONS_SCHEMA if f.nullable and f.name not in table.column_names]
    for field in lacking:
        table = table.append_column(field, pa.nulls(len(table), field.type))
    known = [name for name in INTERACTIONS_SCHEMA.names if name in table.column_names]
    return table.select([*known, *(name for name in table.column_names if name not in known)])


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
    """A cell of a Parquet or Arrow file that holds a whole file, or a list of them.

    Attributes:
        table: absolute path; of an Arrow file it ends in ``.arrow``.
        column: its name.
        row: from 0, in the whole table.
        at: which file of the list, from 0; None if the cell is no list.
    """

    table: str
    column: str
    row: int
    at: int | None = None

    @property
    def is_arrow(self) -> bool:
        """Whether the table is an Arrow file, and not Parquet."""
        return self.table.lower().endswith(".arrow")

    @property
    def location(self) -> str:
        """Its location, in a notation like that of zip members."""
        number = str(self.row) if self.at is None else f"{self.row}.{self.at}"
        return f"{_CELLS['.arrow' if self.is_arrow else '.parquet']}{number}/{self.column}::{self.table}"


def split_cell_location(location: str) -> CellPlace | None:
    """The cell that a location names, or None for any other location."""
    notation = next((one for one in _CELLS.values() if location.startswith(one)), None)
    if notation is None:
        return None
    inner, separator, table = location[len(notation) :].rpartition("::")
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
