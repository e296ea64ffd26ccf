"""Settings that a person wrote, checked; what is wrong is said with the name that was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from mmfeat.schemas.errors import ConfigError, UsageError
from mmfeat.schemas.redact import redact

_Model = TypeVar("_Model", bound=BaseModel)

_UNKNOWN = "extra_forbidden"
_CHOICES = ("literal_error", "enum")
_MOST_SHOWN = 60

# How the names of pydantic's errors begin, to what a person would call what is taken.
_KINDS = {
    "string_type": "a text in quotes",
    "path_type": "a path in quotes",
    "int_": "a whole number",
    "float_": "a number",
    "finite_number": "a finite number",
    "bool_": "true or false",
    "list_type": "a list in square brackets",
    "tuple_type": "a list in square brackets",
    "set_type": "a list in square brackets",
    "dict_type": "a table",
    "model_": "a table",
    "mapping_type": "a table",
}
_BOUNDS = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} at most",
    "string_too_short": "a text of {min_length} characters or more",
    "string_too_long": "a text of {max_length} characters at most",
    "too_short": "{min_length} or more of them",
    "too_long": "{max_length} of them at most",
}
_PATTERNS = {
    r"^[a-z][a-z0-9_]{0,62}$": "a name of small letters, digits and _, a letter first, 63 characters at most",
    r"^[a-z][a-z0-9_]{0,31}$": "a name of small letters, digits and _, a letter first, 32 characters at most",
    r"^[a-z][a-z0-9-]*$": "a name of small letters, digits and -, a letter first",
    r"^(s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*/?$": "a bucket such as s3://NAME, gs://NAME or az://NAME",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "the name of an environment variable",
    r"^[A-Za-z0-9_-]{1,32}$": "a word of letters, digits, _ and -, 32 characters at most",
    r"^[A-Za-z0-9._-]+$": "a word of letters, digits, dots, _ and -",
    r"^[A-Za-z0-9._-]*$": "a word of letters, digits, dots, _ and -",
}

# Settings are nested a few levels deep. Seeds are the largest of their numbers.
_DEEPEST = 32
_MOST, _MOST_INTEGER = 1e15, 2**63 - 1


def near(word: str, known: Iterable[str]) -> str:
    """``Did you mean ...? `` for a misspelt name; empty if no known name is near."""
    close = difflib.get_close_matches(word, list(known), n=3)
    return f"Did you mean {' or '.join(map(repr, close))}? " if close else ""


def listed(given: Iterable[str], what: str) -> list[str]:
    """Names or ids that a caller gave, as a list.

    A lone string is refused: Python would take it for a list of its letters. A column of Arrow or NumPy is a
    list as any.

    Args:
        what: what one of them is: ``item id``.

    Raises:
        UsageError: a string, something that is no list at all, or a member that is no string.
    """
    if isinstance(given, str | bytes):
        raise UsageError(
            f"{given!r} is one {what}, where a list of them is meant.", hint=f"Write [{given!r}]."
        )
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise UsageError(f"A list of {what}s is meant, and {given!r} is a {type(given).__name__}.")
    # Arrow's own strings are none of Python's.
    members = list(given.to_pylist() if hasattr(given, "to_pylist") else given)
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
        ConfigError: names every key that is wrong, what was written there and what it takes; of an unknown
            key or word the nearest known ones.
    """
    monstrous = _monstrous(data, where)
    try:
        made = model.model_validate(data, context=dict(context or {}))
    except ValidationError as error:
        # A number's own bound says more than that no setting can be it.
        raise ConfigError(f"{where}: {'; '.join(problems(error, model, data))}") from None
    except OverflowError:
        if monstrous is None:
            raise
        raise monstrous from None
    if monstrous is not None:
        raise monstrous
    return made


