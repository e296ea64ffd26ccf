"""Reading media, whole and once: local files, members of zip archives, cells of tables, and URLs.

A file's *stamp* says cheaply whether it may have changed since it was last read: ``size:mtime_ns``
of a local file, ``size:crc32=...`` of an archive member (from the archive's directory, so that
re-packing an archive changes no stamp), ``cell=ROW:size:mtime_ns`` of a cell (with its table's size and
time) and ``location:...`` of a URL, whose address stands for it.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
from functools import lru_cache
from typing import TYPE_CHECKING

from mmfeat.extract.media.limits import check_bytes
from mmfeat.extract.media.remote import is_remote, read_remote
from mmfeat.schemas.catalog import CellPlace, split_cell_location, split_zip_location
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.media import FetchOptions, MediaBytes

if TYPE_CHECKING:
    from mmfeat.extract.media.cells import ArrowColumn, ParquetColumn

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_media(location: str, max_bytes: int, fetch: FetchOptions = FetchOptions()) -> MediaBytes:  # noqa: B008
    """Read one file's bytes, in one pass and never more than ``max_bytes``.

    Args:
        location: an absolute path, a URL, ``zip://member::/abs/archive.zip``,
            ``parquet://row/column::/abs/table.parquet``, or the same with ``arrow``.
        fetch: how URLs are fetched.

    Raises:
        ItemError: stage ``read``: nothing there, not a regular file (refused before it is opened),
            not permitted, empty, over the limit, damaged, or changed while it was read.
    """
    if is_remote(location):
        data, stamp = read_remote(location, max_bytes, fetch), location_stamp(location)
    elif member := split_zip_location(location):
        data, stamp = _read_member(*member, max_bytes)
    elif cell := split_cell_location(location):
        data, stamp = _read_cell(cell, max_bytes)
    else:
        data, stamp = _read_file(location, max_bytes)
    if not data:
        raise ItemError("read", "file is empty")
    return MediaBytes(data, hashlib.sha256(data).hexdigest(), stamp)


def stamp_of(location: str) -> str | None:
    """The file's stamp without reading it; None for a URL and for what is not a readable file."""
    if is_remote(location):
        return None
    try:
        if member := split_zip_location(location):
            return _member_stamp(_member(*member)[1])
        if cell := split_cell_location(location):
            return _cell_stamp(cell, _table(cell.table))
        found = os.stat(location)  # noqa: PTH116 - quicker than Path.stat
    except (OSError, ValueError, ItemError):
        return None
    return _file_stamp(found) if stat.S_ISREG(found.st_mode) else None


def size_of_stamp(stamp: str) -> int | None:
    """The file size in bytes that a stamp names; None for that of a URL or a cell."""
    size = stamp.partition(":")[0]
    return int(size) if size.isdecimal() else None


def location_stamp(location: str) -> str:
    """The stamp of a URL: learning more would cost a request."""
    return f"location:{location}"


def _read_file(path: str, max_bytes: int) -> tuple[bytes, str]:
    try:
        _check_regular(os.stat(path))  # noqa: PTH116
        # Should a pipe have taken the file's place since, opening it must not wait for a writer.
        with io.FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)) as file:
            found = os.fstat(file.fileno())
            _check_regular(found)
            check_bytes("read", found.st_size, max_bytes)
            data = file.read(found.st_size + 1)
            if len(data) < found.st_size:  # a network file system may return less at a time
                data += file.readall()
    except FileNotFoundError:
        raise ItemError("read", "there is no such file") from None
    except PermissionError:
        raise ItemError("read", "no permission to read the file") from None
    except (OSError, ValueError) as error:
        raise ItemError("read", f"cannot read the file: {_plain(error)}") from None
    if len(data) != found.st_size:
        raise ItemError("read", "file changed while it was read; run again when it is complete")
    return data, _file_stamp(found)


def _check_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "not a regular file")
        raise ItemError("read", f"this is {kind}, not a file")


def _file_stamp(found: os.stat_result) -> str:
    return f"{found.st_size}:{found.st_mtime_ns}"


def _read_member(archive: str, member: str, max_bytes: int) -> tuple[bytes, str]:
    opened, info = _member(archive, member)
    check_bytes("read", info.file_size, max_bytes)
    if info.flag_bits & 1:
        raise ItemError("read", "archive member needs a password")
    try:
        return opened.read(info), _member_stamp(info)
    except NotImplementedError as error:
        raise ItemError("read", f"cannot unpack the archive member: {_plain(error)}") from None
    except Exception as error:  # zlib, bz2 and lzma each raise their own error on damaged data
        raise ItemError("read", f"archive member is damaged: {_plain(error)}") from None


def _member(archive: str, member: str) -> tuple[zipfile.ZipFile, zipfile.ZipInfo]:
    try:
        found = os.stat(archive)  # noqa: PTH116
        _check_regular(found)
        opened = _open_archive(archive, _file_stamp(found), found.st_ino)
        info = opened.getinfo(member)
    except FileNotFoundError:
        raise ItemError("read", f"there is no archive {archive}") from None
    except KeyError:
        raise ItemError("read", f"there is no such member in {archive}") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ItemError("read", f"cannot read the archive {archive}: {_plain(error)}") from None
    if info.is_dir():
        raise ItemError("read", "this is a folder, not a file")
    return opened, info


@lru_cache(maxsize=8)
def _open_archive(archive: str, stamp: str, inode: int) -> zipfile.ZipFile:
    """The archive with its directory, once per process and anew when the file has changed."""
    return zipfile.ZipFile(archive)


def _member_stamp(info: zipfile.ZipInfo) -> str:
    return f"{info.file_size}:crc32={info.CRC:08x}"


def _read_cell(cell: CellPlace, max_bytes: int) -> tuple[bytes, str]:
    found = _table(cell.table)
    try:
        column = _open_column(cell.table, cell.column, cell.is_arrow, _file_stamp(found), found.st_ino)
        data = column.file(cell.row, cell.at)
    except (OSError, ValueError, LookupError) as error:  # pyarrow's errors are ValueErrors or LookupErrors
        raise ItemError("read", f"cannot read the cell of {cell.table}: {_plain(error)}") from None
    if data is None:
        raise ItemError("read", f"there is no file in this cell of {cell.table}")
    check_bytes("read", len(data), max_bytes)
    return data, _cell_stamp(cell, found)


def _table(path: str) -> os.stat_result:
    try:
        found = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        raise ItemError("read", f"there is no table {path}") from None
    except (OSError, ValueError) as error:
        raise ItemError("read", f"cannot read the table {path}: {_plain(error)}") from None
    _check_regular(found)
    return found


@lru_cache(maxsize=4)
def _open_column(
    table: str, column: str, is_arrow: bool, stamp: str, inode: int
) -> ParquetColumn | ArrowColumn:
    """A column of a table, once per process and anew when the file has changed."""
    from mmfeat.extract.media.cells import ArrowColumn, ParquetColumn

    return (ArrowColumn if is_arrow else ParquetColumn)(table, column)


def _cell_stamp(cell: CellPlace, found: os.stat_result) -> str:
    place = f"{cell.row}" if cell.at is None else f"{cell.row}.{cell.at}"
    return f"cell={place}:{_file_stamp(found)}"


def _plain(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text or type(error).__name__
