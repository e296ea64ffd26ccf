"""What the dataset ``folder``, on a disk and on an object store, makes of the columns that are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mmfeat.datasets.titles import Titles
from mmfeat.schemas.catalog import NUMBER
from mmfeat.schemas.columns import ColumnConfig
from mmfeat.schemas.errors import DatasetError
from mmfeat.schemas.validation import near

TITLES = "titles.csv"
_WRITTEN = ("text", NUMBER)


def folders_of(asked: Mapping[str, ColumnConfig]) -> dict[str, str]:
    """The columns of media that are asked for, to what their folders are called."""
    return {name: config.source(name) for name, config in asked.items() if config.modality not in _WRITTEN}


def written_in(asked: Mapping[str, ColumnConfig]) -> dict[str, ColumnConfig]:
    """The columns of texts and numbers that are asked for: those of ``titles.csv``."""
    return {name: config for name, config in asked.items() if config.modality in _WRITTEN}


def refuse_lacking(root: str, called: Mapping[str, str], found: Iterable[str], there: list[str]) -> None:
    """DatasetError where a column of media that is asked for has no folder.

    Args:
        called: column to what its folder is called.
        found: columns that have one.
        there: names of what the root holds.
    """
    if lacking := [name for name in called if name not in set(found)]:
        word = called[lacking[0]]
        raise DatasetError(
            f"There is no folder or archive {word!r} in {root} for the column {lacking[0]!r}.",
            hint=f"{near(word, there)}It holds: {', '.join(there[:20]) or 'nothing'}.",
        )


def no_titles(root: str, further: Mapping[str, ColumnConfig]) -> Titles:
    """What stands for the titles if there is no file of them; DatasetError where it is needed."""
    if further:
        names = ",".join(config.source(name) for name, config in further.items())
        raise DatasetError(
            f"There is no {TITLES} in {root} for the column {next(iter(further))!r}.",
            hint=f"Texts and numbers are read from it: item_id,title,{names} in its first line.",
        )
    return Titles(TITLES)
