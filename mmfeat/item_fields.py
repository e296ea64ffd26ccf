"""Fields of exported items: what the catalog holds of them in columns of texts and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.schemas.catalog import ITEM_ID, NUMBER, Column, columns_of, texts_of
from mmfeat.schemas.errors import UnknownItems, UsageError
from mmfeat.schemas.validation import listed, near

#: The values of ``n`` items: texts, None if there is none; a list of texts of each, empty if there is
#: none; or float64 ``[n]``, NaN if there is none.
Values = list[str | None] | list[list[str]] | np.ndarray


class Fields(Mapping[str, Values]):
    """A column's name to the values of the exported items in their order, read when it is asked for.

    Args:
        items: ``item_id`` and any columns; media are no fields.
        ids: the exported items. One that ``items`` lacks has no values.

    Attributes:
        columns: what each field is.
    """

    def __init__(self, items: pa.Table, ids: Sequence[str]) -> None:
        # A table of a caller's own may have columns that no catalog could have.
        columns = columns_of(pa.schema([one for one in items.schema if one.name.isidentifier()]))
        self.columns: dict[str, Column] = {n: one for n, one in columns.items() if not one.is_media}
        self._items, self._ids = items, ids
        self._rows = pc.index_in(pa.array(ids, pa.string()), value_set=items[ITEM_ID].combine_chunks())

    def __getitem__(self, name: str) -> Values:
        column = self.columns[name]
        values = self._taken(name)
        if column.modality == NUMBER:
            return np.asarray(values.cast(pa.float64()).fill_null(np.nan).to_numpy())
        found: list[Any] = values.to_pylist()
        return [cell or [] for cell in found] if column.several else found

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def texts(self, name: str) -> list[str | None]:
        """What each item has in a field as one text, in which a list can be told: see
        :func:`mmfeat.schemas.catalog.texts_of`."""
        found: list[str | None] = texts_of(self._taken(name), self.columns[name]).to_pylist()
        return found

    def unknown(self) -> list[str]:
        """Those of the ids that ``items`` lacks, each once."""
        lacking = pa.array(self._ids, pa.string()).filter(self._rows.is_null())
        found: list[str] = lacking.unique().to_pylist()
        return found

    def table(self, names: Sequence[str], taken: Sequence[str]) -> pa.Table:
        """The fields ``names``, one row per exported item, null if it has none.

        Args:
            taken: names that the export's other columns have.

        Raises:
            UsageError: there is no such field, it is named twice, or its name is taken.
        """
        for name in names:
            if name not in self.columns:
                raise _unknown(self, name)
            if name in taken or list(names).count(name) > 1:
                raise UsageError(
                    f"The export would have two columns called {name!r}.",
                    hint="Leave the field out (--fields), or the feature of that name (--features).",
                )
        # Without what a catalog says of its columns: readers elsewhere have no use for it.
        return pa.table({name: self._taken(name) for name in names})

    def _taken(self, name: str) -> pa.ChunkedArray:
        return self._items[name].take(self._rows)


def lists_of(fields: Mapping[str, Values], name: str) -> list[list[str]]:
    """What each item has in a field of texts, or of lists of texts, as a list.

    Raises:
        UsageError: there is no such field, or it holds numbers.
    """
    if name not in fields:
        raise _unknown(fields, name)
    values = fields[name]
    if isinstance(values, np.ndarray):
        raise UsageError(
            f"The field {name!r} holds numbers, and not texts.",
            hint="Name a field of texts or lists of texts.",
        )
    return [value if isinstance(value, list) else [value] if value else [] for value in values]


def values_of(fields: Mapping[str, Values], name: str, items: int) -> list[Any]:
    """What each of ``items`` items has in a field, None if it has nothing or there is no such field."""
    values = fields.get(name, [None] * items)
    if isinstance(values, np.ndarray):
        return [None if np.isnan(value) else float(value) for value in values]
    return [value or None for value in values]


def _unknown(fields: Mapping[str, Values], name: str) -> UsageError:
    return UsageError(
        f"The items have no field {name!r}.",
        hint=f"{near(name, list(fields))}There are: {', '.join(fields)}.",
    )


def fields_of(
    items: pa.Table, ids: Sequence[str], names: Sequence[str] | None, unknown: str, place: str
) -> pa.Table:
    """``item_id`` and fields of items, in the order asked; see :meth:`mmfeat.FeatureStore.fields`.

    Args:
        items: the catalog.
        place: what holds it, for what is said of unknown ids.
    """
    fields = Fields(items, ids)
    if unknown == "error" and (strange := fields.unknown()):
        raise UnknownItems(strange, place)
    found = fields.table(list(fields) if names is None else listed(names, "field"), [ITEM_ID])
    return found.add_column(0, ITEM_ID, [pa.array(ids, pa.string())])
