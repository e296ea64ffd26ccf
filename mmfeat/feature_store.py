"""A store opened for reading, and what is done with what it holds: see :class:`FeatureStore`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import FAILED, MISSING, OK, FeatureSet
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import FeatureSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from mmfeat.export import ExportReport, Shaping
    from mmfeat.extract.base import Encoder
    from mmfeat.store import FeatureVersion, Hit, Snapshot, Store, StoreDiff


@dataclass(frozen=True)
class FeatureStatus:
    """One feature version in a store.

    Attributes:
        version: ``name@fingerprint``.
        current: whether the name alone means this version.
        kind: ``vector``, ``vectors`` (several per item), ``codes``, ``caption`` (by a multimodal LLM)
            or ``tags``.
        dims: length of a vector, or number of codes; None for texts.
        vectors: how many vectors an item has, where a feature holds several; None otherwise.
        ok, missing, failed: items by status; ``absent``: catalog items without a row.
    """

    version: str
    current: bool
    source: str
    kind: str
    dims: int | None
    vectors: int | None
    model: str
    created: datetime
    ok: int
    missing: int
    failed: int
    absent: int


class FeatureStore:
    """A store opened for reading. Queries by text or image load their encoder on first use."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._encoders: dict[str, Encoder] = {}

    @property
    def ids(self) -> list[str]:
        """Every item id of the catalog, in its order."""
        found: list[str] = self._store.catalog()["item_id"].to_pylist()
        return found

    @property
    def items(self) -> pa.Table:
        """The catalog of items (``CATALOG_SCHEMA``)."""
        return self._store.catalog()

    @property
    def interactions(self) -> pa.Table | None:
        """The dataset's interactions (``INTERACTIONS_SCHEMA``), None where it has none."""
        return self._store.interactions()

    def spec(self, feature: str) -> FeatureSpec:
        """What made ``feature`` (``name`` for the current version, or ``name@fingerprint``)."""
        return self._store.resolve(feature).spec

    def status(self) -> list[FeatureStatus]:
        """Every feature version, by name and then by age."""
        current = self._store.current()
        n_items = len(self._store.catalog())
        return [self._status(v, current, n_items) for v in self._store.versions()]

    def runs(self) -> list[dict[str, Any]]:
        """The records of all runs, oldest first."""
        return self._store.runs()

    def failures(self, feature: str) -> pa.Table:
        """``item_id, stage, reason`` of every item that failed for ``feature``."""
        return self._store.failures(self._store.resolve(feature))

    def facts(self, feature: str) -> dict[str, dict[str, Any]]:
        """What was recorded of each text: item id to ``finish_reason`` (``stop``, or ``length`` where the
        token cap cut it), ``prompt_tokens`` and ``new_tokens``. Empty for a feature without texts."""
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
            ids: item ids; all of the catalog when None.
            features: names or ``name@fingerprint``; every feature's current version when None.
            unknown: an id that the store does not hold is an error that names it, or a masked row.

        Returns:
            A :class:`FeatureSet`: per feature one ``[n, dims]`` array (``[n, vectors, dims]`` where items
            have several vectors, or a list of texts), one mask, the status of each row and the spec.

        Raises:
            UnknownItems, UnknownFeature.
        """
        return self._store.lookup(ids, features, unknown=unknown)

    def snapshots(self) -> list[Snapshot]:
        """All snapshots of the store, oldest first."""
        return self._store.snapshots()

    def build_index(self, feature: str) -> None:
        """Index the vectors of ``feature`` for approximate search: worth it from some 100,000 items on.

        Searches use it from then on, and later runs keep it up to date.

        Raises:
            UsageError: the feature has no vectors to index.
            StoreError: a run is writing to the store.
        """
        with self._store.lease(owner=f"index {feature}"):
            self._store.build_vector_index(self._store.resolve(feature))

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

    def diff(self, before: str, after: str | None = None) -> StoreDiff:
        """What changed from one snapshot to another, or to what this object reads when None.

        Raises:
            UsageError: there is no such snapshot.
        """
        from mmfeat.store import diff

        return diff(self._store.at(before), self._store if after is None else self._store.at(after))

    def export(
        self,
        format: str,
        out: str | Path,
        *,
        features: Mapping[str, str] | Sequence[str] | None = None,
        items: Literal["all", "interacted"] | Sequence[str] = "all",
        missing: str | None = None,
        k_core: int | None = None,
        split: str | None = None,
        seed: int = 0,
        shaping: Shaping | None = None,
        unmatched: Literal["count", "error"] = "count",
        options: Mapping[str, Any] | None = None,
    ) -> ExportReport:
        """Write features in the exact files that a recommender loads: ``mmfeat export --list``.

        Args:
            format: the format's name.
            out: a folder that is not there yet, or empty. It appears whole or not at all. Its name is
                what the target will call the dataset.
            features: role to feature, or the features to choose among; ``name`` or
                ``name@fingerprint``. All current ones that the format can hold when None.
            items: all items, those with interactions, or these, in this order.
            missing: ``mask``, ``mean``, ``zero``, ``drop`` or ``error``; the format's default when None.
            k_core: keep users and items with at least so many interactions, until all have.
            split: ``leave-one-out``, ``ratio:0.8,0.1,0.1`` or ``time:VALID,TEST``; the format's own
                default when None.
            seed: of everything that is drawn at random.
            shaping: features to join, cut, project or quantise first
                (:class:`mmfeat.export.Shaping`).
            unmatched: what to do with interactions whose item is not exported: count them in the
                manifest, or fail.
            options: the format's own options.

        Raises:
            UsageError: something that the target could not load, or that would be lost silently.
                Nothing is left behind.
        """
        from mmfeat.export import export_from

        return export_from(
            self._store,
            format,
            out,
            features=features,
            items=items,
            missing=missing,
            k_core=k_core,
            split=split,
            seed=seed,
            shaping=shaping,
            unmatched=unmatched,
            options=options,
        )

    def search(
        self,
        feature: str,
        *,
        vector: np.ndarray | None = None,
        text: str | None = None,
        image: str | Path | None = None,
        item: str | None = None,
        k: int = 10,
    ) -> list[Hit]:
        """The ``k`` items whose vectors are nearest by cosine, the nearest first.

        Args:
            vector: a query of the feature's dims; or
            text: read by the feature's own text encoder (CLIP's text tower for image features); or
            image: path or URL, read by the feature's own image encoder; or
            item: an item id, which is left out of the result.

        Raises:
            UsageError: not exactly one query, or one that the feature's encoder cannot read.
        """
        from mmfeat.store import refuse_unsearchable

        given = {"vector": vector, "text": text, "image": image, "item": item}
        if sum(value is not None for value in given.values()) != 1:
            raise UsageError(
                "A search needs exactly one of text, image, item and vector.",
                hint="For example --text 'a red kettle'.",
            )
        version = self._store.resolve(feature)
        refuse_unsearchable(version)
        if vector is None:
            vector = self._query(version, text, image, item)
        return self._store.search(version, vector, k, exclude=() if item is None else (item,))

    def _query(
        self, version: FeatureVersion, text: str | None, image: str | Path | None, item: str | None
    ) -> np.ndarray:
        if text is not None:
            return self._text_query(version.spec, text)
        if image is not None:
            return self._image_query(version.spec, str(image))
        return self._item_query(version, str(item))

    def _item_query(self, version: FeatureVersion, item: str) -> np.ndarray:
        column = self._store.lookup([item], [version.version])[version.name]
        if not column.mask[0]:
            why = f": {column.reason[0]}" if column.reason[0] else ""
            raise UsageError(f"Item {item!r} has no vector in {version.version} ({column.status[0]}{why}).")
        return np.asarray(column.matrix[0])

    def _text_query(self, spec: FeatureSpec, text: str) -> np.ndarray:
        if not text.strip():
            raise UsageError("The text to search for is empty.")
        try:
            return np.asarray(self._encoder(spec).encode_texts([text])[0])
        except NotImplementedError:
            raise UsageError(
                f"{spec.version} was made by {spec.method}, which reads no text.",
                hint="Search it by --image or --item, or search a CLIP or text feature.",
            ) from None

    def _image_query(self, spec: FeatureSpec, location: str) -> np.ndarray:
        if spec.image is None:
            raise UsageError(
                f"{spec.version} was made by {spec.method} from texts, and reads no image.",
                hint="Search it by --text or --item.",
            )
        from mmfeat.extract.media.image import render_image
        from mmfeat.extract.media.read import read_media
        from mmfeat.schemas.errors import ItemError

        limits = MediaLimits()
        place = location if "://" in location else str(Path(location).expanduser().absolute())
        try:
            data = read_media(place, limits.image_bytes).data
            frames = render_image(data, [spec.image.view], limits)[0]
        except ItemError as error:
            raise UsageError(f"Cannot search by {location}: {error.reason}.") from None
        return np.asarray(self._encoder(spec).encode_images(frames.pixels)[0])

    def _encoder(self, spec: FeatureSpec) -> Encoder:
        from mmfeat.extract.base import Encoder
        from mmfeat.extract.registry import load_model

        if spec.fingerprint not in self._encoders:
            model = load_model(spec, "cpu")
            assert isinstance(model, Encoder), f"{spec.version} is a vector feature"
            self._encoders[spec.fingerprint] = model
        return self._encoders[spec.fingerprint]

    def _status(self, version: FeatureVersion, current: Mapping[str, str], n_items: int) -> FeatureStatus:
        spec, counts = version.spec, self._store.counts(version)
        ok, missing, failed = (counts.get(s, 0) for s in (OK, MISSING, FAILED))
        return FeatureStatus(
            version=version.version,
            current=current.get(version.name) == version.fingerprint,
            source=spec.source,
            kind=spec.kind,
            dims=spec.dims,
            vectors=spec.vectors,
            model=spec.model,
            created=version.created,
            ok=ok,
            missing=missing,
            failed=failed,
            absent=max(0, n_items - ok - missing - failed),
        )
