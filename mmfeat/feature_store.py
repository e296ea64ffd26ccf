"""A store opened for reading, and what is done with what it holds: see :class:`FeatureStore`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mmfeat.fork_proxy import ForkProxy, fork_safe
from mmfeat.nearest import Nearest
from mmfeat.queries import QueryEncoders
from mmfeat.schemas.errors import MissingExtra, StoreError, UsageError
from mmfeat.schemas.featureset import FeatureSet
from mmfeat.schemas.notebook import table
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.schemas.validation import listed
from mmfeat.status import FeatureStatus, status_of

if TYPE_CHECKING:
    import pyarrow as pa

    from mmfeat.evaluate import Evaluation
    from mmfeat.evaluate.base import Progress as Told
    from mmfeat.export import ExportReport
    from mmfeat.pipelines.forget import ForgetReport, ForgottenReport
    from mmfeat.pipelines.lifecycle import Lifecycle
    from mmfeat.report.build import ReportOptions
    from mmfeat.report.model import CaptionReport, CodesReport, Shown
    from mmfeat.report.pictures import Progress
    from mmfeat.report.vectors.build import VectorsOptions
    from mmfeat.report.vectors.model import VectorsReport
    from mmfeat.store import Damage, FeatureVersion, Gone, Hit, Snapshot, Store, StoreDiff, VectorIndex

#: More than any search is asked for, and than what takes it can count.
MOST_HITS = 10**9


def opened(uri: str, snapshot: str | None) -> Store:
    """A store, or what it was when ``snapshot`` was created; raises as :func:`mmfeat.open` does."""
    from mmfeat.store import Store

    store = Store.open(uri)
    return store if snapshot is None else store.at(snapshot)


@fork_safe
class FeatureStore:
    """A store opened for reading. Queries by text or image load their encoder on first use.

    It can be sent to other processes, and used in those that are forked: there it is opened anew, and read as
    it is by then. A snapshot is the same for all.

    Args:
        encoders: shared with other stores that are open; its own when None.
    """

    def __init__(self, store: Store, encoders: QueryEncoders | None = None) -> None:
        self._set((store.uri, store.snapshot), store, encoders)

    def __getstate__(self) -> tuple[str, str | None]:
        return self._where

    def __setstate__(self, where: tuple[str, str | None]) -> None:
        self._set(where, None, None)

    def _set(
        self, where: tuple[str, str | None], store: Store | None, encoders: QueryEncoders | None
    ) -> None:
        self._where = where
        self._opened = store
        self._encoders = encoders or QueryEncoders()
        self._proxied: tuple[int, ForkProxy] | None = None

    @classmethod
    def by_proxy(cls, uri: str, snapshot: str | None) -> FeatureStore:
        """A store that another process opens, for one that was forked; see :mod:`mmfeat.fork_proxy`."""
        made = cls.__new__(cls)
        made.__setstate__((uri, snapshot))
        made.snapshots()  # that it is there is asked at once
        return made

    @property
    def _store(self) -> Store:
        if self._opened is None:
            self._opened = opened(*self._where)
        return self._opened

    def _proxy(self) -> ForkProxy | None:
        """The process that answers for this one, where this one was forked."""
        from mmfeat.store import was_forked

        if not was_forked():
            return None
        if self._proxied is None or self._proxied[0] != os.getpid():
            self._proxied = os.getpid(), ForkProxy(*self._where)
        return self._proxied[1]

    def __repr__(self) -> str:
        name = self._where[1]
        snapshot = "" if name is None else f", snapshot={name!r}"
        return f"FeatureStore({self.uri!r}{snapshot})"

    def _repr_html_(self) -> str:
        """Every version with its counts, as ``mmfeat status`` shows them."""
        columns = ("version", "state", "kind", "dims", "source", "model", "ok", "missing", "failed", "absent")
        rows = [[getattr(feature, column) for column in columns] for feature in self.status()]
        return table(repr(self), columns, rows, f"{len(self.ids):,} items in the catalog.")

    def __getitem__(self, feature: str) -> FeatureHandle:
        """One feature: ``store["title_text"]``, in its current version, or ``store["title_text@..."]``.

        Raises:
            UnknownFeature: the store has no such feature.
        """
        return FeatureHandle(self, self.spec(feature))

    def __iter__(self) -> Iterator[str]:
        """The names of all features that have a current version."""
        return iter(dict.fromkeys(one.version.split("@")[0] for one in self.status() if one.current))

    @property
    def uri(self) -> str:
        """Where the store is: an absolute path or a URI."""
        return self._store.uri

    @property
    def ids(self) -> list[str]:
        """Every item id of the catalog, in its order; without those that are :attr:`gone`."""
        found: list[str] = self._store.present_ids().to_pylist()
        return found

    @property
    def items(self) -> pa.Table:
        """The catalog of items; :func:`mmfeat.schemas.catalog.columns_of` tells its columns.

        Items that are :attr:`gone` are not in it.
        """
        return self._store.present()

    def ids_where(self, condition: str) -> list[str]:
        """Ids of the items of which a condition on their fields is true, in the catalog's order.

        Args:
            condition: as in SQL: ``brand = 'Nike' and price < 20``, ``title like '%shoe%'``,
                ``array_has(tags, 'red')``, ``price is null``. An item without a value is in the answer only
                where the condition asks for that.

        Raises:
            UsageError: it is no such condition; the hint lists the columns.
        """
        found: list[str] = self._store.ids_where(condition).to_pylist()
        return found

    def ids_of_code(self, feature: str, code: Sequence[int]) -> list[str]:
        """Ids of the items whose codes begin with ``code``, sorted; without items that are :attr:`gone`.

        Args:
            feature: codes: ``name`` or ``name@fingerprint``.
            code: from the first level on; all levels for one semantic id, fewer for a branch of them.

        Raises:
            UsageError: the feature holds no codes, or they have fewer levels.
        """
        from mmfeat.store.codes import ids_of_code

        return ids_of_code(self._store, self._store.resolve(feature), code)

    def fields(
        self,
        ids: Sequence[str] | None = None,
        names: Sequence[str] | None = None,
        unknown: Literal["error", "mask"] = "error",
    ) -> pa.Table:
        """What the catalog holds of items in columns of texts and numbers, in the order asked.

        Args:
            ids: item ids; all of the catalog that are not gone when None.
            names: the columns; all of texts and numbers when None.
            unknown: an id that the catalog does not hold is an error that names it, or a row of nulls.

        Returns:
            ``item_id`` and the columns, null if an item has no value.

        Raises:
            UnknownItems: ids that the catalog does not hold.
            UsageError: a column that there is not, or that holds media.
        """
        from mmfeat.item_fields import fields_of

        asked = self.ids if ids is None else listed(ids, "item id")
        return fields_of(self._store.catalog(), asked, names, unknown, self.uri)

    @property
    def gone(self) -> list[str]:
        """Ids of items that left their dataset: a lookup by id still finds them, until they are pruned."""
        found: list[str] = self._store.gone_ids().to_pylist()
        return found

    @property
    def datasets(self) -> list[dict[str, Any]]:
        """``name`` (of the adapter), ``root`` and perhaps ``id`` of every dataset that the store has."""
        return self._store.datasets()

    @property
    def interactions(self) -> pa.Table | None:
        """The dataset's interactions (``INTERACTIONS_SCHEMA``), None if it has none."""
        return self._store.interactions()

    def spec(self, feature: str) -> FeatureSpec:
        """What made ``feature`` (``name`` for the current version, or ``name@fingerprint``)."""
        return self._store.resolve(feature).spec

    def status(self) -> list[FeatureStatus]:
        """Every feature version, by name and then by age."""
        from mmfeat.store import why_stale

        current, versions = self._store.current(), self._store.versions()
        counted = [(version, *self._counts(version)) for version in versions]
        # The catalog last: a run under way adds items to it before their rows.
        n_items, gone = len(self._store.present_ids()), self._store.gone_ids()
        state_of = self._store.promotion.state_of
        return [
            status_of(
                version,
                counts,
                self._gone(version, gone, problem),
                problem,
                current,
                state_of(version),
                n_items,
                why_stale(version, versions, current),
            )
            for version, counts, problem in counted
        ]

    @property
    def lifecycle(self) -> Lifecycle:
        """Promotion of versions, rollback, and removal of old ones."""
        from mmfeat.pipelines.lifecycle import Lifecycle

        return Lifecycle(self._store)

    def runs(self) -> list[dict[str, Any]]:
        """The records of all runs, oldest first; see :func:`mmfeat.pipelines.record.runs`."""
        from mmfeat.pipelines.record import runs

        return runs(self._store)

    def run_log(self, run_id: str) -> list[tuple[datetime, str]]:
        """``(time, message)`` of what a run said, oldest first; kept for 90 days."""
        return self._store.logs.of(run_id)

    def failures(self, feature: str) -> pa.Table:
        """``item_id, stage, reason`` of every item that failed for ``feature`` and is not gone."""
        return self._present(self._store.failures(self._store.resolve(feature)))

    def marked(self, feature: str) -> pa.Table:
        """``item_id, reason`` of every item whose value for ``feature`` is marked and that is not gone.

        Marked are a text that is a ``refusal`` or a ``loop`` by what it says, and a value of a sound that is
        ``silence``. Such values are stored all the same.
        """
        return self._present(self._store.marked(self._store.resolve(feature)))

    def _present(self, rows: pa.Table) -> pa.Table:
        import pyarrow.compute as pc

        return rows.filter(pc.invert(pc.is_in(rows["item_id"], value_set=self._store.gone_ids())))

    def facts(self, feature: str) -> dict[str, dict[str, Any]]:
        """What was recorded of each text: item id to ``finish_reason`` (``stop``, or ``length`` where the
        token cap cut it), ``prompt_tokens`` and ``new_tokens``. Of vectors: ``cut`` where one was made from
        what is there of a clip that is cut short. Of what was heard: ``rms``, how loud it was, 0 to 1."""
        rows = self._store.facts(self._store.resolve(feature)).to_pylist()
        return {row["item_id"]: json.loads(row["facts"]) for row in rows}

    def lookup(
        self,
        ids: Sequence[str] | None = None,
        features: Sequence[str] | None = None,
        unknown: Literal["error", "mask"] = "error",
    ) -> FeatureSet:
        """Features of items, in the order asked.

        Args:
            ids: item ids; all of the catalog that are not gone when None.
            features: names or ``name@fingerprint``; every feature's current version when None.
            unknown: an id that the store does not hold is an error that names it, or a masked row.

        Returns:
            A :class:`FeatureSet`: per feature one ``[n, dims]`` array (``[n, vectors, dims]`` where items
            have several vectors, or a list of texts or of ``[m, dims]`` arrays), one mask, the status of each
            row and the spec.

        Raises:
            UnknownItems, UnknownFeature.
        """
        return self._store.lookup(ids, features, unknown=unknown)

    def snapshots(self) -> list[Snapshot]:
        """All snapshots of the store, oldest first."""
        return self._store.snapshots()

    def build_index(self, feature: str, target_recall: float | None = None) -> VectorIndex:
        """Index the vectors of ``feature`` for approximate search: worth it from some 100,000 items on.

        Searches use it from then on, and later runs keep it up to date.

        Args:
            target_recall: share of the true ten nearest that a search is to find; 0.98 when None. A sample
                of the feature's own vectors tells how much of the index that takes.

        Returns:
            How it is searched, and the recall that was measured: less than the target where no setting
            reaches it.

        Raises:
            UsageError: the feature has no vectors to index, or the target is not above 0 and at most 1.
            StoreError: a run is writing to the store.
        """
        target = {} if target_recall is None else {"target_recall": target_recall}
        with self._store.lease(owner=f"index {feature}"):
            return self._store.build_vector_index(self._store.resolve(feature), **target)

    def vector_index(self, feature: str) -> VectorIndex | None:
        """The index that searches of ``feature`` use, and its recall; None if they are exact."""
        return self._store.vector_index(self._store.resolve(feature))

    def create_snapshot(self, name: str) -> Snapshot:
        """Give the store as it is now a name: it stays readable with ``mmfeat.open(uri, snapshot=name)``.

        Args:
            name: 1 to 64 ASCII letters, digits, ``-``, ``_`` and single dots.

        Raises:
            UsageError: the name is taken, or none that a snapshot can have.
            StoreError: a run is writing to the store.
        """
        with self._store.lease(owner=f"snapshot create {name}"):
            return self._store.create_snapshot(name)

    def delete_snapshot(self, name: str) -> None:
        """Forget a snapshot; what only it kept is removed by a run a day later.

        Raises:
            UsageError: there is no such snapshot.
            StoreError: a run is writing to the store.
        """
        with self._store.lease(owner=f"snapshot delete {name}"):
            self._store.delete_snapshot(name)

    def forget(self, ids: Sequence[str], reason: str, *, cache: Path | None = None) -> ForgetReport:
        """Remove items for good: from every feature, version, snapshot and index, the catalog, the
        interactions, and the URL cache; and keep them from coming back.

        Nobody can undo it. If it is cut short, the next call or the next run finishes it. Items' own
        media files, which are not the store's, stay where they are.

        Args:
            ids: items of the store.
            reason: kept with the ids.
            cache: folder of the URL cache; the user's default when None.

        Raises:
            UnknownItems: an id that the store does not hold; nothing was forgotten then.
            StoreError: a run is writing to the store, or the removal was cut short.
        """
        from mmfeat.pipelines.forget import forget

        return forget(self._store, ids, reason, cache)

    def prunable(self) -> Gone:
        """What :meth:`prune` would remove; changes nothing."""
        return self._store.pruning.survey()

    def prune(self) -> Gone:
        """Remove the rows of items that left their dataset, from the catalog and every feature version.

        Snapshots keep them. Unlike a forgotten one, such an item is extracted again if it comes back.

        Raises:
            StoreError: a run is writing to the store.
        """
        return self.lifecycle.prune()

    def verify_forgotten(self) -> ForgottenReport:
        """Look for forgotten items in every file of every table, and name exports that may hold them."""
        from mmfeat.pipelines.forget import verify

        return verify(self._store)

    def examine(self, deep: bool = False) -> list[Damage]:
        """What of the store is damaged: cut, changed or removed files, and what that costs.

        Args:
            deep: read every value, and compare a local store's files with what was written.
        """
        from mmfeat.store import examine

        return examine(self._store.uri, deep)

    def repair(self, damages: Sequence[Damage]) -> list[Damage]:
        """Drop what cannot be read of what :meth:`examine` found, so that the next run computes it again.

        Returns:
            What was mended; the rest says itself what to do.

        Raises:
            StoreError: a run is writing to the store, or a file cannot be removed.
        """
        from mmfeat.store import repair

        with self._store.lease(owner="repair", despite_losses=True):
            mended = repair(self._store.uri, damages)
            self._store.refresh()
        return mended

    def accept_losses(self, lists: Sequence[str]) -> list[str]:
        """Go on, knowingly, with what is left of lists that :meth:`repair` leaves for a backup to restore.

        Args:
            lists: their tables, as :meth:`examine` names them: ``_forgotten``, for one.

        Raises:
            UsageError: there is no such list, or a string stands for a list of them.
            StoreError: a run is writing to the store, or a file cannot be removed.
        """
        from mmfeat.store import accept_losses

        with self._store.lease(owner="accept losses", despite_losses=True):
            accepted = accept_losses(self._store.uri, lists)
            self._store.refresh()
        return accepted

    def diff(self, before: str, after: str | None = None) -> StoreDiff:
        """What changed from one snapshot to another, or to what this object reads when None.

        Raises:
            UsageError: there is no such snapshot.
        """
        from mmfeat.store import diff

        return diff(self._store.at(before), self._store if after is None else self._store.at(after))

    def export(self, format: str, out: str | Path, **settings: Any) -> ExportReport:
        """Write features in the exact files that a recommender loads: ``mmfeat export --list``.

        Args:
            format: the format's name.
            out: a folder that is not there yet, or empty. It appears whole or not at all. Its name is
                what the target will call the dataset.
            settings: the other attributes of :class:`mmfeat.export.Request`, which says what each is
                and its default: ``features``, ``missing``, ``split``, ...

        Raises:
            UsageError: a setting that there is not, something that the target could not load, or that
                would be lost silently. Nothing is left behind.
        """
        from mmfeat.export import Request, export_from

        return export_from(self._store, Request.of(format, out, settings))

    def report_codes(
        self, feature: str | None = None, seed: int = 0, progress: Progress | None = None
    ) -> CodesReport:
        """Measure semantic ids: how they are used, what they lose, how far they drifted; with example items.

        Args:
            feature: ``name`` or ``name@fingerprint``; the store's only codes when None.
            seed: of the example items.
            progress: told how far it is.

        Raises:
            UsageError: there are no codes, or those of several features.
        """
        from mmfeat.report.build import no_progress
        from mmfeat.report.codes import report_codes

        return report_codes(self._store, feature, seed, progress or no_progress)

    def report_vectors(
        self, feature: str, options: VectorsOptions | None = None, progress: Progress | None = None
    ) -> VectorsReport:
        """Measure the health of vectors: how they lie in their space, what is near to what, and what changed;
        see :mod:`mmfeat.report.vectors.model` for what is told.

        Args:
            feature: ``name`` or ``name@fingerprint``.
            options: what they are compared with, the map and the sample.
            progress: told what was done, how many times, of how many.

        Raises:
            UsageError: a feature, field or snapshot that there is not, or a feature without vectors.
        """
        from mmfeat.report.build import no_progress
        from mmfeat.report.vectors.build import VectorsOptions, report_vectors

        return report_vectors(self._store, feature, options or VectorsOptions(), progress or no_progress)

    def report_captions(
        self, options: ReportOptions | None = None, progress: Progress | None = None
    ) -> CaptionReport:
        """Measure whether captions can be trusted; see :mod:`mmfeat.report.model` for what is told.

        Args:
            options: which captions, gates and comparisons; those of the store's only captions when None.
            progress: told what was done, how many times, of how many.

        Raises:
            UsageError, ConfigError: a feature, version, gate or language that there is not.
        """
        from mmfeat.pipelines.caption_evidence import CaptionEvidence
        from mmfeat.report.build import ReportOptions, no_progress, report_captions

        asked, told = options or ReportOptions(), progress or no_progress
        return report_captions(self._store, asked, told, CaptionEvidence(self._store, asked.seed, told))

    def evaluate(
        self, features: Sequence[str] = (), progress: Told | None = None, **settings: Any
    ) -> Evaluation:
        """Ask whether features help to recommend: hold them against the interactions, beside their controls.

        Args:
            features: names or ``name@fingerprint``; every current version of vectors or codes when none is
                named.
            progress: told in words what is done next.
            settings: the other attributes of :class:`mmfeat.schemas.evaluation.EvaluateConfig`, which says
                what
                each is and its default: ``protocols``, ``split``, ``users``, ``ids``, ``seed``.

        Raises:
            UsageError: the store has no interactions, or too few; a feature holds texts; or there is no such
                feature or protocol.
            ConfigError: a setting that there is not.
            MissingExtra: a package that a protocol needs is not installed.
        """
        from mmfeat.evaluate import evaluate, quiet
        from mmfeat.schemas.evaluation import EvaluateConfig
        from mmfeat.schemas.validation import validated

        asked = {**settings, "features": tuple(listed(features, "feature"))}
        return evaluate(self._store, validated(EvaluateConfig, asked, "evaluate"), progress or quiet)

    def search(
        self,
        feature: str,
        *,
        vector: np.ndarray | None = None,
        text: str | None = None,
        image: str | Path | bytes | None = None,
        item: str | None = None,
        k: int = 10,
        exact: bool = False,
        where: str | None = None,
    ) -> list[Hit]:
        """The ``k`` items whose vectors are nearest by cosine, the nearest first.

        Where items have any number of vectors, the score is the sum, over the query's vectors, of the
        highest cosine to one of the item's (MaxSim).

        Where there is a :meth:`vector_index`, it says which share of the nearest is found.

        Args:
            vector: a query of the feature's dims, or of ``[m, dims]`` where items have any number of
                vectors; or
            text: read by the feature's own text encoder (CLIP's text tower for image features); or
            image: path, URL or a file's bytes, read by the feature's own image encoder; or
            item: an item id, which is left out of the result.
            exact: compare with every vector, even where there is an index.
            where: a condition on the fields of the items to choose from, as :meth:`ids_where` takes it.

        Raises:
            UsageError: not exactly one query, or one that the feature's encoder cannot read; or a ``k`` that
                no store has items for; or no such condition.
        """
        from mmfeat.store import refuse_unsearchable

        if not isinstance(k, int | np.integer) or k > MOST_HITS:
            raise UsageError(
                f"A search for k = {k} items: k is a whole number.", hint=f"Give {MOST_HITS:,} at most."
            )
        given = {"vector": vector, "text": text, "image": image, "item": item}
        if sum(value is not None for value in given.values()) != 1:
            raise UsageError(
                "A search needs exactly one of text, image, item and vector.",
                hint="For example --text 'a red kettle'.",
            )
        version = self._store.resolve(feature)
        refuse_unsearchable(version)
        among = None if where is None else self.ids_where(where)
        if vector is None:
            vector = self._query(version, text, image, item)
        return self._store.search(version, vector, k, () if item is None else (item,), exact, among)

    def pictures(self, feature: str, ids: Sequence[str]) -> dict[str, Shown]:
        """Small JPEGs that show items: of what ``feature`` reads, or else of the first column of media.

        Args:
            ids: item ids; one that the catalog does not hold has no picture.

        Returns:
            By id, up to four pictures of at most 160 pixels a side, or why there is none.

        Raises:
            MissingExtra: a package that reads pictures is not installed.
        """
        try:
            for package in ("PIL", "simplejpeg", "av"):
                import_module(package)
        except ModuleNotFoundError as error:
            raise MissingExtra("A picture of an item", "extract", error.name or package) from None
        from mmfeat.report.shown import shower

        asked = listed(ids, "item id")
        show = shower(self._store, self._store.resolve(feature), asked)
        return {item_id: show(item_id) for item_id in asked}

    def _counts(self, version: FeatureVersion) -> tuple[dict[str, int], str]:
        """Rows by status, and why they cannot be read: one damaged feature hides nothing of the others."""
        try:
            return self._store.counts(version), ""
        except StoreError as error:
            return {}, error.message

    def _gone(self, version: FeatureVersion, gone: pa.Array, problem: str) -> dict[str, int]:
        """Rows of items that are gone, by status."""
        return self._store.counts(version, gone) if len(gone) and not problem else {}

    def _query(
        self, version: FeatureVersion, text: str | None, image: str | Path | bytes | None, item: str | None
    ) -> np.ndarray:
        if text is not None:
            return self._encoders.text(version.spec, text)
        if image is not None:
            return self._encoders.image(version.spec, image)
        return self._item_query(version, str(item))

    def _item_query(self, version: FeatureVersion, item: str) -> np.ndarray:
        column = self._store.lookup([item], [version.version])[version.name]
        if not column.mask[0]:
            why = f": {column.reason[0]}" if column.reason[0] else ""
            raise UsageError(f"Item {item!r} has no vector in {version.version} ({column.status[0]}{why}).")
        return np.asarray(column.tokens[0] if column.spec.form == "tokens" else column.matrix[0])


