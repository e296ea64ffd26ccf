"""The spec of a vector feature and the card of its model, from what every encoder has resolved for itself."""

from __future__ import annotations

from typing import Any

from mmfeat.extract.options import frame_sampling
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec, ModelCard

#: Options of every encoder.
COMMON_OPTIONS = ("normalize", "dtype", "store_dtype")
#: Options of every encoder where it reads pictures.
PICTURE_OPTIONS = ("crop", "jpeg")


def vector_spec(name: str, config: FeatureConfig, *, normalize: bool, **resolved: Any) -> FeatureSpec:
    """The spec of feature ``name``.

    Args:
        normalize: whether the model's usual use divides vectors by their length; the option wins.
        resolved: the fields of FeatureSpec that the encoder decides.
    """
    return FeatureSpec(
        name=name,
        source=config.source,
        output="vector",
        method=config.method,
        frames=frame_sampling(name, config),
        time_pooling="mean" if config.source == "video" else None,
        normalize=normalize if config.normalize is None else config.normalize,
        compute_dtype=config.dtype or "float32",
        store_dtype=config.store_dtype or "float32",
        **resolved,
    )


def card_of(spec: FeatureSpec, reads: tuple[str, ...], licence: str | None = None) -> ModelCard:
    """The card of a model that only its spec is known of; without a licence it says where to look."""
    view = spec.image.view if spec.image else None
    return ModelCard(
        method=spec.method,
        model=spec.model,
        reads=reads,
        dims=spec.dims,
        input_size=(view.height, view.width) if view else None,
        licence=licence or "see the model's own card",
        weights_from=f"{spec.weights.origin}: {spec.weights.ref}",
    )
