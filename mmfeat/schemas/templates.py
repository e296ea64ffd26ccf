"""Texts with names in braces, such as prompts: which names, and what they stand for.

``{title}`` stands for a text that an item must have, ``{title?}`` for one that it may lack; a brace that
is meant as such is written twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter


def names_of(text: str) -> dict[str, bool]:
    """The names in braces in the order in which they come, and whether each is optional.

    Raises:
        ValueError: a brace without its pair, a format after the name (``{title:>9}``, ``{title!r}``), or
            a name that is optional in one place only.
    """
    names: dict[str, bool] = {}
    for _, field, spec, conversion in Formatter().parse(text):
        if field is None:
            continue
        name = field.removesuffix("?")
        if spec or conversion:
            raise ValueError(f"{{{field}}} in a prompt takes no format")
        if names.setdefault(name, field != name) != (field != name):
            raise ValueError(f"{{{name}}} has a question mark in one place and none in another")
    return names


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with its names filled in; doubled braces become single ones.

    Raises:
        KeyError: a name of the text that ``values`` lacks.
    """
    filled = []
    for literal, field, _, _ in Formatter().parse(text):
        filled.append(literal)
        if field is not None:
            filled.append(values[field.removesuffix("?")])
    return "".join(filled)
