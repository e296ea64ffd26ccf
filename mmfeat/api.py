"""The public Python API: extract features, open a store, look up and search what is in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mmfeat.schemas.errors import ConfigError, UsageError
from mmfeat.schemas.featureset import FAILED, MISSING, OK, FeatureSet
from mmfeat.schemas.job import JobConfig, load_job, parse_job, read_toml
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec

if TYPE_CHECKING:
    import pyarrow as pa

    from mmfeat.extract.base import Encoder
    from mmfeat.pipelines.progress import Reporter
    from mmfeat.pipelines.quantize import QuantizeReport
    from mmfeat.pipelines.run import RunReport
    from mmfeat.store import FeatureVersion, Hit, Store

DEFAULT_STORE = "features"
DEFAULT_PRESET = "offline"


def extract(
    dataset: str,
    root: str | Path | None = None,
    *,
    store: str = DEFAULT_STORE,
    preset: str | None = None,
    features: Mapping[str, FeatureConfig | Mapping[str, Any]] | None = None,
    dataset_options: Mapping[str, Any] | None = None,
    reporter: Reporter | None = None,
    **tables: Mapping[str, Any],
) -> RunReport:
    """Bring ``store`` up to date with a dataset. Computes only what is missing or changed.

    Args:
        dataset: adapter name, see ``mmfeat datasets list``.
        root: the dataset's folder or file.
        store: local folder or object-store URI; made when it is not there.
        preset: a named set of features; ``offline`` when ``features`` is not given either.
        features: name to configuration, as in a job file's ``[features.NAME]`` tables.
        dataset_options: the adapter's own options.
        reporter: told how the run goes; silent by default.
        tables: further tables of a job file: ``resources``, ``limits``, ``run``.

    Raises:
        UsageError: the job cannot be carried out as written.
        GateFailed: more rows failed than ``run.max_failed`` allows.
    """
    job = make_job(
        dataset,
        root,
        store=store,
        preset=preset,
        features=features,
        dataset_options=dataset_options,
        **tables,
    )
    return run(job, reporter)


def make_job(
    dataset: str,
    root: str | Path | None = None,
    *,
    store: str = DEFAULT_STORE,
    preset: str | None = None,
    features: Mapping[str, FeatureConfig | Mapping[str, Any]] | None = None,
    dataset_options: Mapping[str, Any] | None = None,
    **tables: Mapping[str, Any],
) -> JobConfig:
    """The job that :func:`extract` runs; ConfigError where a setting is wrong."""
    from mmfeat import presets

    if preset is not None and features is not None:
        raise ConfigError("Give a preset or features, not both.")
    chosen = features if features is not None else presets.load(preset or DEFAULT_PRESET)
    plain = {
        n: c.model_dump(exclude_none=True) if isinstance(c, FeatureConfig) else dict(c)
        for n, c in chosen.items()
    }
    where = {
        "name": dataset,
        "root": None if root is None else str(root),
        "options": dict(dataset_options or {}),
    }
    data = {"store": {"uri": store}, "dataset": where, "features": plain, **tables}
    return parse_job(data, "this call")


def run(job: JobConfig | str | Path, reporter: Reporter | None = None) -> RunReport:
    """Run a job, given as such or as the path of its TOML file. Safe to start again at any moment."""
    from mmfeat.pipelines.run import run_job

    return run_job(job if isinstance(job, JobConfig) else load_job(Path(job)), reporter)


def quantize(
    feature: str,
    *,
    store: str = DEFAULT_STORE,
    name: str | None = None,
    method: str = "residual_kmeans",
    levels: int = 3,
    codebook_size: int = 256,
    seed: int = 0,
    collision_level: bool = False,
) -> QuantizeReport:
    """Turn a vector feature of ``store`` into semantic ids, a feature of its own.

    See :func:`mmfeat.pipelines.quantize.quantize` for the arguments.
    """
    from mmfeat.pipelines import quantize as pipeline

    return pipeline.quantize(
        store,
        feature,
        name=name,
        method=method,
        levels=levels,
        codebook_size=codebook_size,
        seed=seed,
        collision_level=collision_level,
    )


def load_features(path: str | Path) -> dict[str, FeatureConfig]:
    """The ``[features.NAME]`` tables of a TOML file: what ``mmfeat extract --config`` takes."""
    from mmfeat.schemas.job import parse_features

    return parse_features(read_toml(Path(path)).get("features"), str(path))


def open(uri: str | Path) -> FeatureStore:
    """Open a store to read it.

    Raises:
        StoreError: there is no store at ``uri``.
    """
    from mmfeat.store import Store

    return FeatureStore(Store.open(str(uri)))


@dataclass(frozen=True)
class FeatureStatus:
    """One feature version in a store.

    Attributes:
        version: ``name@fingerprint``.
        current: whether the name alone means this version.
        kind: ``vector``, ``caption`` (by a multimodal LLM) or ``tags``.
        ok, missing, failed: items by status; ``absent``: catalog items without a row.
    """

    version: str
    current: bool
    source: str
    kind: str
    dims: int | None
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
            A :class:`FeatureSet`: per feature one ``[n, dims]`` array (or list of texts), one mask,
            the status of each row and the spec.

        Raises:
            UnknownItems, UnknownFeature.
        """
        return self._store.lookup(ids, features, unknown=unknown)

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
        given = {"vector": vector, "text": text, "image": image, "item": item}
        if sum(value is not None for value in given.values()) != 1:
            raise UsageError(
                "A search needs exactly one of text, image, item and vector.",
                hint="For example --text 'a red kettle'.",
            )
        version = self._store.resolve(feature)
        if version.spec.output != "vector":
            raise UsageError(
                f"{version.version} holds {_plural(version.spec)}, which have no distance.",
                hint="Search a vector feature: `mmfeat status` lists them.",
            )
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
            model=spec.model,
            created=version.created,
            ok=ok,
            missing=missing,
            failed=failed,
            absent=max(0, n_items - ok - missing - failed),
        )


def _plural(spec: FeatureSpec) -> str:
    return "texts" if spec.output == "text" else spec.output


def select_features(configs: Mapping[str, FeatureConfig], names: Collection[str]) -> dict[str, FeatureConfig]:
    """Those of ``configs`` that are named, and the features they read.

    Raises:
        ConfigError: a name that is not among them.
    """
    if unknown := [name for name in names if name not in configs]:
        raise ConfigError(
            f"There is no feature {unknown[0]!r} in this job.", hint=f"There are: {', '.join(configs)}."
        )
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            if configs[name].source in configs:
                waiting.append(configs[name].source)
    return {name: config for name, config in configs.items() if name in wanted}
