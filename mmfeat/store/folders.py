"""The folders and files of a database beneath its tables: what they hold and take, and their removal."""

from __future__ import annotations

import os
from pathlib import Path

from pyarrow import fs

from mmfeat.schemas.objectstore import object_place
from mmfeat.store.database import Database


def names(database: Database, within: str = "") -> list[str]:
    """The names of all folders in the database, or in one folder of it; sorted."""
    with database.errors("list the folders"):
        system, path = _place(database, within)
        found = system.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return sorted(info.base_name for info in found if info.type == fs.FileType.Directory)


def size(database: Database, name: str) -> int:
    """Bytes of all files in a folder; 0 if there is none."""
    with database.errors(f"look into {name}"):
        system, path = _place(database, name)
        found = system.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=True))
    return sum(info.size or 0 for info in found)


def remove(database: Database, name: str) -> None:
    """Remove a folder and all in it; does nothing if there is none."""
    with database.errors(f"remove {name}"):
        system, path = _place(database, name)
        if system.get_file_info(path).type != fs.FileType.NotFound:
            system.delete_dir(path)


def read(database: Database, name: str) -> bytes | None:
    """A small file's content; None if there is no such file."""
    with database.errors(f"read {name}"):
        system, path = _place(database, name)
        try:
            with system.open_input_stream(path) as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None


def write(database: Database, name: str, content: bytes) -> None:
    """Put a small file in the place of the one of that name: the one or the other is there at any moment.

    One process may write it at a time.
    """
    with database.errors(f"write {name}"):
        system, path = _place(database, name)
        if database.folder is None:
            with system.open_output_stream(path) as target:
                target.write(content)
        else:
            _replace(Path(path), content)


def _replace(path: Path, content: bytes) -> None:
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _place(database: Database, name: str) -> tuple[fs.FileSystem, str]:
    if database.folder is not None:
        return fs.LocalFileSystem(), str(database.folder / name)
    return object_place(f"{database.uri}/{name}".rstrip("/"))
