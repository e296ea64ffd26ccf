"""Replies that must be JSON of a schema: taken as they are or refused, never mended."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.spec import canonical_json

_MOST_OF_A_PROBLEM = 300


class InvalidReply(ItemError):
    """A reply that does not parse or does not fit its schema.

    Attributes:
        text: the reply.
        problem: what is wrong with it, in one line, for the model and for a person.
    """

    def __init__(self, text: str, problem: str) -> None:
        super().__init__("caption", f"the reply did not fit the prompt's schema: {problem}")
        self.text = text
        self.problem = problem


def parse_reply(text: str, reply_schema: str) -> str:
    """The reply as canonical JSON.

    Nothing is forgiven: a code fence, a word before the JSON, a key given twice, ``NaN``.

    Args:
        reply_schema: JSON of a JSON Schema (draft 2020-12).

    Raises:
        InvalidReply: the text is not one JSON value, or does not fit the schema.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_repeats)
        canonical = canonical_json(value)
        canonical.encode()
    # A number beyond floats and half a surrogate pair pass the parser and are no JSON either.
    except (ValueError, RecursionError) as error:
        raise InvalidReply(text, f"it is not JSON ({_one_line(error)})") from None
    problem = next(iter(sorted(_validator(reply_schema).iter_errors(value), key=lambda e: e.json_path)), None)
    if problem is not None:
        where = problem.json_path.removeprefix("$").lstrip(".")
        message = _one_line(problem.message)
        raise InvalidReply(text, f"{where}: {message}" if where else message)
    return canonical


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


@lru_cache(maxsize=32)
def _validator(reply_schema: str) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(reply_schema))


def _one_line(error: object) -> str:
    line = " ".join(str(error).split())
    return line if len(line) <= _MOST_OF_A_PROBLEM else f"{line[:_MOST_OF_A_PROBLEM]} ..."
