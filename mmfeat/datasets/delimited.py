"""The one reader of delimited text (CSV, TSV): strict, so that every physical line is accounted for.

A line is part of a row, or blank, or ends the reading with an error that names it. A quoted value may hold
line breaks; where it holds what looks like rows of the table, it is noted: a quote left open reads just so.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path, PurePath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from mmfeat.datasets.base import Note, Value, note_of
from mmfeat.datasets.cells import CellTrouble, number_in
from mmfeat.datasets.textfile import not_utf8, text_or_none
from mmfeat.schemas.errors import DatasetError

_DELIMITERS = (",", ";", "\t", "|")
# How many lines are looked at where several of these may be meant.
_AHEAD = 100
_BATCH = 100_000
_CHUNK = 1 << 20
HINT = (
    "Mend the line: a value that holds a delimiter, a quote or a line break is quoted. "
    "A file cut short must be downloaded again."
)
_QUOTED = re.compile(r'"[^"]*"?')
_BREAK = re.compile(r"\r\n|\r|\n")
# Excel's own first line, which names the delimiter.
_SAYS_DELIMITER = re.compile(r'"?sep=(.|\\t)"?', re.IGNORECASE)


class Delimited:
    """The rows of a delimited text.

    Iterating gives ``(line, cells)`` of each row that is not blank: the physical line where it starts,
    from 1, and as many cells as there are names.

    Args:
        lines: physical lines, with their ends.
        place: what errors and notes call the text.
        delimiter: None to tell it from a first line ``sep=;``, or from the header and the first rows;
            without a header it is the comma.
        names: the names of all columns, for a text without a header.
        quoted: whether quotes mean anything.
        hint: what to do about a line that cannot be read.

    Attributes:
        names: the columns', blanks around them taken off; empty if a column has none.
        header_line: the physical line of the header's end; 0 if there is none.

    Raises:
        DatasetError: there is no header; while iterating, a line is no row, or its quotes do not end.
    """

    def __init__(
        self,
        lines: Iterable[str],
        place: str | PurePath,
        *,
        delimiter: str | None = None,
        names: Sequence[str] | None = None,
        quoted: bool = True,
        hint: str = HINT,
    ) -> None:
        self.place, self.hint = place, hint
        _allow_any_length()
        self._lines = iter(lines)
        self._blank_lines = 0
        first = self._first_line()
        said = _said_delimiter(first) if names is None else None
        if said:
            self._blank_lines += 1
            first = self._first_line()
        ahead: list[str] = []
        if names is None and len(_marks(first)) > 1:
            ahead = list(islice(self._lines, _AHEAD))
        self.delimiter = delimiter or said or (_delimiter([first, *ahead]) if names is None else ",")
        cells = _cells(first, self.delimiter)
        # Written with a blank after each delimiter: it belongs to no value, and quotes come after it.
        self.spaced = names is None and len(cells) > 1 and all(cell.startswith(" ") for cell in cells[1:])
        self._reader = csv.reader(
            chain([first] if first else [], ahead, self._lines),
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
            skipinitialspace=self.spaced,
            strict=True,
        )
        self._open_quotes: list[str] = []
        self._nameless: list[str] = []
        self.header_line = 0
        self.names = list(names or ())
        if names is None:
            start, header = self._next() or (1, [])
            if not header:
                raise DatasetError(f"{place} is empty: it has no header.", hint=hint)
            if any("\n" in name and self.delimiter in name for name in header):
                raise self.malformed(1, "a quote is left open")
            self.names = [name.strip() for name in header]
            self.header_line = self._line
            if self._line > start:
                # A name may run over lines, or have swallowed rows.
                self._open_quotes.append(f"lines {start} to {self._line}")
        self._least = max((at for at, name in enumerate(self.names, 1) if name), default=0)
        # The first column of a table that pandas wrote is its index, which has no name and is no loss.
        self._gaps = [at for at, name in enumerate(self.names) if at and not name]

    @classmethod
    def of(cls, path: Path, delimiter: str | None = None, names: Sequence[str] | None = None) -> Delimited:
        """The rows of a UTF-8 file, unpacked while reading where its name ends in ``.gz``."""
        return cls(lines_of(path), path, delimiter=delimiter, names=names)

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        n = len(self.names)
        while (found := self._next()) is not None:
            line, row = found
            if len(row) != n:
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) < self._least or any(cell.strip() for cell in row[n:]):
                    raise self.malformed(line, f"it has {len(row)} columns instead of {n}")
                row = [*row[:n], *[""] * (n - len(row))]
            if self._gaps and any(row[at].strip() for at in self._gaps):
                self._nameless.append(f"line {line}")
            yield line, row

    def place_of(self, name: str) -> int:
        """Where a column stands in a row; DatasetError if there is none of that name, or several."""
        if name not in self.names:
            there = ", ".join(filter(None, self.names))
            raise DatasetError(
                f"{self.place} has no column {name!r}; its columns are: {there}.", hint=self.hint
            )
        if self.names.count(name) > 1:
            raise several_columns(self.place, name)
        return self.names.index(name)

    def malformed(self, line: int, why: str) -> DatasetError:
        """The error that a line is no row."""
        return DatasetError(f"{self.place}, line {line}: {why}.", hint=self.hint)

    def notes(self) -> list[Note]:
        """What was odd; complete once all rows were read."""
        name = PurePath(self.place).name
        return [
            *note_of(
                "warning",
                "open_quote",
                f"values of {name} that run over lines which look like rows: is a quote left open?",
                self._open_quotes,
            ),
            *note_of(
                "warning",
                "nameless_column",
                f"lines of {name} with values in a column without a name: not read",
                self._nameless,
            ),
        ]

    @property
    def _line(self) -> int:
        return self._reader.line_num + self._blank_lines

    def _first_line(self) -> str:
        for line in self._lines:
            if not line.isspace():
                return line
            self._blank_lines += 1
        return ""

    def _next(self) -> tuple[int, list[str]] | None:
        """The line where the next row starts that has cells, and the cells."""
        while True:
            start = self._line + 1
            try:
                row = next(self._reader, None)
            except csv.Error as error:
                raise self.malformed(start, _plain(error)) from None
            if row is None:
                return None
            if row:
                if self._line > start and self.names and self._holds_rows(row):
                    self._open_quotes.append(f"lines {start} to {self._line}")
                return start, row

    def _holds_rows(self, row: Sequence[str]) -> bool:
        """Whether a line within a value has a cell for each column, or a value ends where one would begin."""
        return any(
            self._took_rows(at, len(row) - 1 - at, lines)
            for at, cell in enumerate(row)
            if (lines := _BREAK.split(cell))[1:]
        )

    def _took_rows(self, before: int, after: int, lines: Sequence[str]) -> bool:
        """Whether a value between cells may be the rest of a row, further rows, and the start of another."""
        marks = [line.count(self.delimiter) for line in lines]
        wanted = self._least - 1
        return (
            max(marks[1:-1], default=-1) >= wanted
            or (before + marks[0] >= wanted and marks[-1] + after >= wanted)
            or lines[-1].endswith(self.delimiter)
        )


def several_columns(place: str | PurePath, name: str) -> DatasetError:
    """The error that a column is meant that there is more than once."""
    return DatasetError(
        f"{place} has several columns of one name: {name}.", hint="Rename or remove all but one."
    )


def nothing_in(name: str) -> Note:
    """The note that a file has no row: a header alone, or nothing."""
    return Note("warning", "no_rows", f"{name} holds no row")


def open_bytes(path: Path) -> gzip.GzipFile | io.BufferedReader:
    """The file's bytes, unpacked while reading where its name ends in ``.gz``."""
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")


