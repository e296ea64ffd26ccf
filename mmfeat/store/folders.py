"""The folders and files of a database beneath its tables: what they take, and their removal."""

from __future__ import annotations

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
    """Bytes of all files in a folder; 0 where there is none."""
    with database.errors(f"look into {name}"):
        system, path = _place(database, name)
        found = system.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=True))
    return sum(info.size or 0 for info in found)


def remove(database: Database, name: str) -> None:
    """Remove a folder and all in it; does nothing where there is none."""
    with database.errors(f"remove {name}"):
        system, path = _place(database, name)
        if system.get_file_info(path).type != fs.FileType.NotFound:
            system.delete_dir(path)


def _place(database: Database, name: str) -> tuple[fs.FileSystem, str]:
    if database.folder is not None:
        return fs.LocalFileSystem(), str(database.folder / name)
    return object_place(f"{database.uri}/{name}".rstrip("/"))
