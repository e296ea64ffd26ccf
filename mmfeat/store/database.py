"""The LanceDB database under a store: Lance tables ``NAME.lance`` in one folder or URI prefix.

Tables are opened with ``lance`` rather than through a ``lancedb`` connection: lancedb's
``merge_insert`` refuses null vectors, and importing it takes several times as long. Any LanceDB
client can open the folder all the same.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import lance
import pyarrow as pa

from mmfeat.schemas.errors import StoreError

# How long a replaced version of a table stays readable for those who opened it before.
KEEP_OLD_VERSIONS = timedelta(days=1)

_MANY_FRAGMENTS = 64

# Lance reads gigabytes ahead unless it is told otherwise.
READ_AHEAD_BYTES, _BATCH_ROWS = 32 << 20, 16_384

_SOURCE = re.compile(r",? *\S*/[\w./-]+\.rs:\d+:\d+")

# What an error's text holds, to what it means. The whole text is the StoreError's cause.
_IN_WORDS = {
    "No space left on device": "the disk is full",
    "Disk quota exceeded": "the disk quota is used up",
    "File too large": "a file would be larger than this process may write",
    "Read-only file system": "the file system is read-only",
    "Permission denied": "permission denied",
    "Slow Down": "the object store is too busy (503)",
    "503 Service Unavailable": "the object store is too busy (503)",
    "error sending request": "the object store does not answer",
    "InvalidAccessKeyId": "the object store does not know the access key",
    "SignatureDoesNotMatch": "the object store refuses the secret key",
    "AccessDenied": "the object store denies access",
    "NoSuchBucket": "there is no such bucket",
}

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# What keeps a file from being read that may be as it was written.
_BUSY = (
    *(errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR),
    *(errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH),
    *(errno.ENETRESET, errno.ECONNABORTED, errno.ECONNRESET, errno.ECONNREFUSED, errno.EHOSTDOWN),
    *(errno.EHOSTUNREACH, errno.ENOTCONN, errno.EPIPE),
)
_CODE = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]|\[errno (\d+)\]")

# The same of an object store, as Lance and Arrow write it.
_BUSY_WORDS = re.compile(
    r"Slow ?Down|SLOW_DOWN|Service ?Unavailable|SERVICE_UNAVAILABLE|Too Many Requests|InternalError"
    r"|INTERNAL_FAILURE|NETWORK_CONNECTION|REQUEST_TIMEOUT|RequestTimeout|operation timed out|deadline"
    r"|error sending request|connection (?:closed|reset|refused)|dns error"
    r"|(?:status code:?|status|HTTP) (?:401|403|408|429|5\d\d)\b|Unauthorized|Forbidden|ExpiredToken"
    r"|Access ?Denied|ACCESS_DENIED|InvalidAccessKeyId|INVALID_ACCESS_KEY_ID|SignatureDoesNotMatch"
    r"|SIGNATURE_DOES_NOT_MATCH|NoSuchBucket|NO_SUCH_BUCKET|Permission denied|Input/output error"
    r"|Too many open files"
)

# The process that first used Lance here, or in the process that this one was forked from.
_used_in: int | None = None

# A version of a table, or of a branch of it.
Pin = int | tuple[str, int]


def was_forked() -> bool:
    """Whether this process was forked from one that had used Lance, none of whose threads live here."""
    return _used_in not in (None, os.getpid())


class Database:
    """Opens, creates and writes tables, and keeps each open at the version it was first read at.

    Args:
        uri: absolute local folder, or an object-store URI. Credentials and endpoints come from the
            environment, as Lance reads them (``AWS_*``, ``GOOGLE_*``, ``AZURE_*``).
        pins: table to the Lance version at which it is read; there are no other tables then. The
            latest version of every table when None.
    """

    def __init__(self, uri: str, pins: Mapping[str, Pin] | None = None) -> None:
        global _used_in
        _used_in = _used_in or os.getpid()
        self.uri = uri
        self._pins = pins
        self._open: dict[str, lance.LanceDataset] = {}
        self._small: dict[str, tuple[int, pa.Table]] = {}

    def __reduce__(self) -> tuple[object, ...]:
        return Database, (self.uri, self._pins)

    @property
    def folder(self) -> Path | None:
        """The local folder, or None on an object store."""
        return None if "://" in self.uri else Path(self.uri)

    def table(self, name: str) -> lance.LanceDataset | None:
        """The table, or None if there is none."""
        if was_forked():
            raise StoreError(
                f"{self.uri} cannot be used here: this process was forked from one that had used Lance.",
                hint="Start it with 'spawn', fork before a store is opened, or ask the FeatureStore that"
                " mmfeat.open() gives: its own methods answer here.",
            )
        if self._pins is not None and name not in self._pins:
            return None
        if name not in self._open:
            with self.errors(f"read {name}"):
                try:
                    self._open[name] = self._opened(name)
                except ValueError as error:
                    if "was not found" not in str(error):
                        raise
                    return None
        return self._open[name]

    def read(self, name: str, schema: pa.Schema) -> pa.Table:
        """All rows of a table, none if there is no table."""
        table = self.table(name)
        if table is None:
            return schema.empty_table()
        with self.errors(f"read {name}"):
            return table.to_table(columns=schema.names).replace_schema_metadata(None)

    def batches(self, name: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows of a table, in their order, a bounded number at a time."""
        table = self.table(name)
        if table is not None:
            with self.errors(f"read {name}"):
                yield from table.to_batches(
                    columns=list(columns), batch_size=_BATCH_ROWS, io_buffer_size=READ_AHEAD_BYTES
                )

    def read_small(self, name: str, schema: pa.Schema) -> pa.Table:
        """As :meth:`read`, kept in memory until the table changes: for what every lookup needs."""
        table = self.table(name)
        if table is None:
            return schema.empty_table()
        at, rows = self._small.get(name, (None, None))
        if at != table.version:
            at, rows = table.version, self.read(name, schema)
            self._small[name] = (at, rows)
        return rows

    def create(self, name: str, rows: pa.Table) -> lance.LanceDataset:
        """The table; made with ``rows`` in it if there is none yet.

        Of several processes that create it at once exactly one does, the others get that one's.
        (``lance.write_dataset(mode="create")`` lets a later one empty the table of an earlier one.)
        """
        table = self.table(name)
        if table is not None:
            return table
        location = self._location(name)
        with self.errors(f"create {name}"):
            fragments = [lance.LanceFragment.create(location, rows)] if len(rows) else []
            first = lance.LanceOperation.Overwrite(rows.schema, fragments)
            try:
                # Without retries the commit only succeeds as the table's very first.
                table = lance.LanceDataset.commit(location, first, max_retries=0)
            except OSError:
                table = self.table(name)
                if table is None:
                    raise
            self._open[name] = table
        return table

    def append(self, name: str, rows: pa.Table) -> None:
        """Add rows in one transaction; the table is made if there is none."""
        table = self.create(name, rows.schema.empty_table())
        with self.errors(f"write {name}"):
            table.insert(rows, mode="append")

    def upsert(self, name: str, rows: pa.Table, keys: Sequence[str]) -> None:
        """Replace the rows with equal ``keys``, add the others: one transaction."""
        table = self.create(name, rows.schema.empty_table())
        with self.errors(f"write {name}"):
            # A write that was interrupted may be in the store and not in this object. Lance would not find
            # its rows, and add them once more.
            table.checkout_latest()  # type: ignore[no-untyped-call]
            table.merge_insert(list(keys)).when_matched_update_all().when_not_matched_insert_all().execute(
                rows
            )

    def add_column(self, name: str, field: pa.Field) -> None:
        """Add a column, null in every row, to a table that is there and lacks it: one transaction.

        It writes no data, whatever the number of rows.
        """
        table = self.table(name)
        if table is None or field.name in table.schema.names:
            return
        with self.errors(f"write {name}"):
            table.checkout_latest()  # type: ignore[no-untyped-call]
            if field.name not in table.schema.names:
                table.add_columns(field)

    def overwrite(self, name: str, rows: pa.Table) -> None:
        """Put ``rows`` (and their schema's metadata) in the place of all rows: one transaction."""
        table = self.create(name, rows.schema.empty_table())
        with self.errors(f"write {name}"):
            self._open[name] = lance.write_dataset(rows, table, mode="overwrite")
            clean_up(self._open[name])

    def delete(self, name: str, where: str) -> None:
        """Remove the rows for which a Lance filter holds: one transaction."""
        table = self.table(name)
        if table is not None:
            with self.errors(f"write {name}"):
                table.delete(where)

    def tidy(self, name: str) -> None:
        """Merge the fragments of a small table once it has many."""
        table = self.table(name)
        if table is not None and len(table.get_fragments()) > _MANY_FRAGMENTS:
            with self.errors(f"compact {name}"):
                table.optimize.compact_files()
                clean_up(table)

    def changed(self) -> bool:
        """Whether a table has a later version than the one it is open at."""
        with self.errors("look for changes"):
            return any(table.latest_version != table.version for table in list(self._open.values()))

    def refresh(self) -> None:
        """Let go of all open tables: the next read of each sees its latest version."""
        self._open.clear()
        self._small.clear()

    def _opened(self, name: str) -> lance.LanceDataset:
        pin = None if self._pins is None else self._pins[name]
        if isinstance(pin, tuple):
            return lance.dataset(self._location(name)).checkout_version(pin)
        return lance.dataset(self._location(name), version=pin)

    def _location(self, name: str) -> str:
        return f"{self.uri}/{name}.lance"

    @contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Turn what Lance raises into a StoreError that says what could not be done."""
        # Lance raises these for a full disk, missing rights, a lost connection or a damaged file.
        try:
            with panics():
                yield
        except (OSError, RuntimeError, ValueError) as error:
            raise StoreError(
                f"Could not {what} in {self.uri}: {said(error)}",
                hint="Check free space, access rights and the connection; what was committed before is kept.",
            ) from error


@contextmanager
def panics() -> Iterator[None]:
    """Turn a panic of Lance's Rust code into a RuntimeError.

    A damaged file can cause one, and it is no ``Exception`` and can't be imported.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise RuntimeError(f"a damaged file ({error})") from error
        raise


