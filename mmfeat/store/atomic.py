"""Whether an object store keeps a second writer from a commit, as everything that is written relies on."""

from __future__ import annotations

import uuid

import lance
import pyarrow as pa
from lance.commit import CommitConflictError

from mmfeat.schemas.errors import StoreError
from mmfeat.store import folders
from mmfeat.store.database import Database

_EMPTY = pa.schema([pa.field("nothing", pa.bool_())])


def refuse_without_atomic_commits(database: Database) -> None:
    """StoreError where a second writer can commit a version of a table that is there already.

    Lance commits by put-if-absent, and a server that is like S3 may ignore the condition without a
    word. Nothing can be asked about that, so it is tried: the second version of a table is committed
    twice, one after the other, by Lance itself. The second time must be refused.
    """
    name = f"_probe_{uuid.uuid4().hex}.lance"
    with database.errors("try whether commits exclude each other"):
        _commit(database, name, 1)
        _commit(database, name, 2)
        overwritten = _commit(database, name, 2)
    folders.remove(database, name)
    if overwritten:
        raise StoreError(
            f"The object store of {database.uri} let the same version of a table be written twice: "
            "writers there would overwrite each other's rows.",
            hint="It must support conditional writes (PUT with If-None-Match: *), as S3, GCS, Azure, "
            "MinIO and Ceph of today do. Upgrade it, or put the store elsewhere.",
        )


def _commit(database: Database, name: str, version: int) -> bool:
    """Write an empty table's version; False if the object store says that it is there already."""
    empty = lance.LanceOperation.Overwrite(_EMPTY, [])
    try:
        # Without retries an overwrite is put at this version or not at all, whatever else there is: Lance
        # looks at no later version before it writes.
        lance.LanceDataset.commit(f"{database.uri}/{name}", empty, read_version=version - 1, max_retries=0)
    except CommitConflictError:
        return False
    return True
