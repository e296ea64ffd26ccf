"""Texts with names in braces, such as prompts: which names, and what they stand for."""

from __future__ import annotations

from string import Formatter


def variables_of(text: str) -> set[str]:
    """Names in braces in a prompt's text.

    Raises:
        ValueError: a brace without its twin, or a format after the name (``{title:>9}``, ``{title!r}``).
    """
    names = set()
    for _, name, spec, conversion in Formatter().parse(text):
        if name is None:
            continue
        if spec or conversion:
            raise ValueError(f"{{{name}}} in a prompt takes no format")
        names.add(name)
    return names


def fill(text: str, values: dict[str, str]) -> str:
    """The prompt's text with its variables filled in; doubled braces become single ones.

    Raises:
        KeyError: a variable of the text that ``values`` lacks.
    """
    return text.format_map(values)
