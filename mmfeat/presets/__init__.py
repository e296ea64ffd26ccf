"""Named sets of features: the TOML files beside this one. A new preset is one new file."""

from __future__ import annotations

from pathlib import Path

from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.job import parse_features, read_toml
from mmfeat.schemas.spec import FeatureConfig
from mmfeat.schemas.validation import near

_HERE = Path(__file__).parent


def names() -> dict[str, str]:
    """Every preset's name and what it is for (the comment at the head of its file), sorted by name."""
    return {path.stem: _description(path) for path in sorted(_HERE.glob("*.toml"))}


def load(name: str) -> dict[str, FeatureConfig]:
    """The features of preset ``name``.

    Raises:
        ConfigError: there is no such preset.
    """
    path = path_of(name)
    return parse_features(read_toml(path).get("features"), str(path))


def path_of(name: str) -> Path:
    """The file of preset ``name``; ConfigError if there is none."""
    known = names()
    if name not in known:
        raise ConfigError(
            f"There is no preset {name!r}.", hint=f"{near(name, known)}There are: {', '.join(known)}."
        )
    return _HERE / f"{name}.toml"


def _description(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
