"""Whether a model's weights are those of its files: none missing, and none left over that it should have.

Libraries fill in what a file lacks with random numbers or zeros, and leave out what they have no place for,
with a warning at most. The rule here:

- a weight that the files lack is refused, unless nothing that is read depends on it (a pooler's, where tokens
  are pooled otherwise);
- a weight that is left over is refused where it belongs to a layer that the model has, or to one more of a
  list of layers. Heads, decoders and towers of which the model has no layer are left out, as they should be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.spec import FeatureSpec

if TYPE_CHECKING:
    import torch

# Two threads that load at once would each put back what the other had replaced.
_REPLACING = RLock()


@dataclass(frozen=True)
class Loaded:
    """What a library says of a model that it has loaded: names of weights.

    Attributes:
        missing, unexpected: that the files lack, and that they have without need.
        in_files: all that the files have, where their names are not those of the model.
    """

    model: torch.nn.Module
    missing: Sequence[str]
    unexpected: Sequence[str]
    in_files: frozenset[str] = frozenset()

    @classmethod
    def by_transformers(cls, model: Any, report: dict[str, Any], folder: Path) -> Loaded:
        """Of ``from_pretrained(folder, output_loading_info=True)``, which renames weights of old files."""
        names = frozenset(name for file in folder.glob("*.safetensors") for name in _names_in(file))
        return cls(model, sorted(report["missing_keys"]), sorted(report["unexpected_keys"]), names)


def check_loaded(spec: FeatureSpec, loaded: Loaded, unused: Sequence[str] = ()) -> None:
    """Check by the rule of this module.

    Args:
        unused: parts of names of weights that nothing reads.

    Raises:
        ConfigError: weights are missing or left over.
    """
    if missing := [key for key in loaded.missing if not any(part in key for part in unused)]:
        raise ConfigError(
            f"feature {spec.name!r}: the weights of {spec.model!r} lack {_some(missing)}; "
            "they would be random or zero",
            hint="Its files are of another model, or the installed library reads them otherwise.",
        )
    if strange := [key for key in loaded.unexpected if _belongs(loaded, key)]:
        raise ConfigError(
            f"feature {spec.name!r}: layers of {spec.model!r} have no place for weights that it has: "
            f"{_some(strange)}",
            hint="Its config.json is of another model, or the installed library builds it otherwise.",
        )


@contextmanager
def transformers_reports() -> Iterator[list[Loaded]]:
    """What transformers loads while this holds, for a library that calls it and keeps its report back."""
    from transformers import PreTrainedModel

    found: list[Loaded] = []
    with _REPLACING:
        plain = PreTrainedModel.__dict__["from_pretrained"]

        def reporting(cls: Any, *args: Any, **options: Any) -> Any:
            asked = options.pop("output_loading_info", False)
            model, report = plain.__func__(cls, *args, output_loading_info=True, **options)
            found.append(Loaded.by_transformers(model, report, Path(args[0])))
            return (model, report) if asked else model

        PreTrainedModel.from_pretrained = classmethod(reporting)  # type: ignore[method-assign,assignment]
        try:
            yield found
        finally:
            PreTrainedModel.from_pretrained = plain  # type: ignore[method-assign]


@contextmanager
def torch_reports() -> Iterator[list[Loaded]]:
    """What torch loads while this holds, for a library that does not look at what was missing."""
    import torch

    found: list[Loaded] = []
    with _REPLACING:
        plain = torch.nn.Module.load_state_dict

        def reporting(self: torch.nn.Module, *args: Any, **options: Any) -> Any:
            report = plain(self, *args, **options)
            found.append(Loaded(self, report.missing_keys, report.unexpected_keys))
            return report

        torch.nn.Module.load_state_dict = reporting  # type: ignore[method-assign]
        try:
            yield found
        finally:
            torch.nn.Module.load_state_dict = plain  # type: ignore[method-assign]


def _belongs(loaded: Loaded, key: str) -> bool:
    """Whether a weight is one of a layer of the model, or of one more in a list of its layers."""
    if not any(word in key.rpartition(".")[2] for word in ("weight", "bias")):
        # Counters, and indices that older versions kept.
        return False
    return _has_layer_of(loaded.model, key) or _stands_beside_others(loaded, key)


def _has_layer_of(model: torch.nn.Module, key: str) -> bool:
    import torch

    layers = dict(model.named_modules())
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    for name in {key, key.removeprefix(prefix)}:
        owner = name.rpartition(".")[0]
        # What was taken out of a model leaves an Identity.
        if owner and owner in layers and not isinstance(layers[owner], torch.nn.Identity):
            return True
        while owner and owner not in layers:
            owner = owner.rpartition(".")[0]
        if owner and isinstance(layers[owner], torch.nn.ModuleList):
            return True
    return False


def _stands_beside_others(loaded: Loaded, key: str) -> bool:
    """Whether the files have weights of the same layer, or of its like, that the model has got."""
    others, owner = loaded.in_files.difference(loaded.unexpected), key.rpartition(".")[0]
    if owner and any(other.startswith(f"{owner}.") for other in others):
        return True
    return _of_any_number(key) in map(_of_any_number, others)


def _of_any_number(key: str) -> str:
    return re.sub(r"\.\d+\.", ".#.", key)


def _names_in(file: Path) -> list[str]:
    """Of the weights of a safetensors file."""
    from safetensors import safe_open

    with safe_open(file, "pt") as weights:
        return list(weights.keys())


def _some(keys: Sequence[str]) -> str:
    return f"{keys[0]} and {len(keys) - 1} more"
