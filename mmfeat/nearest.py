"""What a search found, for people: a table of text at a prompt, and one with pictures in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmfeat.schemas.errors import MmfeatError
from mmfeat.schemas.notebook import Html, picture, table
from mmfeat.schemas.visible import visible

if TYPE_CHECKING:
    from mmfeat.report.model import Shown
    from mmfeat.store import Hit

_WIDTH = 80
_LEAST_TITLE = 12
_LONGEST_QUERY = 40


@dataclass(frozen=True, repr=False)
class Nearest:
    """The items nearest to a query, the nearest first. Iterating gives each as a ``Hit``.

    Attributes:
        version: ``name@fingerprint`` of the feature that was searched.
        asked: the item id or the text that was the query, or ``a picture``.
        item: the item id that was the query; None if a text or a picture was.
        hits: the items found, with their scores.
        measure: what the scores are: ``cosine`` or ``maxsim``.
        titles: title by item id; None if an item has no title.
        pictures: makes pictures of all these items, by id. Called for notebooks alone.
    """

    version: str
    asked: str
    item: str | None
    hits: list[Hit]
    measure: str
    titles: Mapping[str, str | None]
    pictures: Callable[[], Mapping[str, Shown]]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def __repr__(self) -> str:
        """A table of at most 80 columns, unless ids leave no room: titles are cut."""
        from rich.cells import cell_len, set_cell_size

        rows = [[visible(cell) for cell in row] for row in (("item", self.measure, "title"), *self._rows())]
        ids, scores = (max(cell_len(row[k]) for row in rows) for k in (0, 1))
        room = max(_LEAST_TITLE, _WIDTH - ids - scores - 4)
        lines = [
            f"{set_cell_size(item, ids)}  {score:>{scores}}  {_cut(title, room)}"
            for item, score, title in rows
        ]
        return "\n".join(line.rstrip() for line in [self._heading(), *lines])

    def _repr_html_(self) -> str:
        pictures, note = self._drawn()
        ids = [*([] if self.item is None else [self.item]), *(hit.item_id for hit in self.hits)]
        rows = [(pictures.get(i, ""), *row) for i, row in zip(ids, self._rows(), strict=True)]
        return table(self._heading(), ("", "item", self.measure, "title"), rows, note)

    def show(self) -> None:
        """Display it in a notebook, with pictures; print it elsewhere."""
        if "IPython" in sys.modules:
            from IPython.display import display

            display(self)
        else:
            print(self)

    def _heading(self) -> str:
        return f"Nearest to {_cut(visible(self.asked), _LONGEST_QUERY)} by {self.version}"

    def _rows(self) -> list[tuple[str, str, str]]:
        """Id, score and title: of the item that was the query, without a score, and of the items found."""
        asked = [] if self.item is None else [(self.item, "", self.titles[self.item] or "")]
        found = [(hit.item_id, f"{hit.score:.4f}", self.titles[hit.item_id] or "") for hit in self.hits]
        return asked + found

    def _drawn(self) -> tuple[dict[str, Html], str]:
        """The first picture of each item that has one; and why there is none at all, or nothing."""
        try:
            shown = self.pictures()
        except MmfeatError as error:
            return {}, str(error)
        found = {i: one.pictures[0].jpeg for i, one in shown.items() if one.pictures}
        return {i: picture(jpeg, self.titles[i] or i) for i, jpeg in found.items()}, ""


def _cut(text: str, columns: int) -> str:
    """A text that takes at most so many columns of a terminal."""
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= columns else f"{set_cell_size(text, columns - 3)}..."
