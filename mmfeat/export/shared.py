"""An export that is used together with another one has its id maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pydantic import BaseModel

from mmfeat.export.base import Exporter
from mmfeat.export.files import digest
from mmfeat.export.ids import bases
from mmfeat.export.manifest import USER_MAP, read_manifest
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.exports import ID_MAP

_SHOWN = 5


@dataclass(frozen=True)
class SharedIds:
    """The id maps of an export that is there already.

    Attributes:
        of: the export, for a person: ``games (lc-rec)``.
        items: its items in the order of its rows.
        users: its users in order; None if it has no interactions.
        record: what the manifest says of it.
    """

    of: str
    items: list[str]
    users: list[str] | None
    record: dict[str, Any]

    def arranged(self, ids: Sequence[str]) -> np.ndarray:
        """Places in ``ids`` of the map's items, in its order; UsageError where ``ids`` are others."""
        self._refuse_others(
            "items",
            self.items,
            ids,
            "Give both the same --items, --k-core and --missing (mean keeps items that drop leaves out), or"
            " make both again.",
        )
        place = {item_id: k for k, item_id in enumerate(ids)}
        return np.array([place[item_id] for item_id in self.items], np.int64)

    def same_users(self, user_ids: Sequence[str]) -> list[str] | None:
        """The map's users, where it has any; UsageError where they are not those of ``user_ids``."""
        if self.users is not None:
            hint = "Give both the same interactions, --items and --k-core, or make both again."
            self._refuse_others("users", self.users, user_ids, hint)
        return self.users

    def _refuse_others(self, what: str, theirs: Sequence[str], ours: Sequence[str], hint: str) -> None:
        there, here = set(theirs), set(ours)
        lost, new = [i for i in theirs if i not in here], [i for i in ours if i not in there]
        told = [f"{len(lost):,} {what} of {self.of} are not in this export: {_named(lost)}"] if lost else []
        if new:
            told.append(f"{len(new):,} {what} of this export are not in {self.of}: {_named(new)}")
        if told:
            raise UsageError(f"{'; '.join(told)}.", hint=hint)


def read_shared(folder: str | Path, exporter: Exporter, options: BaseModel) -> SharedIds:
    """The id maps of the export in ``folder``, for an export to ``exporter``.

    Raises:
        UsageError: it is no export, its maps are not as they were written, or its target begins to count
            elsewhere than this one, so that a number would mean two items.
    """
    path = Path(folder).expanduser()
    document = read_manifest(path)
    of = f"{path.name or path} ({document['format']})"
    counts = ("id_base", "items"), ("user_base", "users")
    for (key, what), own in zip(counts, bases(exporter, options), strict=True):
        other = document[key]
        shared = what == "items" or (USER_MAP in document["files"] and exporter.interactions != "unused")
        if shared and None not in (own, other) and own != other:
            raise UsageError(
                f"{of} counts {what} from {other} and {exporter.name} from {own}: the same number would mean"
                f" two {what}.",
                hint="Give each its own map (leave --ids-of out) and join them by their id maps.",
            )
    items = _ids(path, ID_MAP, document, "item_id")
    users = _ids(path, USER_MAP, document, "user_id") if USER_MAP in document["files"] else None
    record = {
        "name": document["name"],
        "format": document["format"],
        "id_map": document["files"][ID_MAP]["sha256"],
    }
    return SharedIds(of, items, users, record)


def _ids(folder: Path, name: str, document: dict[str, Any], column: str) -> list[str]:
    path = folder / name
    if not path.is_file() or digest(path) != document["files"][name]["sha256"]:
        raise UsageError(
            f"{path} is not as the export wrote it.",
            hint=f"`mmfeat export --verify {folder}` says what else changed. Make that export again.",
        )
    ids: list[str] = pq.read_table(path, columns=[column])[column].to_pylist()
    return ids


def _named(ids: Sequence[str]) -> str:
    return ", ".join(map(repr, ids[:_SHOWN])) + (", ..." if len(ids) > _SHOWN else "")
