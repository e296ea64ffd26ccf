"""A job: which dataset, which features, into which store. What ``mmfeat run JOB.toml`` reads."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.operations import GatesConfig, KeepConfig, NotifyConfig
from mmfeat.schemas.server import ServerConfig, SpendingConfig, VllmConfig
from mmfeat.schemas.spec import FeatureConfig, FeatureName

# Settings are a few dozen lines; anything this large is a wrong path.
MAX_TOML_BYTES = 1 << 20

_Model = TypeVar("_Model", bound=BaseModel)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StoreConfig(_Part):
    """``[store]``: a local folder or an object-store URI."""

    uri: str


class DatasetConfig(_Part):
    """``[dataset]``: the adapter's name, its root and its own options."""

    name: str
    root: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class Resources(_Part):
    """``[resources]``: how the machine is used. Never changes a value; unset means measured here.

    Attributes:
        cpus, gpus: what Ray may use on this machine (ignored with ``ray_address``).
        workers: encoding processes per model group.
        threads: compute threads of each of them.
        batch_size: rows a model sees at a time, for every model.
        ray_address: a running cluster, e.g. ``ray://host:10001`` or ``auto``.
    """

    cpus: int | None = Field(default=None, gt=0)
    gpus: int | None = Field(default=None, ge=0)
    workers: int | None = Field(default=None, gt=0)
    threads: int | None = Field(default=None, gt=0)
    batch_size: int | None = Field(default=None, gt=0)
    ray_address: str | None = None


class RunOptions(_Part):
    """``[run]``: when to start and what counts as done.

    Attributes:
        max_failed: share of failed rows above which the run stops with exit code 3.
        retry_failed: compute rows again that failed before on the same content.
        limit: only the first ``limit`` items of the dataset.
        wait_seconds: how long to wait for another process that is writing to the store. With 0 the
            run ends at once and says who is writing.
        estimate: compute a few captions alone, say what all of them would cost, and stop.
    """

    max_failed: float = Field(default=0.05, ge=0, le=1)
    retry_failed: bool = False
    limit: int | None = Field(default=None, gt=0)
    wait_seconds: float = Field(default=0, ge=0)
    estimate: bool = False


class JobConfig(_Part):
    """A whole job, as written in TOML."""

    store: StoreConfig
    dataset: DatasetConfig
    features: dict[FeatureName, FeatureConfig] = Field(min_length=1)
    resources: Resources = Resources()
    limits: MediaLimits = MediaLimits()
    run: RunOptions = RunOptions()
    server: ServerConfig = ServerConfig()
    spending: SpendingConfig = SpendingConfig()
    vllm: VllmConfig = VllmConfig()
    gates: GatesConfig = GatesConfig()
    notify: NotifyConfig | None = None
    keep: KeepConfig | None = None


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
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None


def parse_features(tables: Any, where: str) -> dict[str, FeatureConfig]:
    """``[features.NAME]`` tables to configurations; ConfigError names the table and the key."""
    return _validated(_FeatureTables, {"features": tables}, where).features


def parse_job(data: dict[str, Any], where: str, base: Path | None = None) -> JobConfig:
    """A job from TOML tables. Relative paths are taken from ``base`` (the job file's folder)."""
    job = _validated(JobConfig, data, where)
    if base is None:
        return job
    store = job.store.model_copy(update={"uri": _from_base(job.store.uri, base)})
    root = job.dataset.root and _from_base(job.dataset.root, base)
    dataset = job.dataset.model_copy(update={"root": root})
    features = {
        name: config.model_copy(
            update={
                key: str(base / value)
                # What a server calls a model is no path, whatever lies beside the job's file.
                for key in ("model", "prompt", "summary_prompt")
                if (value := getattr(config, key)) is not None
                and not (key == "model" and config.captioner == "openai")
                and (base / value).exists()
            }
        )
        for name, config in job.features.items()
    }
    gates = job.gates
    if gates.captions is not None:
        gates = gates.model_copy(update={"captions": _from_base(gates.captions, base)})
    return job.model_copy(update={"store": store, "dataset": dataset, "features": features, "gates": gates})


def load_job(path: Path) -> JobConfig:
    """The job in a TOML file, its relative paths resolved against the file's folder."""
    return parse_job(read_toml(path), str(path), base=path.resolve().parent)


class _FeatureTables(_Part):
    features: dict[FeatureName, FeatureConfig] = Field(min_length=1)


def _from_base(location: str, base: Path) -> str:
    return location if "://" in location else str(base / Path(location).expanduser())


def _validated(model: type[_Model], data: dict[str, Any], where: str) -> _Model:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"] if part != "[key]")
            lines.append(f"{key}: {problem['msg'].removeprefix('Value error, ')}")
        raise ConfigError(f"{where}: " + "; ".join(lines)) from None
