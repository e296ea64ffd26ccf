"""The public Python API: extract features, and open a store (see :mod:`mmfeat.feature_store`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmfeat.feature_store import FeatureStore, opened
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.job import JobConfig, RunOptions, parse_job, read_toml
from mmfeat.schemas.spec import FeatureConfig
from mmfeat.schemas.validation import listed, validated

if TYPE_CHECKING:
    import numpy as np

    from mmfeat.pipelines.imports import ImportReport
    from mmfeat.pipelines.progress import Reporter
    from mmfeat.pipelines.quantize import QuantizeReport
    from mmfeat.pipelines.run_report import RunReport

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
    dataset_columns: Mapping[str, Any] | None = None,
    dataset_id: str | None = None,
    reporter: Reporter | None = None,
    **tables: Any,
) -> RunReport:
    """Bring ``store`` up to date with a dataset. Computes only what is missing or changed.

    Args:
        dataset: adapter name, see ``mmfeat datasets list``.
        root: the dataset's folder or file.
        store: local folder or object-store URI; made when it is not there.
        preset: a named set of features; ``offline`` when ``features`` is not given either.
        features: name to configuration, as in a job file's ``[features.NAME]`` tables.
        dataset_options: the adapter's own options.
        dataset_columns: columns that the adapter can't know of: name to modality (``image``), or to
            ``{"modality": "image", "from": "Photo files"}`` where the dataset calls it something else.
        dataset_id: tells the dataset from others, whatever its root, form and items.
        reporter: told how the run goes; silent by default.
        tables: further tables of a job file: ``resources``, ``limits``, ``run``, ``server``, ``spending``.

    Raises:
        UsageError: the job cannot be carried out as written.
        GateFailed: more rows failed than ``run.max_failed`` allows, or the store would lose more than
            ``run.max_lost`` allows.
    """
    job = make_job(
        dataset,
        root,
        store=store,
        preset=preset,
        features=features,
        dataset_options=dataset_options,
        dataset_columns=dataset_columns,
        dataset_id=dataset_id,
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
    dataset_columns: Mapping[str, Any] | None = None,
    dataset_id: str | None = None,
    where: str = "this call",
    **tables: Any,
) -> JobConfig:
    """The job that :func:`extract` runs; ConfigError where a setting is wrong, of what ``where`` names."""
    from mmfeat import presets

    if preset is not None and features is not None:
        raise ConfigError("Give a preset or features, not both.")
    if features is not None and not isinstance(features, Mapping):
        raise ConfigError(
            f"features are tables by their names, and {features!r} is a {type(features).__name__}.",
            hint='Write {"NAME": {"source": ..., "encoder": ...}}, or name a set of them: preset="small".',
        )
    chosen = features if features is not None else presets.load(preset or DEFAULT_PRESET)
    plain = {
        n: {**c.table(), "base": c.base} if isinstance(c, FeatureConfig) else c for n, c in chosen.items()
    }
    own = {
        "name": dataset,
        "root": None if root is None else str(root),
        "options": dataset_options or {},
        "columns": dataset_columns or {},
        "id": dataset_id,
    }
    data = {"store": {"uri": store}, "dataset": own, "features": plain, **tables}
    return parse_job(data, where)


def run(
    job: JobConfig | str | Path,
    reporter: Reporter | None = None,
    *,
    refit: Collection[str] = (),
    executor: str | None = None,
    **options: Any,
) -> RunReport:
    """Run a job, given as such or as the path of its TOML file. Safe to start again at any moment.

    Args:
        refit: features of the job that are fitted to others and are to be fitted anew, beside those that
            its ``[run]`` names.
        executor: ``auto``, ``local`` or ``ray``, in the place of what its ``[resources]`` say.
        options: keys of its ``[run]``, in the place of what it says there: ``add``, ``max_lost``, ...

    Raises:
        UsageError: the job cannot be carried out as written.
        GateFailed: more rows failed than ``run.max_failed`` allows, the store would lose more than
            ``run.max_lost`` allows, or a gate fell short.
    """
    from mmfeat.pipelines.run import run_job
    from mmfeat.pipelines.steps.notify import load_or_notify

    loaded = job if isinstance(job, JobConfig) else load_or_notify(Path(job))
    said = {**loaded.run.model_dump(), **options, "refit": (*loaded.run.refit, *listed(refit, "feature"))}
    wanted = validated(RunOptions, said, "[run] of this call")
    resources = loaded.resources.model_copy(update={} if executor is None else {"executor": executor})
    return run_job(loaded.model_copy(update={"run": wanted, "resources": resources}), reporter)


def quantize(
    feature: str | Sequence[str],
    *,
    store: str = DEFAULT_STORE,
    name: str | None = None,
    method: str = "residual_kmeans",
    refit: bool = False,
    **options: Any,
) -> QuantizeReport:
    """Turn a vector feature of ``store``, or several together, into semantic ids, a feature of its own.

    See :func:`mmfeat.pipelines.quantize.quantize` for the arguments.
    """
    from mmfeat.pipelines import quantize as pipeline

    return pipeline.quantize(store, feature, name=name, method=method, refit=refit, **options)


def import_vectors(
    name: str, vectors: str | Path | np.ndarray, *, store: str = DEFAULT_STORE, **settings: Any
) -> ImportReport:
    """Take vectors that others made into ``store``, as a version of the feature ``name``.

    See :func:`mmfeat.pipelines.imports.import_vectors` for the settings: ``ids``, ``rows``, ``feature``, ...
    """
    from mmfeat.pipelines import imports

    return imports.import_vectors(store, name, vectors, **settings)


def load_features(path: str | Path) -> dict[str, FeatureConfig]:
    """The ``[features.NAME]`` tables of a TOML file: what ``mmfeat extract --config`` takes."""
    from mmfeat.schemas.job import parse_features

    return parse_features(read_toml(Path(path)).get("features"), str(path))


def open(uri: str | Path, snapshot: str | None = None) -> FeatureStore:
    """Open a store to read it, as it goes on or as it was when ``snapshot`` was created.

    Raises:
        StoreError: there is no store at ``uri``.
        UsageError: it has no such snapshot.
    """
    from mmfeat.store import was_forked

    if was_forked():
        return FeatureStore.by_proxy(str(uri), snapshot)
    return FeatureStore(opened(str(uri), snapshot))


def select_features(configs: Mapping[str, FeatureConfig], names: Collection[str]) -> dict[str, FeatureConfig]:
    """Those of ``configs`` that are named, and the features they read.

    Raises:
        ConfigError: a name that is not among them.
    """
    waiting = listed(names, "feature")
    if unknown := [name for name in waiting if name not in configs]:
        raise ConfigError(
            f"There is no feature {unknown[0]!r} in this job.", hint=f"There are: {', '.join(configs)}."
        )
    wanted: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting.extend(source for source in configs[name].sources if source in configs)
    return {name: config for name, config in configs.items() if name in wanted}
