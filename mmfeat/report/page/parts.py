"""What a page is put together from: plain values that the template draws, each in one way.

Every text may come from a stranger; the template escapes it and writes out what could reorder it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup

from mmfeat.report.page.plots import Chart


@dataclass(frozen=True)
class Chip:
    """A word in a frame; ``tone`` is ``good``, ``bad``, ``warn`` or nothing."""

    text: str
    tone: str = ""
    kind: ClassVar[str] = "chip"


@dataclass(frozen=True)
class Id:
    """An item id or another name that is copied, not read."""

    text: str
    kind: ClassVar[str] = "id"


@dataclass(frozen=True)
class Share:
    """A part of a whole, 0 to 1, as a percentage with a bar."""

    value: float
    kind: ClassVar[str] = "share"


@dataclass(frozen=True)
class Filter:
    """A button that shows the items it names in the table of all items.

    Args:
        text: on the button.
        suspect: number of the kind of suspect, or ``any``.
        status: ``ok``, ``missing``, ``failed`` or ``absent``.
    """

    text: str
    suspect: str = ""
    status: str = ""
    kind: ClassVar[str] = "filter"


Cell = str | Chip | Id | Share | Filter


@dataclass(frozen=True)
class Fact:
    """A figure with its name and, in small, what to hold it against."""

    name: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Facts:
    """The figures that come first in a section."""

    items: tuple[Fact, ...]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Terms:
    """Names and what they stand for."""

    items: tuple[tuple[str, Cell], ...]
    kind: ClassVar[str] = "terms"


@dataclass(frozen=True)
class Text:
    """A paragraph; as a note where the reader must not miss it."""

    text: str
    note: bool = False
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    text: str
    kind: ClassVar[str] = "heading"


@dataclass(frozen=True)
class Table:
    """Rows under headings; the first cell names the row. Columns in ``right`` hold numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    right: tuple[str, ...] = ()
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Charts:
    """Pictures side by side."""

    charts: tuple[Chart, ...]
    kind: ClassVar[str] = "charts"


@dataclass(frozen=True)
class Example:
    """What one item says, with the reason it is shown."""

    item_id: str
    text: str
    note: str = ""


@dataclass(frozen=True)
class Examples:
    """A folded list of items."""

    summary: str
    examples: tuple[Example, ...]
    #: Every id, for who takes them elsewhere.
    ids: tuple[str, ...] = ()
    kind: ClassVar[str] = "examples"


@dataclass(frozen=True)
class Pair:
    """Two texts of one item side by side."""

    item_id: str
    before: str
    after: str
    note: str = ""


@dataclass(frozen=True)
class Pairs:
    """Texts of two versions, item by item."""

    before: str
    after: str
    pairs: tuple[Pair, ...]
    kind: ClassVar[str] = "pairs"


@dataclass(frozen=True)
class Picture:
    """A JPEG, base64, and what it is of."""

    jpeg: str
    alt: str


@dataclass(frozen=True)
class Card:
    """One item of the gallery.

    Args:
        item_id: of the item.
        title: of the item, or nothing.
        text: its caption, or the reason it has none.
        chips: what was found about it.
        pictures: its cover, or its frames in the order of time.
        mp3: its sound, base64; empty if it has pictures.
        absent: what stands there where there is neither.
        said: whether ``text`` is the caption.
    """

    item_id: str
    title: str
    text: str
    chips: tuple[Chip, ...]
    pictures: tuple[Picture, ...]
    mp3: str
    absent: str
    said: bool


@dataclass(frozen=True)
class Cards:
    """A group of the gallery, with the rule by which it was chosen."""

    name: str
    title: str
    rule: str
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Gallery:
    """Groups of cards with a filter and a search over them."""

    groups: tuple[Cards, ...]
    kind: ClassVar[str] = "gallery"


@dataclass(frozen=True)
class Dot:
    """A point of a map, in the page's pixels."""

    x: str
    y: str


@dataclass(frozen=True)
class Map:
    """Items on a plane; the page's script colours them, and shows the one that is clicked.

    Args:
        label: what the picture says, for those who do not see it.
        height: of the picture, whose width is 1,000.
        dots: places of the items.
        data: the items and what they can be coloured by, as JSON that is safe inside a script element.
        colourings: names of what they can be coloured by.
    """

    label: str
    height: int
    dots: tuple[Dot, ...]
    data: Markup
    colourings: tuple[str, ...]
    kind: ClassVar[str] = "map"


Part = Facts | Terms | Text | Heading | Table | Charts | Examples | Pairs | Gallery | Map


@dataclass(frozen=True)
class Section:
    """A part of the page that the contents name.

    Args:
        name: its anchor.
        title: its heading.
        lead: what it answers, in a sentence.
        parts: from top to bottom.
        mark: a figure beside its name in the contents.
    """

    name: str
    title: str
    lead: str
    parts: tuple[Part, ...]
    mark: str = ""
