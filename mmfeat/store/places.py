"""Where a store is, and what may be made or read there."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from mmfeat.schemas.errors import StoreError
from mmfeat.schemas.objectstore import OBJECT_STORES
from mmfeat.store import folders
from mmfeat.store.database import Database
from mmfeat.store.lease import LOCK_FILE
from mmfeat.store.schema import FORMAT, STORE_SCHEMA

HEADER = "_store"

# What no place holds where no store was.
_WITH_HEADER = ("_chain", "_versions.lance")


def absolute(uri: str) -> str:
    """A local path as an absolute one, a URI without the slash at its end.

    Raises:
        StoreError: a URI of a place where no store can be.
    """
    if uri.startswith("file://"):
        uri = uri.removeprefix("file://")
    scheme, separator, _ = uri.partition("://")
    if not separator:
        return str(Path(uri).expanduser().absolute())
    if scheme not in OBJECT_STORES:
        kinds = ", ".join(f"{kind}://BUCKET/PREFIX" for kind in OBJECT_STORES)
        raise StoreError(f"A store cannot be at {scheme}://.", hint=f"Give a folder or one of {kinds}.")
    return uri.rstrip("/")


def no_store(uri: str) -> StoreError:
    """The error that tells what was looked for."""
    return StoreError(
        f"There is no store at {uri} (looked for {HEADER}.lance in it).",
        hint="Check the path, or make one with `mmfeat extract --dataset NAME --store URI`.",
    )


def check_folder(folder: Path, create: bool) -> None:
    """StoreError unless the folder is there, or with ``create`` could be made."""
    try:
        if create:
            folder.mkdir(parents=True, exist_ok=True)
        elif not folder.exists():
            raise no_store(str(folder))
    except OSError as error:
        raise StoreError(f"Cannot make the folder {folder}: {error.strerror}.") from None
    if not folder.is_dir():
        raise StoreError(f"{folder} is a file; a store is a folder.")


def refuse_lost_header(database: Database) -> None:
    """StoreError where there is all of a store but what says that it is one."""
    there = [name for name in folders.names(database) if name in _WITH_HEADER]
    if there:
        raise StoreError(
            f"{database.uri} is a store that has lost its header: {HEADER}.lance is gone or empty, and "
            f"{there[0]} is there.",
            hint=f"Restore {HEADER}.lance from a backup, or the whole store. Nothing was written.",
        )


def refuse_foreign_files(database: Database) -> None:
    """Never turn a folder of other files into a store. A killed first creation is not foreign."""
    if database.folder is None:
        return
    foreign = sorted({p.name for p in database.folder.iterdir()} - {f"{HEADER}.lance", LOCK_FILE})
    if foreign:
        raise StoreError(
            f"{database.uri} is not a store and not empty: it holds {foreign[0]!r}"
            + (f" and {len(foreign) - 1} more." if len(foreign) > 1 else "."),
            hint="Give the path of a store, or of a new or empty folder.",
        )


def check_format(database: Database) -> None:
    """StoreError for a store that a newer mmfeat wrote."""
    newest = _format_of(database)
    if newest > FORMAT:
        raise StoreError(
            f"The store {database.uri} has format {newest}; this mmfeat reads up to {FORMAT}.",
            hint="Upgrade mmfeat: pip install --upgrade mmfeat",
        )


def raise_format(database: Database) -> None:
    """Let a store of an older format have this one before it is written to; under the lease.

    An older mmfeat refuses it from then on, instead of misreading what is written.

    Raises:
        StoreError: a newer mmfeat has written to it, since it was opened perhaps.
    """
    check_format(database)
    if _format_of(database) < FORMAT:
        created = database.read(HEADER, STORE_SCHEMA)["created"][0]
        row = {"format": FORMAT, "created": created.as_py()}
        header = database.table(HEADER)
        schema = STORE_SCHEMA.with_metadata(None if header is None else header.schema.metadata)
        database.overwrite(HEADER, pa.Table.from_pylist([row], schema=schema))


def _format_of(database: Database) -> int:
    return max(database.read(HEADER, STORE_SCHEMA)["format"].to_pylist(), default=FORMAT)