def is_busy(error: BaseException) -> bool:
    """Whether an error of Lance, Arrow or the system is of the way to a file and not of the file."""
    return _code_of(error) in _BUSY or bool(_BUSY_WORDS.search(str(error)))


def is_passing(error: StoreError) -> bool:
    """Whether what kept the store from being read or written says nothing of what is there.

    It is no damage: the same may succeed a moment later, or with other rights.
    """
    return error.__cause__ is not None and is_busy(error.__cause__)


def is_full(error: StoreError) -> bool:
    """Whether it was for want of room that something was not written."""
    cause = error.__cause__
    if cause is None:
        return False
    return _code_of(cause) in _FULL or any(os.strerror(number) in str(cause) for number in _FULL)


def _code_of(error: BaseException) -> int:
    """The system's error number, 0 if it is not known."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = _CODE.search(str(error))
    return int(next(filter(None, found.groups()))) if found else 0


def said(error: BaseException) -> str:
    """What an error of Lance says: in plain words where they are known, else in its first line."""
    text = str(error)
    for sign, words in _IN_WORDS.items():
        if sign in text:
            return words
    return _SOURCE.sub("", str(error).splitlines()[0]).rstrip(" ,")


def clean_up(table: lance.LanceDataset) -> int:
    """Remove versions replaced more than ``KEEP_OLD_VERSIONS`` ago, except those that a tag names.

    Returns:
        Bytes of the files that went.
    """
    done = table.cleanup_old_versions(older_than=KEEP_OLD_VERSIONS, error_if_tagged_old_versions=False)
    return int(done.bytes_removed)


def quoted(text: str) -> str:
    """A string literal for Lance's filters; a backslash means itself in them."""
    return "'" + text.replace("'", "''") + "'"
