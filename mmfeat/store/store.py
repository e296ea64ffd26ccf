"""The store: everything a run writes and everybody else reads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from mmfeat.schemas.errors import StoreError, UsageError
from mmfeat.schemas.featureset import FeatureSet
from mmfeat.schemas.objectstore import bucket_of
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.schemas.validation import listed
from mmfeat.store import (
    canaries,
    catalog,
    chain,
    codebooks,
    collisions,
    digests,
    evaluations,
    lists,
    maintenance,
    rows,
    versions,
)
from mmfeat.store.belonging import Owned, Place
from mmfeat.store.catalog import Catalog
from mmfeat.store.database import Database
from mmfeat.store.exported import Exports
from mmfeat.store.forget import Forgetting
from mmfeat.store.garbage import Retaining
from mmfeat.store.indexing import TARGET_RECALL, build_vector_index
from mmfeat.store.lease import FolderLease, Lease, folder_owner
from mmfeat.store.lease_record import RecordLease, record_owner
from mmfeat.store.logs import Logs
from mmfeat.store.lookup import lookup
from mmfeat.store.maxsim import Chosen
from mmfeat.store.places import (
    HEADER,
    absolute,
    check_folder,
    check_format,
    no_store,
    raise_format,
    refuse_foreign_files,
    refuse_lost_header,
)
from mmfeat.store.promotion import Promotion
from mmfeat.store.prune import Pruning
from mmfeat.store.schema import FORMAT, STORE_SCHEMA
from mmfeat.store.search import Hit, refuse_unsearchable, search, search_tokens
from mmfeat.store.snapshots import Snapshot, Snapshots, pinned
from mmfeat.store.vector_index import VectorIndex, index_of
from mmfeat.store.versions import FeatureVersion, Versions


class Store:
    """A LanceDB database of feature versions, one table each, and a catalog of items.

    Reading needs no lease and never waits for a writer. Each table is read at the version it had
    when it was first looked at through this object, plus what this object wrote; :meth:`refresh`
    moves on to the latest. Old versions stay readable for a day, and as long as there is a snapshot
    of them (:meth:`at`). Writing needs the :meth:`lease`.

    Attributes:
        snapshot: name of the snapshot that is read, None for the store as it goes on.
        exports: which exports were made of it. Recording one needs no lease.
        logs: what runs said. Adding to one needs no lease.
        forgetting: which items were forgotten, and the removal of them.
        promotion: which version of a feature is current, which were, and the change of that.
        retaining: which versions and snapshots may go, and the removal of them.
        pruning: which items are gone from their datasets, and the removal of their rows.
    """

    def __init__(
        self, database: Database, snapshots: Snapshots | None = None, snapshot: str | None = None
    ) -> None:
        self._database = database
        self._versions = Versions(database)
        self._catalog = Catalog(database)
        self.promotion = Promotion(database, self._versions, self._check_lease)
        self._snapshots = snapshots or Snapshots(database)
        # What holds for a snapshot too, and is no part of it.
        self.exports = Exports(self._snapshots.database)
        self.logs = Logs(self._snapshots.database)
        self.forgetting = Forgetting(self._snapshots, self._versions, self._check_lease)
        owned = (self._snapshots, self._versions, self.promotion)
        self.retaining = Retaining(*owned, self._tables, self._check_lease)
        self.pruning = Pruning(database, self._catalog, self._versions, self._check_lease)
        self.snapshot = snapshot
        self._lease: Lease | None = None
        self._names_checked = False

    @classmethod
    def open(cls, uri: str, create: bool = False) -> Store:
        """Open a store, or with ``create`` make one if there is none.

        Args:
            uri: local folder, ``file://`` or an object-store URI (``s3://bucket/prefix``) as Lance
                takes it; credentials come from the environment (``AWS_*`` and so on).

        Raises:
            StoreError: there is no store, the folder holds something else, it can't be read, or it
                was written by a newer mmfeat.
        """
        database = Database(absolute(uri))
        if database.folder is not None:
            check_folder(database.folder, create)
        header = database.table(HEADER)
        if header is None:
            refuse_lost_header(database)
            if not create:
                raise no_store(database.uri)
            refuse_foreign_files(database)
            row = {"format": FORMAT, "created": datetime.now(UTC)}
            database.create(HEADER, pa.Table.from_pylist([row], schema=STORE_SCHEMA))
        check_format(database)
        return cls(database)

    @property
    def uri(self) -> str:
        """Where the store is: an absolute path or a URI."""
        return self._database.uri

    @property
    def folder(self) -> Path | None:
        """The local folder, or None on an object store."""
        return self._database.folder

    def refresh(self) -> None:
        """See from now on what others have committed since."""
        self._names_checked = False
        self._database.refresh()

    def pin(self) -> None:
        """Look at every table now, so that all are read as they are at this moment."""
        # The catalog last: a run under way adds items to it before their rows.
        for table in reversed(self._tables()):
            self._database.table(table)

    def changed(self) -> bool:
        """Whether others have committed since to a table that was looked at through this object."""
        return self._database.changed()

    @contextmanager
    def lease(
        self,
        owner: str,
        wait_seconds: float = 0,
        waiting: Callable[[str], None] = lambda message: None,
        despite_losses: bool = False,
    ) -> Iterator[None]:
        """The right to write, which one process has at a time; the latest state is seen inside.

        A store one of whose lists went back or away (:mod:`mmfeat.store.chain`) is refused.

        A store of an older format has today's from then on (:func:`mmfeat.store.places.raise_format`).

        On a local folder it ends with the process, however that ends. On an object store it is a
        record that expires two minutes after its holder last renewed it; see
        :mod:`mmfeat.store.lease_record` for what that can't guarantee.

        Args:
            owner: what the lease is for, shown to whoever is kept out.
            wait_seconds: how long to wait for another writer.
            waiting: told who is writing, at first and every minute.
            despite_losses: also where a list lost a part of itself: for its repair.

        Raises:
            StoreError: another process is writing; the error says which. Or a list is not what it was.
                Or this is a snapshot.
        """
        self._refuse_snapshot()
        if self._lease is not None:
            raise StoreError(f"This process is already writing to {self.uri} through the same Store.")
        folder = self._database.folder
        lease: Lease = (
            RecordLease(self.uri, owner, wait_seconds, waiting)
            if folder is None
            else FolderLease(folder, owner, wait_seconds, waiting)
        )
        self._lease = lease
        try:
            self.refresh()
            if not despite_losses:
                lists.refuse_losses(self._database)
            raise_format(self._database)
            chain.begin(self._database)
            with self._lists_recorded():
                yield
        finally:
            self._lease = None
            lease.release()

    @contextmanager
    def _lists_recorded(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            # What went wrong is the news, and a record that stays behind is no damage.
            with suppress(StoreError):
                self._record_lists()
            raise
        self._record_lists()

    def _record_lists(self) -> None:
        assert self._lease is not None
        try:
            self._lease.check()
        except StoreError:
            return  # the one who has the lease now does it
        lists.record(self._database)

    def writer(self) -> str | None:
        """What the lease is held for just now, by whichever process; None if nobody writes."""
        folder = self._database.folder
        return record_owner(self.uri) if folder is None else folder_owner(folder)

    # Feature versions

    def add_version(self, spec: FeatureSpec) -> FeatureVersion:
        """Record a spec and make its table; does nothing if both are there."""
        self._check_lease()
        return self._versions.add(spec)

    def versions(self, name: str | None = None) -> list[FeatureVersion]:
        """All versions (of one feature), by name and then by age."""
        self._check_names()
        return self._versions.list(name)

    def resolve(self, ref: str) -> FeatureVersion:
        """The version meant by ``name`` (the current one) or ``name@prefix`` (4 or more hex digits).

        Raises:
            UnknownFeature: there is none, or the prefix fits several.
            StoreError: the lists that say it lost a part of themselves: the name may mean another version.
        """
        self._check_names()
        return self._versions.resolve(ref)

    def set_current(self, name: str, fingerprint: str) -> None:
        """Let ``name`` alone mean this version."""
        self._check_lease()
        self.promotion.promote([self._versions.resolve(f"{name}@{fingerprint}")])

    def current(self) -> dict[str, str]:
        """Name to the fingerprint it means: the one last set, or that of a name's only version."""
        self._check_names()
        return self._versions.current()

    def _check_names(self) -> None:
        """Before the first look at what names mean, and again after each refresh. A writer knows already."""
        if self._names_checked or self._lease is not None or self.snapshot is not None:
            return
        lists.refuse_lost_names(self.uri)
        self._names_checked = True

    # Rows

    def commit(self, version: FeatureVersion, rows_: pa.Table, replace: bool) -> None:
        """Write a group of rows (:func:`rows_schema`) in one transaction: all are there, or none.

        Args:
            version: whose rows they are.
            rows_: one row per item.
            replace: put each in the place of the item's row, if there is one. Without it the caller
                answers for no item having a row yet.

        Raises:
            ConservationError: an id comes twice, or a row is not what the schema says.
            StoreError: the lease is not held or was lost, the write failed, or an item was forgotten.
        """
        self._check_lease()
        self.forgetting.refuse(rows_)
        rows.commit(self._database, version, rows_, replace)

    def ledger(self, version: FeatureVersion) -> pa.Table:
        """``item_id, status, content_hash, stamp`` (and ``text`` of a text feature) of every row."""
        return rows.ledger(self._database, version)

    def ledger_batches(self, version: FeatureVersion, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Columns of every row, some ten thousand rows at a time."""
        return rows.ledger_batches(self._database, version, columns)

    def full_rows(self, version: FeatureVersion, ids: Sequence[str]) -> pa.Table:
        """Whole rows of ``ids`` in their order; StoreError when one has none."""
        return rows.full_rows(self._database, version, ids)

    def counts(self, version: FeatureVersion, ids: pa.Array | None = None) -> dict[str, int]:
        """Rows by status; a status that no row has is left out.

        Args:
            ids: only of these items; of all when None.
        """
        return rows.counts(self._database, version, ids)

    def failures(self, version: FeatureVersion) -> pa.Table:
        """``item_id, stage, reason`` of every failed row, by item id."""
        return rows.failures(self._database, version)

    def marked(self, version: FeatureVersion) -> pa.Table:
        """``item_id, reason`` of every row that is ok and marked (a text as a refusal or a loop, a sound as
        silence), by item id."""
        return rows.marked(self._database, version)

    def facts(self, version: FeatureVersion) -> pa.Table:
        """``item_id, facts`` (JSON) of every row that a captioner left some with, by item id."""
        return rows.facts(self._database, version)

    def finish(self, version: FeatureVersion) -> None:
        """Compact the table, index all its rows, remove versions replaced more than a day ago.

        A version that a Lance tag names is never removed.
        """
        self._check_lease()
        maintenance.finish(self._database, version)
        digests.record(self._database, [version.table, *lists.DIGESTED])

    # Snapshots

    def create_snapshot(self, name: str) -> Snapshot:
        """Give the state of the whole store a name: it stays readable as it is now.

        Args:
            name: 1 to 64 ASCII letters, digits, ``-``, ``_`` and single dots.

        Raises:
            UsageError: the name is taken, or none that a snapshot can have.
        """
        self._check_lease()
        current = {name_: self.resolve(name_).version for name_ in sorted(self.current())}
        return self._snapshots.create(name, self._tables(), len(self._catalog.ids()), current)

    def snapshots(self) -> list[Snapshot]:
        """All snapshots, oldest first."""
        return self._snapshots.list()

    def delete_snapshot(self, name: str) -> None:
        """Forget a snapshot. What only it kept goes with the next :meth:`finish` a day later.

        Raises:
            UsageError: there is none of that name.
        """
        self._check_lease()
        self._snapshots.delete(name, self._tables())

    def at(self, snapshot: str) -> Store:
        """The store as it was when ``snapshot`` was created, to read only; UsageError if there is none."""
        return Store(pinned(self._database, self._snapshots.get(snapshot)), self._snapshots, snapshot)

    def _tables(self) -> list[str]:
        features = (version.table for version in self.versions())
        return [*catalog.TABLES, *versions.TABLES, *codebooks.TABLES, *features]

    # What quantizers fitted

    def put_codebooks(self, fingerprint: str, state: bytes, quality: dict[str, Any]) -> None:
        """Keep what a quantizer fitted: a safetensors file's bytes, and how good it is (JSON types)."""
        self._check_lease()
        codebooks.put(self._database, fingerprint, state, quality)

    def codebooks(self, fingerprint: str) -> tuple[bytes, dict[str, Any]] | None:
        """``(state, quality)`` of the codes with this fingerprint; None if there are none."""
        return codebooks.get(self._database, fingerprint)

    def put_collision_numbers(self, version: FeatureVersion, before: np.ndarray, last: np.ndarray) -> None:
        """Keep the numbers that the next commit gives out: see :func:`mmfeat.store.collisions.put`."""
        self._check_lease()
        collisions.put(self._database, version.fingerprint, version.table, before, last)

    def collision_numbers(self, version: FeatureVersion) -> np.ndarray | None:
        """``[m, levels]``: codes, and the last number given out for each; None if nothing is kept."""
        return collisions.get(self._database, version.fingerprint, version.table)

    # What models gave for known inputs

    def put_canary(self, version: FeatureVersion, canary: str) -> None:
        """Keep what a version's model gives for known inputs (JSON), in the place of what is kept of it."""
        self._check_lease()
        canaries.put(self._database, version.fingerprint, canary)

    def canary(self, version: FeatureVersion) -> str | None:
        """What :meth:`put_canary` was given; None if nothing is kept of a version."""
        return canaries.get(self._database, version.fingerprint)

    # What evaluations found

    def put_evaluation(self, subject: str, digest: str, evaluation: str) -> None:
        """Keep what was found of a subject (JSON), in the place of what is kept of it.

        Args:
            digest: of what it was judged by.
        """
        self._check_lease()
        evaluations.put(self._database, subject, digest, evaluation)

    def evaluation(self, subject: str, digest: str) -> str | None:
        """What :meth:`put_evaluation` was given; None if there is nothing by this digest."""
        return evaluations.get(self._database, subject, digest)

    # Items, interactions, runs

    def catalog(self) -> pa.Table:
        """All items with all columns, which :func:`mmfeat.schemas.catalog.columns_of` tells of its schema.

        Those are among them that no dataset has any more; see :meth:`present`.
        """
        return self._catalog.items()

    def present(self) -> pa.Table:
        """The items that are not gone, as :meth:`catalog` has them."""
        return self._catalog.present()

    def present_ids(self, place: Place | None = None) -> pa.Array:
        """The ids of the items that are not gone, in the catalog's order.

        Args:
            place: of the dataset whose items they are; of all datasets when None.
        """
        return self._catalog.present_ids(None if place is None else place.number)

    def ids_where(self, condition: str) -> pa.Array:
        """The ids of the items that are not gone of which a condition is true, in the catalog's order.

        Args:
            condition: on the catalog's columns, as in SQL: ``brand = 'Nike' and price < 20``.

        Raises:
            UsageError: it is no such condition.
        """
        return self._catalog.ids_where(condition)

    def gone_ids(self) -> pa.Array:
        """The ids of the items that no dataset has any more, in the catalog's order."""
        return self._catalog.gone_ids()

    def dataset(self) -> dict[str, Any] | None:
        """What the last :meth:`put_catalog` said of the dataset; None before the first."""
        return self._catalog.dataset()

    def datasets(self) -> list[dict[str, Any]]:
        """What is known of every dataset that the store has, the first of them first."""
        return list(self._catalog.datasets().values())

    def owned(self) -> Owned:
        """Whose the items are, and since when those are gone that no dataset has any more."""
        return self._catalog.owned()

    def place_of(
        self, items: pa.Table, dataset: dict[str, Any], add: bool = False, replace: bool = False
    ) -> Place:
        """Where a dataset goes in this store.

        Args:
            items: of the whole dataset.
            dataset: what is known of it: ``name``, ``root``, and ``id`` where it has one.
            add: put it beside the store's own.
            replace: put it in the place of all that the store holds.

        Raises:
            ConfigError: it is another dataset than the store's, and neither is wanted; or an item or a
                column of it clashes with those of another dataset of the store.
        """
        return self._catalog.place_of(items, dataset, add, replace)

    def put_catalog(
        self, items: pa.Table, dataset: dict[str, Any], place: Place | None = None, whole: bool = False
    ) -> None:
        """Bring the catalog up to date with a dataset, in one transaction, or none if it already is.

        Known items keep their place and take the new values, new ones follow, and items that the
        dataset no longer names stay: a run over a part of a dataset shrinks nothing. A column that the
        dataset no longer has stays for these, and is null for the others.

        Args:
            dataset: what is known of it.
            place: where it goes, by :meth:`place_of`; in that of the store's first one when None.
            whole: these are all items of the dataset: others of it are gone from now on.

        Raises:
            DatasetError: an item id comes twice.
            StoreError: an item was forgotten; ``forgetting.without`` leaves these out.
        """
        self._check_lease()
        self.forgetting.refuse(items)
        place = place or Place(0, {**self._catalog.datasets(), 0: dataset})
        self._catalog.put_items(items, place, whole)

    def interactions(self) -> pa.Table | None:
        """The interactions (``INTERACTIONS_SCHEMA``) of the datasets, None if they have none."""
        return self._catalog.interactions()

    def interactions_by_dataset(self) -> dict[int, pa.Table]:
        """The interactions by the number of their dataset (:attr:`Place.number`), of those that have some.

        A user's id is one of its dataset: the same one in another dataset is another user.
        """
        return self._catalog.interactions_by_dataset()

    def count_interactions(self, place: Place) -> int:
        """How many interactions the store has of a dataset."""
        return self._catalog.count_interactions(place.number)

    def put_interactions(self, interactions: pa.Table | None, place: Place | None = None) -> None:
        """Replace the interactions of a dataset; writes nothing if they are the same.

        Args:
            place: where the dataset is; in that of the store's first one when None.
        """
        self._check_lease()
        if interactions is not None:
            self.forgetting.refuse(interactions)
        place = place or Place(0, {**self._catalog.datasets(), 0: {}})
        self._catalog.put_interactions(interactions, place)

    def stamps(self) -> pa.Table:
        """Stamps of files known to have unchanged content (``STAMPS_SCHEMA``)."""
        return self._catalog.stamps()

    def put_stamps(self, stamps: pa.Table) -> None:
        """Add stamps, each in the place of the one known for the same item and column."""
        self._check_lease()
        self._catalog.put_stamps(stamps)

    def runs(self) -> list[dict[str, Any]]:
        """What was recorded of runs, oldest first; :func:`mmfeat.pipelines.record.runs` reads it."""
        return self._catalog.runs()

    def media_buckets(self) -> list[str]:
        """Buckets whose media may be shown: every dataset's own, and those that its newest run might read."""
        records = [record for record in Catalog(self._snapshots.database).runs() if "job" in record]
        newest = {_place_of(record.get("dataset", {})): record["job"] for record in records}
        found: dict[str, None] = {}
        for dataset in self.datasets():
            fetch = newest.get(_place_of(dataset), {}).get("limits", {}).get("fetch", {})
            own = bucket_of(str(dataset.get("root") or ""))
            found |= dict.fromkeys([*fetch.get("buckets", ()), *([own] if own else ())])
        return list(found)

    def record_run(self, record: dict[str, Any]) -> None:
        """Add what a run has to say (JSON types). Needs no lease: a run that lost it leaves a record too."""
        self._refuse_snapshot()
        self._catalog.record_run(record)

    # Reading

    def lookup(
        self,
        ids: Sequence[str] | None = None,
        features: Sequence[str] | None = None,
        unknown: Literal["error", "mask"] = "error",
    ) -> FeatureSet:
        """Features of items, in the order asked; an id may come more than once.

        Args:
            ids: item ids; all that are not gone, in the catalog's order, when None.
            features: names or ``name@prefix``; every feature's current version when None.
            unknown: an id that is neither in the catalog nor in any of the features is an error,
                or a row of status ``absent``.

        Returns:
            One column per feature name. Vectors are NaN, texts and token vectors None, where
            the mask is False.

        Raises:
            UnknownItems: naming every unknown id.
            UnknownFeature: a feature that the store does not hold.
            UsageError: two versions of one feature, an id that is no string, or a string for a list.
        """
        if features is None:
            features = sorted({v.name for v in self.versions()})
        found = [self.resolve(name) for name in dict.fromkeys(listed(features, "feature"))]
        asked = self._catalog.present_ids().to_pylist() if ids is None else listed(ids, "item id")
        return lookup(self._database, asked, found, None if unknown == "mask" else self._catalog.ids)

    def search(
        self,
        version: FeatureVersion,
        vector: np.ndarray,
        k: int = 10,
        exclude: Collection[str] = (),
        exact: bool = False,
        among: Collection[str] | None = None,
    ) -> list[Hit]:
        """The ``k`` items with the highest cosine similarity, the highest first, equal ones by id.

        Of a feature with any number of vectors per item it is the sum, over the query's vectors, of the
        highest cosine to one of the item's (MaxSim).

        Exact, over every row, unless there is a :meth:`vector_index`, which says how much a search
        through it finds. A stored vector that is all zero has no direction and is never a hit, and
        neither is that of an item that is gone.

        Args:
            vector: ``[dims]``; where items have any number of vectors, also ``[m, dims]``.
            exclude: item ids to leave out.
            exact: compare with every vector all the same.
            among: item ids to choose from; all when None.

        Raises:
            UsageError: the query's shape is not the feature's, or it has no direction.
        """
        refuse_unsearchable(version)
        if k < 1:
            raise UsageError(f"A search for k = {k} items: k is at least 1.")
        gone, wanted = set(self._catalog.gone_ids().to_pylist()), k
        if version.spec.form == "tokens":
            of_these = Chosen({*exclude, *gone}, among)
            return search_tokens(self._database, version, vector, k, of_these, exact)
        chosen = None if among is None else set(among)
        while True:
            found = search(self._database, version, vector, wanted, exclude, exact)
            hits = [h for h in found if h.item_id not in gone and (chosen is None or h.item_id in chosen)]
            if len(hits) >= (k if chosen is None else min(k, len(chosen))) or len(found) < wanted:
                return hits[:k]
            # Most items are not gone, so that this is seldom done twice; few may have been chosen.
            wanted += k + len(gone) + (0 if chosen is None else 3 * wanted)

    def build_vector_index(
        self, version: FeatureVersion, target_recall: float = TARGET_RECALL
    ) -> VectorIndex:
        """Index the vectors for approximate search; worth it from some hundred thousand rows on.

        Rows committed later are searched exactly until :meth:`finish` adds them to the index.

        Args:
            target_recall: share of the true ten nearest that a search is to find. It is measured with
                a sample of the version's own vectors, and as few partitions are searched as reach it.

        Raises:
            UsageError: the version has no vector, or the target is not above 0 and at most 1.
        """
        self._check_lease()
        return build_vector_index(self._database, version, target_recall)

    def vector_index(self, version: FeatureVersion) -> VectorIndex | None:
        """The index that searches use, and what was measured of it; None if they are exact."""
        with self._database.errors(f"read {version.version}"):
            return index_of(rows.table_of(self._database, version))

    def _refuse_snapshot(self) -> None:
        if self.snapshot is not None:
            raise StoreError(
                f"The snapshot {self.snapshot!r} of {self.uri} is there to read: it never changes.",
                hint="Open the store without a snapshot to write to it.",
            )

    def _check_lease(self) -> None:
        self._refuse_snapshot()
        if self._lease is None:
            raise StoreError(f"Writing to {self.uri} needs its lease: `with store.lease(...):`.")
        self._lease.check()


def _place_of(dataset: Mapping[str, Any]) -> tuple[str, str]:
    """By what a run's record names a dataset: its adapter and its root."""
    return str(dataset.get("name")), str(dataset.get("root") or "")