def lines_of(path: Path) -> Iterator[str]:
    """The physical lines of a UTF-8 file with their ends, a byte order mark aside.

    Raises:
        DatasetError: the file cannot be read, is cut short, or is not UTF-8; names the line.
    """
    try:
        with io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline="") as text:
            yield from text
    except UnicodeDecodeError:
        raise _undecodable(path) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(
            f"Cannot read {path}: {str(error).rstrip('.')}.",
            hint="A file cut short or damaged must be downloaded again.",
        ) from None


def first_row(path: Path, delimiter: str | None = None) -> list[str]:
    """The cells of the first row, blanks around them taken off; empty for an empty file."""
    lines = lines_of(path)
    first = next((line for line in lines if not line.isspace()), None)
    return [] if first is None else Delimited(chain([first], lines), path, delimiter=delimiter).names


def read_delimited(
    path: Path,
    types: Mapping[str, pa.DataType],
    names: Sequence[str] | None = None,
    delimiter: str | None = None,
) -> tuple[pa.Table, list[Note]]:
    """Some columns of a file, in the file's order of rows, and what was odd.

    Args:
        types: the columns to read and their types; texts are kept as written.
        names: the names of all columns, for a file without a header.

    Raises:
        DatasetError: a column is not there, a line has another number of columns, a value is not of
            its type, or the file is cut short or not UTF-8; names the line.
    """
    rows = Delimited.of(path, delimiter, names)
    places = {name: rows.place_of(name) for name in types}
    texts, notes = _read_at_once(path, rows, places), []
    if texts is None:
        texts = _read_rows(rows, places)
        notes = rows.notes()
    if not len(texts):
        notes.append(nothing_in(path.name))
    columns = [
        _typed(path, rows, name, texts[name], kind) if kind != pa.string() else texts[name]
        for name, kind in types.items()
    ]
    return pa.table(columns, names=list(types)), notes


