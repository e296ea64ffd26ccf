"""What the files of a local store's tables were when they were written, to find bits that flipped since.

Lance checks no sums, and a number that flipped is a number still. An object store checks its own files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from mmfeat.store.database import Database, quoted
from mmfeat.store.schema import FILES_SCHEMA

TABLE = "_files"
_KINDS = ("data", "_indices", "_versions", "_deletions")


def record(database: Database, names: Iterable[str]) -> None:
    """Note size and SHA-256 of the files of tables; those that are known already are not read again."""
    if database.folder is None:
        return
    known, rows = _known(database), []
    for name in names:
        table = database.table(name)
        if table is None:
            continue
        folder = database.folder / f"{name}.lance"
        files, before = {}, known.get(name, (0, {}))[1]
        with database.errors(f"read the files of {name}"):
            for path in sorted(p for kind in _KINDS for p in folder.rglob(f"{kind}/**/*") if p.is_file()):
                place, size = path.relative_to(folder).as_posix(), path.stat().st_size
                same = before.get(place)
                # Lance writes a file once and never again; only this hint has one name for ever.
                if path.name != "latest_version_hint.json":
                    files[place] = same if same and same[0] == size else [size, _digest(path)]
        if files != before:
            rows.append({"table": name, "version": table.latest_version, "files": json.dumps(files)})
    if rows:
        database.upsert(TABLE, pa.Table.from_pylist(rows, schema=FILES_SCHEMA), ["table"])
        database.tidy(TABLE)


def changed(database: Database, name: str) -> list[str]:
    """Files of a table that are not what they were; those that are gone are not among them."""
    if database.folder is None:
        return []
    folder = database.folder / f"{name}.lance"
    found = []
    for place, (size, digest) in _known(database).get(name, (0, {}))[1].items():
        path = folder / place
        if path.exists() and (path.stat().st_size != size or _digest(path) != digest):
            found.append(place)
    return found


def last_version(database: Database, name: str) -> int:
    """The latest version that a table is known to have had; 0 if none is."""
    return _known(database).get(name, (0, {}))[0]


def forget(database: Database, name: str) -> None:
    """Know nothing of a table any more."""
    database.delete(TABLE, f"table = {quoted(name)}")


def _known(database: Database) -> dict[str, tuple[int, dict[str, list[int | str]]]]:
    rows = database.read_small(TABLE, FILES_SCHEMA).to_pylist()
    return {row["table"]: (row["version"], json.loads(row["files"])) for row in rows}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
