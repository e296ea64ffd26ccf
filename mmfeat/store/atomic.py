"""Whether an object store lets one of several writers commit, as everything that is written relies on."""

from __future__ import annotations

import threading
import uuid

import lance
import pyarrow as pa

from mmfeat.schemas.errors import StoreError
from mmfeat.store import folders
from mmfeat.store.database import Database, panics

# Of two that race a slow store may keep one back by chance; of four none was ever kept back by all.
_WRITERS = 4
_EMPTY = pa.schema([pa.field("nothing", pa.bool_())])


def refuse_without_atomic_commits(database: Database) -> None:
    """StoreError where several writers can commit the same version of a table.

    Lance commits by put-if-absent, and a server that is like S3 may ignore the condition without a
    word. Nothing can be asked about that, so it is tried: several threads create one table at once, of
    which one must succeed. A store that does not answer is no matter of this check.
    """
    name = f"_probe_{uuid.uuid4().hex}.lance"
    together = threading.Barrier(_WRITERS)
    created: list[lance.LanceDataset] = []

    def create() -> None:
        together.wait()
        try:
            with panics():
                first = lance.LanceOperation.Overwrite(_EMPTY, [])
                created.append(lance.LanceDataset.commit(f"{database.uri}/{name}", first, max_retries=0))
        except (OSError, RuntimeError, ValueError):
            return  # another one was first, or the store does not answer: whoever writes next says so

    threads = [threading.Thread(target=create, name="store-probe") for _ in range(_WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if created:
        folders.remove(database, name)
    if len(created) > 1:
        raise StoreError(
            f"The object store of {database.uri} let {len(created)} of {_WRITERS} writers make the same "
            "table: writers there would overwrite each other's rows.",
            hint="It must support conditional writes (PUT with If-None-Match: *), as S3, GCS, Azure, "
            "MinIO and Ceph of today do. Upgrade it, or put the store elsewhere.",
        )
