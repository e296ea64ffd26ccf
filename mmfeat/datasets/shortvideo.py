"""The short-video dataset of Tsinghua University (WWW 2025)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.datasets.base import Dataset, Note, Value, build_items, existing_folder, note_of
from mmfeat.datasets.delimited import first_row, first_texts, first_values, read_delimited
from mmfeat.datasets.interactions import read_interactions
from mmfeat.datasets.layout import in_order, unread
from mmfeat.datasets.media_files import files_in, is_safe_id, printable, split_name
from mmfeat.datasets.parts import inner_folder, named_media
from mmfeat.datasets.textfile import text_or_none
from mmfeat.schemas.catalog import NUMBER, Column, usual
from mmfeat.schemas.errors import DatasetError

_WHAT = "the dataset's folder, with raw_file, title_en, asr_en and interaciton_filtered.csv or some of them"
_VIDEOS = "raw_file"
# The releases spell it so; the sample alone spells it right.
_INTERACTIONS = ("interaciton_filtered.csv", "interaciton.csv", "interaction.csv")

# Of a video, in each of its interactions, as the README of tsinghua-fib-lab/ShortVideo_dataset lists them.
_FIELDS = (
    *(Column(name, "text") for name in ("tag_name", "author_id", "category_id", "parent_id", "root_id")),
    *(Column(name, NUMBER) for name in ("duration", "author_fans_count")),
)
_TRANSCRIPT = Column("transcript", "text")


def load(root: Path | None, *, language: Literal["en", "zh"] = "en") -> Dataset:
    """Tsinghua ShortVideo: videos, titles, speech transcripts and interactions.

    Any one part is enough; an item is whatever any part names. Read from ``root``: ``raw_file``
    (videos), ``title_en`` and ``asr_en`` or ``asr_zn`` (a text per item, with or without a byte
    order mark), and ``interaciton_filtered.csv``, else ``interaciton.csv`` or ``interaction.csv``
    (``user_id``, ``pid``, ``exposed_time`` in seconds). The speech transcript is the item's
    ``transcript`` and its description; an empty one, which a failed recognition left, is none. Fields
    are what the interactions say of a video where it comes first: ``tag_name``, ``author_id``,
    ``category_id``, ``parent_id``, ``root_id``, ``duration`` in seconds and ``author_fans_count``.

    Args:
        language: ``en`` for the translated titles and transcripts; ``zh`` for the Chinese
            transcripts and for the titles in the interactions' column ``title``.

    Raises:
        DatasetError: no part is there, or the interactions are not as they should be.
    """
    folder = existing_folder(root, "shortvideo", _WHAT)
    videos = named_media(folder, _VIDEOS, usual("video"))
    log = next((folder / name for name in _INTERACTIONS if (folder / name).is_file()), None)
    speech = _texts(folder, "asr_en" if language == "en" else "asr_zn")
    titles = _texts(folder, "title_en") if language == "en" else _chinese_titles(folder, log)
    locations = videos.locations if videos else {}
    content = {*locations, *speech.texts, *titles.texts}
    if not content and log is None:
        raise DatasetError(f"There is nothing of ShortVideo in {folder}.", hint=f"--root must be {_WHAT}.")
    interactions, notes = (
        read_interactions(log, user="user_id", item="pid", timestamp="exposed_time") if log else (None, [])
    )
    transcripts = {_TRANSCRIPT.name: speech.texts} if speech.texts else {}
    fields, field_notes = _fields(log) if log else ({}, [])
    rated = set() if interactions is None else set(pc.unique(interactions["item_id"]).to_pylist())
    used = {_VIDEOS, f"{_VIDEOS}.zip", speech.name, titles.name, *([log.name] if log else [])}
    return Dataset(
        name="shortvideo",
        root=str(folder),
        items=build_items(
            in_order(content | rated),
            {"title": titles.texts, "description": speech.texts, "video": locations, **fields, **transcripts},
            [one for one in (_TRANSCRIPT, *_FIELDS) if one.name in {*transcripts, *fields}],
        ),
        interactions=interactions,
        notes=[
            *(videos.notes() if videos else []),
            *speech.notes(),
            *titles.notes(),
            *notes,
            *field_notes,
            *_id_notes({*locations, *speech.texts}, content, rated),
            *note_of("info", "not_read", "files and folders that are not read", unread(folder, used)),
        ],
    )


@dataclass
class _Texts:
    """The texts of a folder of ``{id}.txt`` or of a column; None for a blank one."""

    name: str
    texts: dict[str, str | None] = field(default_factory=dict)
    undecodable: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def notes(self) -> list[Note]:
        blank = [item_id for item_id, text in self.texts.items() if text is None]
        return [
            *note_of("info", "blank_text", f"blank texts in {self.name}: read as none", blank),
            *note_of(
                "error", "not_utf8", f"texts in {self.name} that are not UTF-8: refused", self.undecodable
            ),
            *note_of(
                "error", "refused_text", f"files in {self.name} that lead out or name no item", self.refused
            ),
        ]


def _texts(root: Path, name: str) -> _Texts:
    found = _Texts(name)
    folder = inner_folder(root, name)
    if folder is None:
        return found
    names, outside = files_in(folder, str(root.resolve()))
    found.refused = outside
    for file_name in names:
        split = split_name(file_name, (".txt",))
        if split is None:
            continue
        if not is_safe_id(split[0]):
            found.refused.append(printable(file_name))
            continue
        try:
            text = (folder / file_name).read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError:
            # One file among 150,000 must not keep the others from being read.
            found.undecodable.append(split[0])
        else:
            found.texts[split[0]] = text_or_none(text.strip())
    return found


def _chinese_titles(folder: Path, log: Path | None) -> _Texts:
    """The first title of each item in the interactions."""
    if log is None or "title" not in first_row(log):
        raise DatasetError(
            f"There are no Chinese titles in {folder}: they are in the column title of the interactions.",
            hint=f"Put {_INTERACTIONS[0]} there, or leave the option language out.",
        )
    # What is odd of the file is noted where its interactions are read.
    table, _ = read_delimited(log, {"pid": pa.string(), "title": pa.string()})
    named = table.filter(pc.not_equal(table["pid"], ""))
    filled = named.filter(pc.not_equal(pc.utf8_trim_whitespace(named["title"]), ""))
    return _Texts(log.name, first_texts(filled, "pid", "title"))


def _fields(log: Path) -> tuple[dict[str, dict[str, Value]], list[Note]]:
    """The fields that the interactions have columns of, by video."""
    header = first_row(log)
    columns = [one for one in _FIELDS if one.name in header]
    if not columns:
        return {}, []
    # What is odd of the file is noted where its interactions are read.
    table, _ = read_delimited(log, dict.fromkeys(["pid", *(one.name for one in columns)], pa.string()))
    named = table.filter(pc.not_equal(table["pid"], ""))
    fields: dict[str, dict[str, Value]] = {}
    unusable: list[str] = []
    for one in columns:
        fields[one.name], bad = first_values(named, "pid", one.name, one.modality == NUMBER)
        unusable += bad
    return fields, note_of("warning", "unusable_cell", f"cells of {log.name} that hold no number", unusable)


def _id_notes(in_files: set[str], content: set[str], rated: set[str]) -> list[Note]:
    notes = []
    if in_files and rated and in_files.isdisjoint(rated):
        # The published sample: its files are numbered from 1, its interactions name hashed ids.
        message = "no item has both files and interactions: their ids are of different kinds"
        notes.append(Note("warning", "ids_apart", message, len(in_files)))
    bare = in_order(rated - content)
    return notes + note_of("info", "only_interactions", "items with interactions and nothing to encode", bare)