def _monstrous(data: Mapping[str, Any], where: str) -> ConfigError | None:
    """What is to be said of a number that no setting means; ConfigError for nesting that no settings have."""
    found: ConfigError | None = None
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
            found = ConfigError(
                f"{where}: {'.'.join(path)}: this is no number that a setting can be",
                hint=f"Give a finite one, of at most {_MOST:g}.",
            )
    return found


def problems(error: ValidationError, model: type[BaseModel], data: Any) -> list[str]:
    """What is wrong, key by key, in words for people.

    Args:
        model: what ``data`` were to be.
    """
    found: dict[str, list[Any]] = {}
    for one in error.errors():
        found.setdefault(".".join(map(str, _place(one, data))), []).append(one)
    return [_problem(model, key, of_one) for key, of_one in found.items()]


def in_words(error: Any) -> str:
    """One of pydantic's errors in words that need no Python, without its key."""
    if error["type"] == "missing":
        return "is missing"
    takes = _takes(error)
    if takes is None:
        return str(error["msg"]).removeprefix("Value error, ")
    return f"takes {takes}, not {_shown(error['input'])}"


def _problem(model: type[BaseModel], key: str, errors: list[Any]) -> str:
    """What is wrong at one key; several errors are of a value that may be one thing or another."""
    first = errors[0]
    where = [part for part in first["loc"] if part != "[key]"]
    if first["type"] == _UNKNOWN:
        known = _keys_beside(model, where)
        return f"{key}: there is no such key. {near(str(where[-1]), known) or _listed(known)}".rstrip()
    if first["type"] == "missing":
        return f"{key}: is missing"
    takes = list(dict.fromkeys(words for one in errors if (words := _takes(one)) is not None))
    said = f"takes {' or '.join(takes)}, not {_shown(first['input'])}" if takes else in_words(first)
    guess = "".join(near(str(first["input"]), _words(one)) for one in errors if one["type"] in _CHOICES)
    return (f"{key}: {said}" if key else said) + (f". {guess}".rstrip() if guess else "")


def _place(error: Any, data: Any) -> list[Any]:
    """Where an error is in ``data``: pydantic's own names for the forms of a value are left out."""
    place = [part for part in error["loc"] if part != "[key]"]
    if error["type"] in ("missing", _UNKNOWN):
        return place
    found: list[Any] = []
    for part in place:
        inside = isinstance(data, Mapping) and part in data
        if not inside and not (isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)):
            written = data.items() if isinstance(data, Mapping) else ()
            return [*found, *[key for key, value in written if value is error["input"]][:1]] or place
        data = data[part]
        found.append(part)
    return found


def _takes(error: Any) -> str | None:
    """What is taken where the error is; None if the error says it in its own words."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in _CHOICES:
        return str(context["expected"])
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"], f"a text of the form {context['pattern']}")
    for beginning, words in _KINDS.items():
        if kind.startswith(beginning):
            return words
    return next((words.format(**context) for name, words in _BOUNDS.items() if name == kind), None)


def _words(error: Any) -> list[str]:
    return re.findall(r"'([^']*)'", str(error["ctx"]["expected"]))


def _shown(value: Any) -> str:
    """What was written, as TOML writes it; the beginning of what is long, and nothing that may be secret."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        text = redact(value)
        return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}...")
    if isinstance(value, Mapping):
        return "a table" if value else "an empty table"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, int) and abs(value) > _MOST_INTEGER:
        return "a far larger number" if value > 0 else "a far smaller number"
    return str(value)[:_MOST_SHOWN]


def _keys_beside(model: type[BaseModel], where: list[Any]) -> list[str]:
    """The keys that a model knows at the place of ``where``; none where that cannot be said."""
    for part in where[:-1]:
        field = model.model_fields.get(str(part))
        found = None if field is None else _model_in(field.annotation)
        if found is None:
            return []
        model = found
    return keys_of(model)


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys of a model's table, as a person writes them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model in an annotation such as ``Model | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


def _listed(known: list[str]) -> str:
    return f"There are: {', '.join(known)}." if known else ""