def with_ids(table: pa.Table, item: str, name: str) -> tuple[pa.Table, list[Note]]:
    """The rows of ``table`` that name an item, and a note on those of the file ``name`` that name none."""
    named = pc.not_equal(pc.utf8_trim_whitespace(table[item]), "")
    lacking = [f"row {row + 1}" for row in pc.indices_nonzero(pc.invert(named)).to_pylist()]
    return table.filter(named), note_of(
        "warning", "no_id", f"rows of {name} without an item: left out", lacking
    )


def line_of_row(
    path: Path, row: int, delimiter: str | None = None, names: Sequence[str] | None = None
) -> int:
    """The physical line, from 1, where a row that is not blank starts; rows count from 0."""
    return next(line for at, (line, _) in enumerate(Delimited.of(path, delimiter, names)) if at == row)


def first_that_fails(texts: pa.ChunkedArray, kind: pa.DataType) -> int:
    """The row of the first text that is not of a type; there is one."""
    low, high = 0, len(texts)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            texts.slice(low, middle - low).cast(kind)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low


def first_texts(table: pa.Table, item: str, text: str) -> dict[str, str | None]:
    """Each item's text in its first row, None if blank; items in the order of the rows."""
    first = table.group_by(item, use_threads=False).aggregate([(text, "first")])
    texts = first[f"{text}_first"].to_pylist()
    return dict(zip(first[item].to_pylist(), map(text_or_none, texts), strict=True))


def first_values(
    table: pa.Table, item: str, column: str, is_number: bool
) -> tuple[dict[str, Value], list[str]]:
    """As :func:`first_texts`, or the numbers that the texts write; and which cells are no number, by item."""
    texts = first_texts(table, item, column)
    if not is_number:
        return dict(texts), []
    values: dict[str, Value] = {}
    unusable = []
    for item_id, text in texts.items():
        try:
            values[item_id] = number_in(text)
        except CellTrouble as trouble:
            values[item_id] = None
            unusable.append(f"{item_id}: its {column} {trouble}")
    return values, unusable


def repeated(column: pa.Array | pa.ChunkedArray) -> list[str]:
    """The values that come more than once."""
    counts = pc.value_counts(column)
    values: list[str] = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    return values


def first_cells(lines: Iterable[str]) -> list[str]:
    """The cells of the first line that is not blank and does not merely name the delimiter."""
    left = filter(str.strip, lines)
    first = next(left, "")
    said = _said_delimiter(first)
    if said:
        first = next(left, "")
    return _cells(first, said or _delimiter([first, *islice(left, _AHEAD)]))


def _said_delimiter(line: str) -> str | None:
    found = _SAYS_DELIMITER.fullmatch(line.rstrip("\r\n"))
    return found and found[1].replace("\\t", "\t")


def _marks(header: str) -> list[str]:
    """What may be the delimiter, in the order of the header."""
    bare = _QUOTED.sub("", header)
    return sorted((mark for mark in _DELIMITERS if mark in bare), key=bare.index)


def _delimiter(lines: Sequence[str]) -> str:
    """The delimiter that gives the most rows as many cells as the header; of several, the header's first."""
    marks = _marks(lines[0]) or [","]
    return marks[0] if len(marks) == 1 else max(marks, key=lambda mark: _rows_that_fit(lines, mark))


def _rows_that_fit(lines: Sequence[str], delimiter: str) -> int:
    _allow_any_length()
    rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    counts = [len(row) for row in rows if row]
    return counts[1:].count(counts[0])


def _allow_any_length() -> None:
    """A cell may be as long as it likes: Python's own bound of 128 KiB is for texts of unknown length."""
    csv.field_size_limit(sys.maxsize)


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def _plain(error: csv.Error) -> str:
    reasons = {
        "unexpected end of data": "a quote is left open until the end of the file",
        "new-line character": "a line ends in it without a quote around",
    }
    said = str(error)
    for start, plain in reasons.items():
        if said.startswith(start):
            return plain
    return f"a quote is left open, or not doubled ({said})" if '"' in said else said


