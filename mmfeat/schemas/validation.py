"""Settings that a person wrote, checked; what is wrong is said with the name that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from mmfeat.schemas.errors import ConfigError, UsageError

_Model = TypeVar("_Model", bound=BaseModel)

_UNKNOWN = "extra_forbidden"

# Settings are nested a few levels deep. Seeds are the largest of their numbers.
_DEEPEST = 32
_MOST, _MOST_INTEGER = 1e15, 2**63 - 1


def near(word: str, known: Iterable[str]) -> str:
    """``Did you mean ...? `` for a misspelt name; empty where no known name is near."""
    close = difflib.get_close_matches(word, list(known), n=3)
    return f"Did you mean {' or '.join(map(repr, close))}? " if close else ""


def listed(given: Iterable[str], what: str) -> list[str]:
    """Names or ids that a caller gave, as a list.

    A lone string is refused: Python would take it for a list of its letters.

    Args:
        what: what one of them is: ``item id``.

    Raises:
        UsageError: a string, something that is no list at all, or a member that is no string.
    """
    if isinstance(given, str | bytes):
        raise UsageError(
            f"{given!r} is one {what}, where a list of them is meant.", hint=f"Write [{given!r}]."
        )
    if not isinstance(given, Iterable):
        raise UsageError(f"A list of {what}s is meant, and {given!r} is a {type(given).__name__}.")
    members = list(given)
    if strange := [member for member in members if not isinstance(member, str)]:
        raise UsageError(
            f"{what.capitalize()}s are strings; {strange[0]!r} is a {type(strange[0]).__name__}.",
            hint=f"Write it as {str(strange[0])!r}.",
        )
    return members


def refuse_unnamed(given: object, what: str) -> None:
    """UsageError where something is given that is no mapping of names to values.

    Args:
        what: the setting.
    """
    if not isinstance(given, Mapping):
        raise UsageError(f"{what} is a mapping, and {given!r} is a {type(given).__name__}.")


def validated(
    model: type[_Model], data: Mapping[str, Any], where: str, context: Mapping[str, Any] | None = None
) -> _Model:
    """``data`` as a ``model``.

    Args:
        where: what the data are, for the error: a file's name, or ``feature 'x'``.
        context: what the model's own validators need to know (pydantic's validation context).

    Raises:
        ConfigError: names every key that is wrong and why; of an unknown key the nearest known ones.
    """
    _refuse_monstrous(data, where)
    try:
        return model.model_validate(data, context=dict(context or {}))
    except ValidationError as error:
        problems = "; ".join(_problem(model, one) for one in error.errors())
        raise ConfigError(f"{where}: {problems}") from None


def _refuse_monstrous(data: Mapping[str, Any], where: str) -> None:
    """ConfigError for numbers that no setting means, and for nesting that no settings have."""
    waiting: list[tuple[Any, tuple[str, ...]]] = [(data, ())]
    while waiting:
        value, path = waiting.pop()
        if len(path) > _DEEPEST:
            raise ConfigError(f"{where}: {'.'.join(path[:3])}: nested more than {_DEEPEST} levels deep")
        if isinstance(value, Mapping):
            waiting += [(inner, (*path, str(key))) for key, inner in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(inner, (*path, str(at))) for at, inner in enumerate(value)]
        elif (isinstance(value, float) and not abs(value) <= _MOST) or (
            isinstance(value, int) and abs(value) > _MOST_INTEGER
        ):
            raise ConfigError(
                f"{where}: {'.'.join(path)}: this is no number that a setting can be",
                hint=f"Give a finite one, of at most {_MOST:g}.",
            )


def _problem(model: type[BaseModel], error: Any) -> str:
    where = [part for part in error["loc"] if part != "[key]"]
    key = ".".join(map(str, where))
    if error["type"] != _UNKNOWN:
        said = error["msg"].removeprefix("Value error, ")
        return f"{key}: {said}" if key else said
    known = _keys_beside(model, where)
    guess = near(str(where[-1]), known)
    return f"{key}: there is no such key. {guess or _listed(known)}".rstrip()


def _keys_beside(model: type[BaseModel], where: list[Any]) -> list[str]:
    """The keys that a model knows at the place of ``where``; none where that cannot be said."""
    for part in where[:-1]:
        field = model.model_fields.get(str(part))
        found = None if field is None else _model_in(field.annotation)
        if found is None:
            return []
        model = found
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model in an annotation such as ``Model | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


def _listed(known: list[str]) -> str:
    return f"There are: {', '.join(known)}." if known else ""
