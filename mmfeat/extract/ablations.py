"""The features that show what each modality gives a joint one: ``ablate = true``."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from mmfeat.extract.base import Method, Resolvable
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.inputs import Input
from mmfeat.schemas.spec import FeatureSpec


def ablations_of(
    spec: FeatureSpec, method: type[Resolvable], taken: Collection[str]
) -> Iterator[FeatureSpec]:
    """The features that read the inputs of each modality alone, all else as it is, in the order of inputs.

    They are called by the modality: ``item_text`` and ``item_image`` of ``item``.

    Args:
        taken: names that others have.

    Raises:
        ConfigError: there is one modality, the model cannot take one of them alone, or a name is taken.
    """
    if not issubclass(method, Method) or spec.form not in ("vector", "tokens"):
        raise ConfigError(f"feature {spec.name!r}: ablate is for encoders", hint="Leave it out.")
    if len(spec.modalities) < 2:
        what = "one input" if len(spec.given) < 2 else "inputs of one modality"
        raise ConfigError(
            f"feature {spec.name!r}: ablate compares modalities, and {what} leaves nothing to compare",
            hint='Leave it out, or read more: inputs = ["title", "cover"].',
        )
    for modality in spec.modalities:
        name = f"{spec.name}_{modality}"
        if name in taken:
            raise ConfigError(
                f"feature {spec.name!r}: ablate makes a feature {name!r}, and there is one of that name",
                hint="Rename that one.",
            )
        ablated = method.ablated(spec, _alone(spec, modality))
        yield ablated.model_copy(update={"name": name, "ablates": spec.fingerprint})


def _alone(spec: FeatureSpec, modality: str) -> tuple[Input, ...]:
    """The inputs of one modality, and what a prompt names. An item that lacks the only one has no value."""
    mine = [one for one in spec.inputs if one.modality == modality and not one.named]
    if len(mine) == 1:
        mine = [mine[0].model_copy(update={"optional": False})]
    return (*mine, *(one for one in spec.inputs if one.named))
