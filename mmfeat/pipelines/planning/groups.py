"""Which features are computed together: those that read a file together, so that it is decoded once."""

from __future__ import annotations

from collections.abc import Sequence

from mmfeat.extract import modalities
from mmfeat.schemas.spec import FeatureSpec


def media_columns_of(spec: FeatureSpec) -> tuple[str, ...]:
    """The columns of files that a feature reads, in the order of its inputs, each once."""
    return tuple(
        dict.fromkeys(
            one.key for one in spec.inputs if one.upstream is None and modalities.is_media(one.modality)
        )
    )


def groups_of(specs: Sequence[FeatureSpec]) -> list[str]:
    """The name of each feature's group.

    Features that share a file are of one group, also over others that share one with both, and so is a
    feature of several inputs with the features that it reads: it is computed beside them. A group of
    media is named by its columns, one of texts by what is read.
    """
    joined: list[set[str]] = []
    for spec in specs:
        media = set(media_columns_of(spec))
        if len(spec.inputs) > 1:
            by_name = {one.name: one for one in specs}
            media |= {c for name in spec.upstreams if name in by_name for c in _media_behind(name, by_name)}
        if media:
            touching = [one for one in joined if one & media]
            joined = [one for one in joined if not one & media] + [media.union(*touching)]
    return [_name(spec, joined) for spec in specs]


def _media_behind(name: str, by_name: dict[str, FeatureSpec]) -> set[str]:
    """The columns of files behind a feature, through all that it reads."""
    spec = by_name[name]
    found = set(media_columns_of(spec))
    for upstream in spec.upstreams:
        if upstream in by_name:
            found |= _media_behind(upstream, by_name)
    return found


def _name(spec: FeatureSpec, joined: Sequence[set[str]]) -> str:
    media = media_columns_of(spec)
    for columns in joined:
        if columns & set(media):
            return "+".join(sorted(columns))
    return "+".join(dict.fromkeys(one.key for one in spec.inputs))
