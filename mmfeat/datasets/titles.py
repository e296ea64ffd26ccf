"""Reads titles files of two columns, item id and title, in the two forms that datasets write."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from mmfeat.datasets.base import Note, note_of
from mmfeat.datasets.textfile import read_text, text_or_none
from mmfeat.schemas.errors import DatasetError

# How the first column is headed; a file whose first line starts otherwise has no header.
_ID_HEADERS = frozenset({"item", "item_id", "itemid", "id"})


@dataclass
class Titles:
    """A titles file as read.

    Attributes:
        texts: item id to title, None where the title is blank, in the file's order.
        repeated: ids on several lines with the same title.
        conflicting: ids on several lines with different titles; the first was taken.
        malformed: lines without an id or without a comma, as ``line N``; none was taken.
    """

    name: str
    texts: dict[str, str | None] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)
    conflicting: list[str] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)

    def add(self, item_id: str, text: str) -> None:
        """Takes the title of an item that has none yet."""
        title = text_or_none(text)
        if item_id not in self.texts:
            self.texts[item_id] = title
        elif self.texts[item_id] == title:
            self.repeated.append(item_id)
        else:
            self.conflicting.append(item_id)

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
                f"items with several titles in {name}: first taken",
                self.conflicting,
            ),
            *note_of(
                "warning",
                "malformed_line",
                f"lines of {name} that are not ID,TITLE: left out",
                self.malformed,
            ),
        ]


def read_titles(path: Path) -> Titles:
    """Reads a titles file.

    With a header (``item,title``) it is CSV: titles with commas, quotes or line breaks are quoted.
    Without one each physical line is split at its first comma and quotes mean nothing, because
    files of that form hold unbalanced ones.

    Raises:
        DatasetError: the file is not UTF-8, or has a header and is not CSV of two columns.
    """
    return parse_titles(read_text(path), path)


def parse_titles(text: str, path: PurePath) -> Titles:
    """As :func:`read_titles`, of a text that was read already from ``path``."""
    titles = Titles(path.name)
    first = text.partition("\n")[0].rstrip("\r").replace('"', "").lower().split(",")
    rows = _csv_rows(text, path) if first[0].strip() in _ID_HEADERS else _line_rows(text)
    for line, item_id, title in rows:
        if item_id and title is not None:
            titles.add(item_id, title)
        else:
            titles.malformed.append(f"line {line}")
    return titles


def _line_rows(text: str) -> Iterator[tuple[int, str, str | None]]:
    # Not str.splitlines: it also breaks at characters that titles hold, such as U+2028.
    for number, line in enumerate(text.split("\n"), start=1):
        item_id, comma, title = line.removesuffix("\r").partition(",")
        if item_id or comma:
            yield number, item_id, title if comma else None


def _csv_rows(text: str, path: PurePath) -> Iterator[tuple[int, str, str | None]]:
    # Strict, so that an unbalanced quote is an error instead of many lines in one title.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    start = 1
    try:
        for number, row in enumerate(reader):
            if row and len(row) != 2:
                raise _not_csv(path, start, f"it has {len(row)} columns")
            if row and number:
                yield start, row[0], row[1]
            start = reader.line_num + 1
    except csv.Error as error:
        raise _not_csv(path, start, str(error)) from None


def _not_csv(path: PurePath, line: int, why: str) -> DatasetError:
    return DatasetError(
        f"{path}, line {line} is not CSV of two columns, id and title: {why}.",
        hint="Quote titles that hold commas or quotes, or remove the header: "
        "each line is then split at its first comma. For more columns use the dataset 'table'.",
    )