def _undecodable(path: Path) -> DatasetError:
    with open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                return not_utf8(path, number, line[error.start])
    return DatasetError(f"{path} is not UTF-8.")


def _read_at_once(path: Path, rows: Delimited, places: Mapping[str, int]) -> pa.Table | None:
    """As :func:`_read_rows`, much faster, of a file in which each line is a row, quoted or not.

    Returns:
        None if the file is not of that kind, or a line is no row: then the lines are read one by one,
        which says where.
    """
    quoted = None if rows.spaced or not rows.delimiter.isascii() else _quoting(path, rows.delimiter)
    if quoted is None:
        return None
    columns = [str(at) for at in range(len(rows.names))]
    wanted = {columns[at]: pa.string() for at in places.values()}
    try:
        with open_bytes(path) as file:
            table = arrow_csv.read_csv(
                file,
                read_options=arrow_csv.ReadOptions(column_names=columns, skip_rows=rows.header_line),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=rows.delimiter, quote_char='"' if quoted else False
                ),
                convert_options=arrow_csv.ConvertOptions(column_types=wanted, include_columns=list(wanted)),
            )
    except (pa.ArrowInvalid, OSError, EOFError, zlib.error):
        return None
    return table.rename_columns(list(places))


def _quoting(path: Path, delimiter: str) -> bool | None:
    """Whether a file has quotes; None if these are such that only the rows, one by one, tell the values:
    one that stands within a value without being doubled, is left open, or has a line break in it."""
    quoted = False
    try:
        with open_bytes(path) as file:
            while chunk := file.read(_CHUNK) + file.readline():
                if b'"' in chunk:
                    quoted = True
                    if not _quotes_values(chunk, delimiter.encode()):
                        return None
    except (OSError, EOFError, zlib.error):
        return None
    return quoted


def _quotes_values(lines: bytes, delimiter: bytes) -> bool:
    """Whether each quote in whole lines begins or ends a value, or is one of two that stand for a quote, and
    each value ends in the line where it begins."""
    marks = np.frombuffer(b"\n" + lines + b"\n", np.uint8)
    quotes = np.flatnonzero(marks == ord('"'))
    if len(quotes) % 2:
        return False
    begins, ends = quotes[::2], quotes[1::2]
    bounds = np.frombuffer(delimiter + b"\r\n", np.uint8)
    # What ends and begins again at once is a doubled quote.
    doubled = begins[1:] == ends[:-1] + 1
    begun = np.isin(marks[begins - 1], bounds)
    begun[1:] |= doubled
    ended = np.isin(marks[ends + 1], bounds)
    ended[:-1] |= doubled
    breaks = np.flatnonzero((marks == ord("\n")) | (marks == ord("\r")))
    whole = np.searchsorted(breaks, begins) == np.searchsorted(breaks, ends)
    return bool((begun & ended & whole).all())


def _read_rows(rows: Delimited, places: Mapping[str, int]) -> pa.Table:
    """Columns of texts, by their places in a row."""
    schema = pa.schema([(name, pa.string()) for name in places])
    batches: list[pa.RecordBatch] = []
    columns: list[list[str]] = [[] for _ in places]
    for count, (_, cells) in enumerate(rows, start=1):
        for column, at in zip(columns, places.values(), strict=True):
            column.append(cells[at])
        if count % _BATCH == 0:
            batches.append(pa.record_batch(columns, schema=schema))
            columns = [[] for _ in places]
    return pa.Table.from_batches([*batches, pa.record_batch(columns, schema=schema)])


def _typed(
    path: Path, rows: Delimited, name: str, texts: pa.ChunkedArray, kind: pa.DataType
) -> pa.ChunkedArray:
    """Texts as numbers, null if there is none; DatasetError names the line of one that is no number."""
    trimmed = pc.utf8_trim_whitespace(texts)
    none = pc.is_in(trimmed, value_set=pa.array(arrow_csv.ConvertOptions().null_values))
    given = pc.if_else(none, pa.scalar(None, pa.string()), trimmed)
    try:
        return given.cast(kind)
    except pa.ArrowInvalid:
        row = first_that_fails(given, kind)
    line = line_of_row(path, row, rows.delimiter, None if rows.header_line else rows.names)
    what = "whole number" if pa.types.is_integer(kind) else "number"
    raise rows.malformed(line, f"its {name} is {texts[row].as_py()[:40]!r}, which is no {what}")
