"""One writer per store, on an object store: a record that expires unless its holder renews it.

The record is the one row of the table ``_lease``. It is taken and renewed by a conditional update,
which Lance commits by put-if-absent: of several writers exactly one succeeds, on every object store
that Lance commits to safely (S3, GCS, Azure). One that does not is refused (:mod:`mmfeat.store.atomic`).

What this can't give: a writer that is stopped for longer than ``EXPIRES_SECONDS`` just between its
check and its commit (a paused virtual machine) may still commit one group after another writer took
over. That group is whole, but items that both computed may then be there twice. Hosts' clocks must
agree within half that time.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import pyarrow as pa

from mmfeat.schemas.errors import StoreError
from mmfeat.store.atomic import refuse_without_atomic_commits
from mmfeat.store.database import Database, clean_up, quoted
from mmfeat.store.lease import POLL_SECONDS, Patience, describe_holder, owner_of

EXPIRES_SECONDS = 120.0

_TABLE = "_lease"
_SCHEMA = pa.schema(
    [
        pa.field("token", pa.string(), nullable=False),
        pa.field("holder", pa.string(), nullable=False),
        pa.field("expires", pa.float64(), nullable=False),  # seconds since 1970-01-01 UTC
    ]
)
_FREE = pa.Table.from_pylist([{"token": "", "holder": "", "expires": 0.0}], schema=_SCHEMA)


class RecordLease:
    """The lease of a store on an object store; renewed by a thread while it is held."""

    def __init__(
        self,
        uri: str,
        owner: str,
        wait_seconds: float,
        waiting: Callable[[str], None] = lambda message: None,
        expires_seconds: float = EXPIRES_SECONDS,
    ) -> None:
        self._uri = uri
        self._database = Database(uri)
        self._seconds = expires_seconds
        self._token = uuid.uuid4().hex
        # Each time: a store may have been restored to a server that can do less.
        refuse_without_atomic_commits(self._database)
        self._database.create(_TABLE, _FREE)
        self._take(describe_holder(owner), Patience(wait_seconds, waiting))
        self._over = threading.Event()
        self._beat = threading.Thread(target=self._renew_until_over, name="store-lease", daemon=True)
        self._beat.start()

    def check(self) -> None:
        """StoreError when the record expired or another writer took it."""
        if time.monotonic() >= self._safe_until:
            raise StoreError(
                f"This process no longer holds the right to write to {self._uri}: "
                f"it could not renew it for {self._seconds / 2:.0f} seconds.",
                hint="What was committed before is kept. Run again.",
            )

    def release(self) -> None:
        """Give the lease back."""
        self._over.set()
        self._beat.join()
        self._update({"expires": "0"}, self._mine)
        table = self._database.table(_TABLE)
        assert table is not None
        clean_up(table)

    @property
    def _mine(self) -> str:
        return f"token = '{self._token}'"

    def _take(self, holder: str, patience: Patience) -> None:
        identity = {"token": f"'{self._token}'", "holder": quoted(holder)}
        while not self._hold(identity, f"expires < {_now()}"):
            self._database.refresh()
            patience.keep(self._uri, self._database.read(_TABLE, _SCHEMA)["holder"][0].as_py())
            time.sleep(max(POLL_SECONDS, self._seconds / 60))

    def _renew_until_over(self) -> None:
        while not self._over.wait(self._seconds / 8):
            try:
                renewed = self._hold({}, self._mine)
            except StoreError:
                continue  # no connection just now; check() refuses once that lasts too long
            if not renewed:
                self._safe_until = 0.0
                return

    def _hold(self, identity: dict[str, str], where: str) -> bool:
        """Set the record to expire later, if ``where`` holds."""
        began = time.monotonic()
        if not self._update({"expires": str(_now() + self._seconds), **identity}, where):
            return False
        # Half the time: the other half is for clocks that differ and for a commit under way.
        self._safe_until = began + self._seconds / 2
        return True

    def _update(self, values: dict[str, str], where: str) -> bool:
        self._database.refresh()
        with self._database.errors("renew the lease"):
            table = self._database.table(_TABLE)
            assert table is not None
            return int(table.update(values, where)["num_rows_updated"]) == 1


def record_owner(uri: str) -> str | None:
    """What the lease of a store on an object store is held for; None if nobody holds it."""
    rows = Database(uri).read(_TABLE, _SCHEMA).to_pylist()
    return owner_of(rows[0]["holder"]) if rows and rows[0]["expires"] >= _now() else None


def _now() -> float:
    return datetime.now(UTC).timestamp()
