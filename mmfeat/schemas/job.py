"""A job: which dataset, which features, into which store. What ``mmfeat run JOB.toml`` reads."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, SerializeAsAny, ValidationInfo, field_validator, model_validator

from mmfeat.schemas.columns import ColumnConfigs
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.interactions import InteractionsConfig
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.server import ServerConfig, SpendingConfig, VllmConfig
from mmfeat.schemas.spec import FeatureConfig, FeatureName
from mmfeat.schemas.steps import configured
from mmfeat.schemas.validation import validated

# Settings are a few dozen lines; anything this large is a wrong path.
MAX_TOML_BYTES = 1 << 20

_MOST_PROCESSES, _MOST_THREADS, _MOST_ROWS_AT_ONCE = 1 << 16, 1 << 12, 1 << 20


class StoreConfig(Frozen):
    """``[store]``: a local folder or an object-store URI.

    Attributes:
        uri: the folder, or a URI such as ``s3://bucket/prefix``. A relative path starts from the file's
            folder.
    """

    uri: str


class DatasetConfig(Frozen):
    """``[dataset]``: the adapter's name, its root, its own options, and columns that it can't know of.

    Attributes:
        id: what tells the dataset from others, whatever its root, its form and its items; the adapter and
            the items tell it if none is given.
        interactions: a file of interactions, for adapters that know of none.
        name: the adapter, see ``mmfeat datasets list``.
        root: folder or file that the adapter reads.
        columns: columns that the adapter can't know of, by name.
        options: the adapter's own options.
    """

    name: str
    id: str | None = Field(default=None, min_length=1)
    root: str | None = None
    columns: ColumnConfigs = Field(default_factory=dict)
    interactions: InteractionsConfig | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("options")
    @classmethod
    def _without_columns(cls, options: dict[str, Any]) -> dict[str, Any]:
        if "columns" in options:
            raise ValueError("further columns have a table of their own, [dataset.columns]")
        return options

    @model_validator(mode="after")
    def _interactions_once(self) -> DatasetConfig:
        if self.interactions is not None and "interactions" in self.options:
            raise ValueError("interactions are named twice: here and under [dataset.options]")
        return self

    @property
    def said(self) -> dict[str, Any]:
        """The adapter's options, and its file of interactions where it is given one."""
        own = {} if self.interactions is None else {"interactions": self.interactions}
        return {**self.options, **own}


class Resources(Frozen):
    """``[resources]``: how the machine is used. Never changes a value; unset means measured here.

    Attributes:
        cpus, gpus: what Ray may use on this machine (ignored with ``ray_address``).
        workers: encoding processes per model group.
        threads: compute threads of each of them.
        batch_size: rows a model sees at a time, for every model.
        ray_address: a running cluster, e.g. ``ray://host:10001`` or ``auto``.
        executor: ``ray``, ``local`` (this process alone), or ``auto``: local where there is little to do.
    """

    cpus: int | None = Field(default=None, gt=0, le=_MOST_PROCESSES)
    gpus: int | None = Field(default=None, ge=0, le=_MOST_PROCESSES)
    workers: int | None = Field(default=None, gt=0, le=_MOST_PROCESSES)
    threads: int | None = Field(default=None, gt=0, le=_MOST_THREADS)
    batch_size: int | None = Field(default=None, gt=0, le=_MOST_ROWS_AT_ONCE)
    ray_address: str | None = None
    executor: Literal["auto", "local", "ray"] = "auto"


class RunOptions(Frozen):
    """``[run]``: when to start and what counts as done.

    Attributes:
        max_failed: share of failed rows above which the run stops with exit code 3.
        retry_failed: compute rows again that failed before on the same content.
        max_lost: share of what a store has (``ok`` rows of a feature, items, interactions) above which a
            run that would take it away stops before it writes, with exit code 3.
        add: put the dataset beside another one that the store has.
        replace: put the dataset in the place of all that the store has.
        accept_changed: go on where a model gives other values than when its version was begun, and put
            such rows beside the older ones.
        limit: only the first ``limit`` items of the dataset.
        wait_seconds: how long to wait for another process that is writing to the store. With 0 the
            run ends at once and says who is writing.
        refit: features that are fitted to others and are to be fitted anew, which makes new versions.
        estimate: compute a few contents of every feature alone, say what all of them would take, and stop.
    """

    max_failed: float = Field(default=0.05, ge=0, le=1)
    max_lost: float = Field(default=0.2, ge=0, le=1)
    add: bool = False
    replace: bool = False
    retry_failed: bool = False
    accept_changed: bool = False
    limit: int | None = Field(default=None, gt=0)
    wait_seconds: float = Field(default=0, ge=0, le=1e6)
    refit: tuple[str, ...] = ()
    estimate: bool = False

    @model_validator(mode="after")
    def _add_or_replace(self) -> RunOptions:
        if self.add and self.replace:
            raise ValueError(
                "add puts the dataset beside others and replace in their place: give one of them"
            )
        return self


