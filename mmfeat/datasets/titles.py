"""Reads titles files, of ids, titles and perhaps further columns, in the two forms that datasets write."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from mmfeat.datasets.base import Note, Value, note_of
from mmfeat.datasets.cells import CellTrouble, number_in, parsed, uniform
from mmfeat.datasets.delimited import Delimited, first_cells, nothing_in
from mmfeat.datasets.textfile import read_text, text_or_none
from mmfeat.schemas.catalog import NUMBER, Column
from mmfeat.schemas.columns import ColumnConfig
from mmfeat.schemas.errors import DatasetError
from mmfeat.schemas.validation import near

# How the first column is headed; a file whose first line starts otherwise has no header.
_ID_HEADERS = frozenset({"item", "item_id", "itemid", "id"})
_HINT = (
    "Quote titles that hold commas or quotes, or remove the header: each line is then split at "
    "its first comma. Further texts are named under [dataset.columns]."
)


@dataclass
class Titles:
    """A titles file as read.

    Attributes:
        texts: item id to title, None if the title is blank, in the file's order.
        further: the columns beside the title that were asked for.
        cells: name of such a column to item id to what it holds.
        repeated: ids on several lines with the same title.
        conflicting: ids on several lines with different titles; the first was taken.
        malformed: lines without an id or without a comma, as ``line N``; none was taken.
        unusable: cells that hold no number where one is asked for; read as none.
        unread: columns that nobody asked for.
        odd: what else was odd of the file.
    """

    name: str
    texts: dict[str, str | None] = field(default_factory=dict)
    further: dict[str, Column] = field(default_factory=dict)
    cells: dict[str, dict[str, Value]] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)
    conflicting: list[str] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    odd: list[Note] = field(default_factory=list)

    @property
    def columns(self) -> dict[str, Mapping[str, Value]]:
        """The title and the further columns, as the catalog takes them."""
        return {"title": self.texts, **self.cells}

    def add(self, item_id: str, text: str, further: Mapping[str, Value]) -> None:
        """Takes the texts of an item that has none yet."""
        title = text_or_none(text)
        if item_id not in self.texts:
            self.texts[item_id] = title
            for name, cell in further.items():
                self.cells[name][item_id] = cell
        elif self.texts[item_id] == title and all(self.cells[n][item_id] == c for n, c in further.items()):
            self.repeated.append(item_id)
        else:
            self.conflicting.append(item_id)

    def number(self, item_id: str, name: str, cell: str) -> float | None:
        """The number in a cell; one that holds something else is noted."""
        try:
            return number_in(cell)
        except CellTrouble as trouble:
            self.unusable.append(f"{item_id}: its {name} {trouble}")
            return None

    def notes(self) -> list[Note]:
        """What was left out or decided while reading."""
        blank = [item_id for item_id, title in self.texts.items() if title is None]
        name = self.name
        return [
            *note_of("info", "blank_title", f"blank titles in {name}: read as no title", blank),
            *note_of("info", "repeated_title", f"lines of {name} that repeat another", self.repeated),
            *note_of(
                "warning",
                "title_clash",
                f"items with several titles or texts in {name}: first taken",
                self.conflicting,
            ),
            *note_of(
                "warning",
                "malformed_line",
                f"lines of {name} that are not ID,TITLE: left out",
                self.malformed,
            ),
            *note_of(
                "warning",
                "unusable_cell",
                f"cells of {name} that hold no number: read as none",
                self.unusable,
            ),
            *note_of("info", "unread_column", f"columns of {name} that are not read", self.unread),
            *self.odd,
        ]


def read_titles(path: Path, further: Mapping[str, ColumnConfig] | None = None) -> Titles:
    """Reads a titles file.

    With a header (``item,title``) it is CSV: titles with commas, quotes or line breaks are quoted.
    Without one each physical line is split at its first comma and quotes mean nothing, because
    files of that form hold unbalanced ones.

    Args:
        further: columns of texts and numbers beside the title; the header may then name others too, which
            are not read. A cell that is a JSON array of texts holds several.

    Raises:
        DatasetError: the file is not UTF-8; it has a header and is not CSV of these columns; or
            further columns are asked for and the header has not got them.
    """
    return parse_titles(read_text(path), path, further)


def parse_titles(text: str, path: PurePath, further: Mapping[str, ColumnConfig] | None = None) -> Titles:
    """As :func:`read_titles`, of a text that was read already from ``path``."""
    further = further or {}
    called = {name: config.source(name) for name, config in further.items()}
    titles = Titles(path.name, cells={name: {} for name in further})
    header = _header(text, path)
    if header is not None:
        _add_csv(titles, header, called, {n for n, config in further.items() if config.modality == NUMBER})
    elif further:
        raise DatasetError(
            f"{path} has no header, and so no column {next(iter(called.values()))!r}.",
            hint=f"Its first line must be: item_id,title,{','.join(called.values())}.",
        )
    else:
        for line, item_id, title in _line_rows(text):
            if item_id and title is not None:
                titles.add(item_id, title, {})
            else:
                titles.malformed.append(f"line {line}")
    if not titles.texts and not titles.malformed:
        titles.odd.append(nothing_in(path.name))
    for name, cells in titles.cells.items():
        values, several = uniform(list(cells.values()))
        titles.cells[name] = dict(zip(cells, values, strict=True))
        titles.further[name] = Column(name, further[name].modality, several)
    return titles


def _header(text: str, path: PurePath) -> Delimited | None:
    """The rows of a text that begins with a header; None if it has none."""
    cells = first_cells(io.StringIO(text, newline=""))
    if not cells or cells[0].strip().lower() not in _ID_HEADERS:
        return None
    return Delimited(io.StringIO(text, newline=""), path, hint=_HINT)


def _line_rows(text: str) -> Iterator[tuple[int, str, str | None]]:
    # Not str.splitlines: it also breaks at characters that titles hold, such as U+2028.
    end = "\n" if "\n" in text else "\r"
    for number, line in enumerate(text.split(end), start=1):
        item_id, comma, title = line.removesuffix("\r").partition(",")
        if item_id or comma:
            yield number, item_id, title if comma else None


def _add_csv(titles: Titles, rows: Delimited, further: Mapping[str, str], numbers: Collection[str]) -> None:
    """Takes the rows of a CSV file.

    Args:
        further: columns beside the title, to what the header calls them.
        numbers: those among them that hold numbers.
    """
    header = [name for name in rows.names if name]
    for name, called in further.items():
        if called not in header[2:]:
            there = ", ".join(header[2:]) or "none"
            raise DatasetError(
                f"{rows.place} has no column {called!r}, asked for as {name!r}.",
                hint=f"{near(called, header[2:])}Beside id and title it has: {there}.",
            )
    if rows.names[:2] != header[:2] or len(header) < 2 or (len(header) > 2 and not further):
        raise rows.malformed(rows.header_line, f"it has {len(header)} columns instead of 2, id and title")
    titles.unread = [name for name in header[2:] if name not in further.values()]
    at = {name: rows.place_of(called) for name, called in further.items()}
    for line, row in rows:
        if row[0]:
            cells = {
                name: titles.number(row[0], name, row[place]) if name in numbers else parsed(row[place])
                for name, place in at.items()
            }
            titles.add(row[0], row[1], cells)
        else:
            titles.malformed.append(f"line {line}")
    titles.odd = rows.notes()
