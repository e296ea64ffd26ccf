"""The spec of a vector feature and the card of its model, from what every encoder has resolved for itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from mmfeat.extract.base import Ask
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.inputs import ImagePrepare, Input
from mmfeat.schemas.outputs import Output, TokenDtype, TokensOut, VectorOut, VectorsOut
from mmfeat.schemas.spec import ComputeDtype, FeatureSpec, ModelCard, Pooling, Weights


class VectorSettings(Frozen):
    """What decides an encoder's vectors beside its inputs: the options of a resolved spec.

    Attributes:
        time_pooling: how frames' vectors become a clip's, or a scene's.
        vector_per: what of a clip has a vector of its own: a ``frame`` or a ``scene``; None for the whole.
        pooling, layer: what is read of a model's tokens; None if the model decides.
        truncate_dim: how many of a vector's first numbers are kept; None for all of them.
        trusted_code: which code of the model's own computes them; None if a library's does.
        takes: what the model takes, where a feature can read anything of it; None if its inputs say it.
        item_prompt, query_prompt: what is put before items and before what they are searched by; None if
            the inputs or the model's files say it.
    """

    normalize: bool = False
    compute_dtype: ComputeDtype = "float32"
    time_pooling: str | None = None
    vector_per: Literal["frame", "scene"] | None = None
    pooling: Pooling | None = None
    layer: int | None = None
    truncate_dim: int | None = None
    trusted_code: str | None = None
    takes: tuple[str, ...] | None = None
    item_prompt: str | None = None
    query_prompt: str | None = None


def vector_spec(
    ask: Ask[Any],
    read: Input,
    *,
    model: str,
    weights: Weights,
    normalize: bool,
    dims: int,
    vectors: int | None = None,
    many: bool = False,
    method_version: int = 1,
    **settings: Any,
) -> FeatureSpec:
    """The spec of a feature of one input.

    Args:
        normalize: whether the model's usual use divides vectors by their length; the option wins.
        vectors: how many vectors an item has; None for one.
        many: whether the model gives any number of them.
        method_version: see :class:`~mmfeat.schemas.spec.FeatureSpec`.
        settings: further fields of :class:`VectorSettings`.
    """
    options = ask.options
    several = isinstance(read.prepare, ImagePrepare) and read.prepare.several is not None
    vector_per = getattr(options, "vector_per", None)
    pooled = read.modality == "video" and vector_per != "frame"
    each = many or vector_per is not None
    if several and options.pictures == "each":
        if vectors is not None:
            raise ask.error("a picture has several vectors", 'Take pictures = "mean" or "first".')
        each = True
    if vector_per is not None and vectors is not None:
        raise ask.error("a frame has several vectors", "Leave vector_per out for their means.")
    resolved = VectorSettings(
        normalize=normalize if options.normalize is None else options.normalize,
        compute_dtype=getattr(options, "dtype", None) or "float32",
        vector_per=vector_per,
        **{"time_pooling": "mean" if pooled else None, **settings},
    )
    return ask.spec(
        inputs=(read,),
        output=output_of(ask, dims, vectors, each),
        model=model,
        weights=weights,
        method_version=method_version,
        options=resolved.model_dump(mode="json"),
    )


def output_of(ask: Ask[Any], dims: int, vectors: int | None = None, each: bool = False) -> Output:
    """What an item gets: one vector, or more, in the number type that the options ask for.

    Args:
        vectors: a fixed number of them.
        each: whether it has any number of them.

    Raises:
        ConfigError: int8 for a vector or a fixed number of them.
    """
    dtype: TokenDtype = ask.options.store_dtype or "float32"
    if each:
        return TokensOut(dims=dims, dtype=dtype)
    if dtype == "int8":
        raise ask.error(
            'store_dtype = "int8" goes with any number of vectors per item (of tokens, frames or pictures)',
            'Take "float16" for one.',
        )
    if vectors is not None:
        return VectorsOut(count=vectors, dims=dims, dtype=dtype)
    return VectorOut(dims=dims, dtype=dtype)


def settings_of(spec: FeatureSpec) -> VectorSettings:
    """The settings of a spec that :func:`vector_spec` made."""
    return spec.settings(VectorSettings)


def card_of(spec: FeatureSpec, reads: Sequence[str], licence: str | None = None) -> ModelCard:
    """The card of a model that only its spec is known of; without a licence it says where to look."""
    view = spec.pixels.view if spec.pixels else None
    return ModelCard(
        method=spec.method,
        model=spec.model,
        reads=tuple(reads),
        dims=spec.dims,
        # Within a bound pictures have sizes of their own.
        input_size=(view.height, view.width) if view and view.mode != "bound" else None,
        licence=licence or "see the model's own card",
        weights_from=f"{spec.weights.origin}: {spec.weights.ref}",
    )