class JobConfig(Frozen):
    """A whole job, as written in TOML.

    Attributes:
        steps: the settings of the steps that have a table (``[gates]``, ``[notify]``, ...), by table.
    """

    store: StoreConfig
    dataset: DatasetConfig
    features: dict[FeatureName, FeatureConfig] = Field(min_length=1)
    resources: Resources = Resources()
    limits: MediaLimits = MediaLimits()
    run: RunOptions = RunOptions()
    server: ServerConfig = ServerConfig()
    spending: SpendingConfig = SpendingConfig()
    vllm: VllmConfig = VllmConfig()
    steps: dict[str, SerializeAsAny[BaseModel]] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _read_steps(cls, data: Any, info: ValidationInfo) -> Any:
        """The tables that are not the job's own are its steps'."""
        if not isinstance(data, dict):
            return data
        own = [name for name in cls.model_fields if name != "steps"]
        where = info.context or {}
        steps = {
            key: configured(key, value, where, beside=own) for key, value in data.items() if key not in own
        }
        return {**{key: value for key, value in data.items() if key in own}, "steps": steps}


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; ConfigError when it is missing, no file, oversized or malformed."""
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path} is not a file.")
        if path.stat().st_size > MAX_TOML_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_TOML_BYTES >> 20} MiB: no file of settings.")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"There is no file {path}.", hint="Check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read {path}: {error}.") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply: no file of settings.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None


def parse_features(tables: Any, where: str) -> dict[str, FeatureConfig]:
    """``[features.NAME]`` tables to configurations; ConfigError names the table and the key."""
    return validated(_FeatureTables, {"features": tables}, where).features


def parse_job(data: dict[str, Any], where: str, base: Path | None = None) -> JobConfig:
    """A job from TOML tables. Relative paths are taken from ``base`` (the job file's folder)."""
    job = validated(JobConfig, data, where, {"where": where, "base": base})
    if base is None:
        return job
    store = job.store.model_copy(update={"uri": _from_base(job.store.uri, base)})
    root = job.dataset.root and _from_base(job.dataset.root, base)
    own = job.dataset.interactions and job.dataset.interactions.seen_from(base)
    dataset = job.dataset.model_copy(update={"root": root, "interactions": own})
    features = {name: config.model_copy(update={"base": base}) for name, config in job.features.items()}
    return job.model_copy(update={"store": store, "dataset": dataset, "features": features})


def load_job(path: Path) -> JobConfig:
    """The job in a TOML file, its relative paths resolved against the file's folder."""
    return parse_job(read_toml(path), str(path), base=path.resolve().parent)


def settings_of(path: Path) -> dict[str, dict[str, Any]]:
    """The tables of a job's file but its features, for a command whose flags go before what they say.

    Its root, its interactions and its store are absolute places. Tables other than these two are not checked.

    Raises:
        ConfigError: the file or one of these two is wrong.
    """
    tables = {name: table for name, table in read_toml(path).items() if name != "features"}
    base = path.resolve().parent
    for table, key in (("store", "uri"), ("dataset", "root")):
        own = tables.get(table)
        if isinstance(own, dict) and isinstance(place := own.get(key), str):
            tables[table] = {**own, key: _from_base(place, base)}
    if wrong := [name for name, table in tables.items() if not isinstance(table, dict)]:
        raise ConfigError(f"{path}: {wrong[0]} stands in no table.", hint="Put it below its [TABLE].")
    for name, model in (("store", StoreConfig), ("dataset", DatasetConfig)):
        if name in tables:
            checked = validated(model, tables[name], f"{path}: [{name}]")
            if isinstance(checked, DatasetConfig) and checked.interactions is not None:
                own = checked.interactions.seen_from(base).model_dump()
                tables[name] = {**tables[name], "interactions": own}
    return tables


class _FeatureTables(Frozen):
    features: dict[FeatureName, FeatureConfig] = Field(min_length=1)


def _from_base(location: str, base: Path) -> str:
    return location if "://" in location else str(base / Path(location).expanduser())
