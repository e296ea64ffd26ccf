"""A request's shaping, carried out: which features it needs, and what is done to them in which order."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

import pyarrow as pa

from mmfeat.export import select
from mmfeat.export.composing import compose
from mmfeat.export.request import Request, Shaping, name_of, refs_of
from mmfeat.schemas.composed import composed_text
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import FeatureSet

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def shape(features: FeatureSet, items: pa.Table, request: Request) -> FeatureSet:
    """The features that ``request`` chooses among, with its shaping done.

    Args:
        items: the catalog, whose fields texts may name.

    Raises:
        UsageError: a feature or a number of dims that there is not, a name that a joined feature
            cannot have, or something to be done to a feature that is not exported.
    """
    shaping = request.shaping
    if shaping is None:
        return features
    chosen = unasked(features, shaping) if request.features is None else refs_of(request.features)
    needed(chosen, shaping, features)
    for name, template in shaping.text.items():
        features = compose(features, items, template, name)
    for name in [*features, *shaping.join]:
        if name in shaping.join:
            features = select.join(features, [name_of(ref) for ref in shaping.join[name]], name)
        if name in shaping.cut:
            features = select.cut(features, name, shaping.cut[name])
        if name in shaping.project:
            features = select.project(features, name, shaping.project[name])
    for name in shaping.quantize:
        features = select.quantize(features, name)
    if request.features is None:
        return FeatureSet(features.ids, {name: features[name] for name in chosen})
    return features


def unasked(names: Iterable[str], shaping: Shaping) -> list[str]:
    """What is exported of the features ``names`` if none is asked for: joined ones replace their parts,
    and composed texts stand beside theirs."""
    parts = {name_of(ref) for refs in shaping.join.values() for ref in refs}
    return [*(name for name in names if name not in parts), *shaping.join, *shaping.text]


def needed(chosen: Sequence[str], shaping: Shaping, known: Collection[str]) -> list[str]:
    """The features, as they are called in ``chosen``, in joins and in texts, of which those chosen are made.

    Args:
        known: names of features; what else a text names is a field.

    Raises:
        UsageError: a name that a joined feature cannot have, or something to be done to a feature that
            is not exported.
    """
    wanted = list(chosen)
    for name, parts in reversed(list(shaping.join.items())):
        _check_new_name(name, parts)
        if name in wanted:
            wanted += parts
    for name, template in shaping.text.items():
        _check_new_name(name, ())
        if name in wanted:
            wanted += [part for part in composed_text(template).names if part in known]
    _refuse_idle(shaping, {name_of(ref) for ref in wanted})
    made = {*shaping.join, *shaping.text}
    return list(dict.fromkeys(ref for ref in wanted if ref not in made))


def _refuse_idle(shaping: Shaping, exported: Collection[str]) -> None:
    """UsageError for something that would be done to a feature which is not exported."""
    named = {
        "text": list(shaping.text),
        "join": list(shaping.join),
        "cut": list(shaping.cut),
        "project": list(shaping.project),
        "quantize": list(shaping.quantize),
    }
    for step, names in named.items():
        if idle := [name for name in names if name not in exported]:
            raise UsageError(
                f"--{step} is about {idle[0]!r}, which is not exported.",
                hint=f"Exported are: {', '.join(sorted(exported))}.",
            )


def _check_new_name(name: str, parts: Sequence[str]) -> None:
    if name in map(name_of, parts):
        raise UsageError(f"A join cannot be called {name!r}, as one of its parts.", hint="Rename it.")
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"A feature cannot be called {name!r}.",
            hint="Names are made of a-z, 0-9 and _, start with a letter and have up to 63 characters.",
        )