class FeatureHandle:
    """One version of a feature in an opened store: ``store["title_text"]``.

    Attributes:
        spec: what made it; ``spec.version`` is ``name@fingerprint``.
    """

    def __init__(self, store: FeatureStore, spec: FeatureSpec) -> None:
        self._store = store
        self.spec = spec

    def __repr__(self) -> str:
        return f"FeatureHandle({self.spec.version!r} in {self._store!r})"

    def nearest(
        self,
        item: str | None = None,
        k: int = 10,
        *,
        text: str | None = None,
        image: str | Path | bytes | None = None,
    ) -> Nearest:
        """The ``k`` items whose vectors are nearest, for people to look at: ``nearest("11").show()``.

        Args:
            item: an item id, which is left out of the result; or
            text, image: as :meth:`FeatureStore.search` takes them.

        Raises:
            UsageError: not exactly one query, or one that :meth:`FeatureStore.search` refuses.
        """
        store, version = self._store, self.spec.version
        hits = store.search(version, item=item, text=text, image=image, k=k)
        ids = [*([] if item is None else [item]), *(hit.item_id for hit in hits)]
        fields = store.fields(ids, ["title"], unknown="mask")
        return Nearest(
            version=version,
            asked=item if item is not None else text if text is not None else "a picture",
            item=item,
            hits=hits,
            measure="maxsim" if self.spec.form == "tokens" else "cosine",
            titles=dict(zip(ids, fields["title"].to_pylist(), strict=True)),
            pictures=lambda: store.pictures(version, ids),
        )
