"""Which feature goes where in an export."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mmfeat.export.base import Exporter, Kind, Role
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import FeatureColumn, FeatureSet
from mmfeat.schemas.spec import FeatureSpec


def assign(
    exporter: Exporter,
    features: FeatureSet,
    chosen: Mapping[str, str] | Sequence[str] | None,
    force: bool = False,
) -> dict[str, str]:
    """Role to feature name, in the order of the format's roles.

    Args:
        chosen: role to feature; or the features to choose among; None for all of the set.
        force: whether pictures may stand for sounds, and sounds for pictures.

    Raises:
        UsageError: an unknown role or feature, a feature of the wrong kind, a role that no feature
            or more than one fits, pictures for sounds.
    """
    names = list(features) if chosen is None else list(dict.fromkeys(_values(chosen)))
    if unknown := [name for name in names if name not in features]:
        raise UsageError(f"There is no feature {unknown[0]!r}.", hint=f"There are: {', '.join(features)}.")
    if not exporter.roles:
        return _by_name(exporter, features, chosen, names)
    if isinstance(chosen, Mapping):
        taken = _by_role(exporter, features, chosen, force)
    else:
        taken = _guess(exporter, features, names)
    _complete(exporter, features, taken)
    return {role.name: taken[role.name] for role in exporter.roles if role.name in taken}


def kind_of(column: FeatureColumn) -> Kind:
    """What a feature holds, in the words of :class:`Role`."""
    if column.spec.form == "vector":
        return "vectors" if column.matrix.ndim == 3 else "vector"
    return column.spec.form


def is_quantized(column: FeatureColumn) -> bool:
    """Whether the values are integers that a scale turns back into numbers."""
    return any(step.op == "quantize" for step in column.steps)


def medium_of(column: FeatureColumn) -> str:
    """``image`` (clips too), ``audio`` or ``text``: what a feature was read from. Captions are texts.

    ``mixed`` where it was read, or joined of features that were read, from several of these.
    """
    joined = [spec for step in column.steps for spec in step.inputs]
    media = {medium for spec in joined or [column.spec] for medium in _media(spec)}
    return media.pop() if len(media) == 1 else "mixed"


def _media(spec: FeatureSpec) -> set[str]:
    pictures, sounds = ("image", "video"), ("audio",)
    return {
        "image" if modality in pictures else "audio" if modality in sounds else "text"
        for modality in spec.modalities
    }


def _values(chosen: Mapping[str, str] | Sequence[str]) -> list[str]:
    return list(chosen.values()) if isinstance(chosen, Mapping) else list(chosen)


def _by_name(
    exporter: Exporter,
    features: FeatureSet,
    chosen: Mapping[str, str] | Sequence[str] | None,
    names: list[str],
) -> dict[str, str]:
    if isinstance(chosen, Mapping):
        raise UsageError(
            f"{exporter.name} takes features under their own names and has no {next(iter(chosen), '')!r}.",
            hint="Give the features' names only.",
        )
    fitting = [name for name in names if kind_of(features[name]) in exporter.kinds]
    if chosen is not None and (left := [name for name in names if name not in fitting]):
        raise UsageError(
            f"{exporter.name} holds {' and '.join(exporter.kinds)} features, and {left[0]} is of the kind"
            f" {kind_of(features[left[0]])}.",
            hint="Leave it out, or choose the parquet format, which holds every kind.",
        )
    if "item_id" in fitting:
        raise UsageError("A feature called item_id would hide the items' ids.", hint="Leave it out.")
    if len(fitting) < exporter.min_features:
        raise UsageError(
            f"There is no {' or '.join(exporter.kinds)} feature to export.",
            hint="Choose another format, or extract one: `mmfeat export --list` says what each takes.",
        )
    return {name: name for name in fitting}


def _by_role(
    exporter: Exporter, features: FeatureSet, chosen: Mapping[str, str], force: bool
) -> dict[str, str]:
    roles = {role.name: role for role in exporter.roles}
    for name, feature in chosen.items():
        if name not in roles:
            raise UsageError(
                f"{exporter.name} reads no {name!r}.",
                hint=f"It reads: {', '.join(roles)}. Write ROLE=FEATURE.",
            )
        _fits_or_error(exporter, roles[name], feature, features[feature])
        if not force:
            _same_sense_or_error(exporter, roles[name], feature, medium_of(features[feature]))
    return dict(chosen)


def _guess(exporter: Exporter, features: FeatureSet, names: list[str]) -> dict[str, str]:
    fitting = {role.name: _fitting(role, features, names) for role in exporter.roles}
    for role in exporter.roles:
        if len(found := fitting[role.name]) > 1:
            raise UsageError(
                f"Several features fit {exporter.name}'s {role.name}: {', '.join(found)}.",
                hint=f"Choose one: {_written(fitting)}.",
            )
        if found:
            _fits_or_error(exporter, role, found[0], features[found[0]])
    return {role: found[0] for role, found in fitting.items() if found}


def _fitting(role: Role, features: FeatureSet, names: Iterable[str]) -> list[str]:
    """The features that a role could be, if none is named."""
    return [
        name
        for name in names
        if kind_of(features[name]) == role.kind and medium_of(features[name]) in role.media
    ]


def _written(fitting: Mapping[str, list[str]]) -> str:
    """``--features`` with every role that a feature fits: roles that it leaves out are not exported."""
    return "--features " + ",".join(f"{role}={found[0]}" for role, found in fitting.items() if found)


def _complete(exporter: Exporter, features: FeatureSet, taken: Mapping[str, str]) -> None:
    lacking = [role for role in exporter.roles if role.required and role.name not in taken]
    if lacking or len(taken) < exporter.min_features:
        role = lacking[0] if lacking else exporter.roles[0]
        said = {name: [feature] for name, feature in taken.items()} | {role.name: ["FEATURE"]}
        wanted = {each.name: said[each.name] for each in exporter.roles if each.name in said}
        what = f"{role.name} ({role.what})" if role.what else role.name
        raise UsageError(
            f"{exporter.name} needs a {role.kind} feature for {what}, and none fits.",
            hint=f"Say which: {_written(wanted)}. There are: {', '.join(features) or 'none'}.",
        )


def _fits_or_error(exporter: Exporter, role: Role, name: str, column: FeatureColumn) -> None:
    if kind_of(column) != role.kind:
        raise UsageError(
            f"{exporter.name}'s {role.name} is a {role.kind} feature, and {name} is of the kind"
            f" {kind_of(column)}.",
            hint=f"Choose another, {role.name}=FEATURE: `mmfeat status` says of which kind each is.",
        )
    if role.dims and column.matrix.shape[-1] not in role.dims:
        raise _wrong_size(exporter, role, name, column.matrix.shape[-1])
    if is_quantized(column) and role.dtype is not None and np.issubdtype(role.dtype, np.floating):
        raise UsageError(
            f"{name} was quantised to {column.matrix.dtype}, and {exporter.title} reads {role.dtype}"
            " without a scale.",
            hint="Export it without quantising.",
        )


def _same_sense_or_error(exporter: Exporter, role: Role, name: str, medium: str) -> None:
    """Refuse pictures for sounds, and sounds for pictures. A text may tell of either."""
    called = {"image": "pictures", "audio": "sound"}
    (wanted, *others) = role.media
    if others or medium == wanted or not {medium, wanted} <= set(called):
        return
    raise UsageError(
        f"{exporter.name}'s {role.name} is read from {called[wanted]}, and {name} was read from"
        f" {called[medium]}.",
        hint=f"Choose another, {role.name}=FEATURE. If {name} is to stand there all the same, say"
        " --force-role (force_role=True).",
    )


def _wrong_size(exporter: Exporter, role: Role, name: str, dims: int) -> UsageError:
    shorter = max((size for size in role.dims if size < dims), default=None)
    return UsageError(
        f"{exporter.title} reads vectors of {' or '.join(map(str, role.dims))} dims, and those of {name} have"
        f" {dims}.",
        hint=f"Write --project {name}:{shorter} (principal components), or --cut {name}:{shorter} for a"
        " model that was trained to be cut."
        if shorter
        else f"Vectors can be made shorter, not longer: choose a feature with {min(role.dims)} dims or more.",
    )
