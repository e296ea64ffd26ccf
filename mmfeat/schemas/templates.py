"""Texts with names in braces, such as prompts and composed texts: which names, and what they stand for.

``{title}`` stands for a text that an item must have, ``{title?}`` for one that it may lack, and
``{brand?Unknown}`` says what stands there then. A list is joined by ``", "``. After a colon come words that
stand there only where the item has the value, which goes between their own braces: ``{brand?:Brand: {}; }``;
these may hold what joins a list: ``{tags?:Tags: { / }. }``. ``{price!r}`` writes a number or a list as
Python does (``12.0``, ``['a', 'b']``). A brace that is meant as such is written twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from string import Formatter

#: Ends each value of a list that is handed on as one text. No text that people write ends with it.
END = "\x1f"
_JOINED_BY = ", "


def listed(values: Iterable[str]) -> str:
    """A list of texts as one text, which :func:`plain` and :func:`fill` read as a list."""
    return "".join(value.replace(END, " ") + END for value in values)


def values_of(text: str) -> list[str]:
    """The texts that :func:`listed` was given."""
    return text.split(END)[:-1] if text.endswith(END) else [text]


def plain(text: str, joined_by: str = _JOINED_BY) -> str:
    """A text as it is, and a list with its values joined."""
    return joined_by.join(values_of(text)) if text.endswith(END) else text


def trimmed(text: str) -> str:
    """A text, or each of a list's values, without blanks at its ends."""
    return listed(value.strip() for value in values_of(text)) if text.endswith(END) else text.strip()


@dataclass(frozen=True)
class _Place:
    """What stands in braces.

    Attributes:
        default: what stands there where the item has no such text.
        as_python: whether a number or a list is written as Python writes it.
        before, after: words that stand there only with a value.
        joined_by: what stands between the values of a list.
    """

    name: str
    optional: bool
    default: str
    as_python: bool
    before: str = ""
    joined_by: str = _JOINED_BY
    after: str = ""

    def filled(self, value: str | None) -> str:
        if not value:
            return self.default
        shown = _as_python(value) if self.as_python else plain(value, self.joined_by)
        return f"{self.before}{shown}{self.after}"


def names_of(text: str) -> dict[str, bool]:
    """The names in braces in the order in which they come, and whether each is optional.

    Raises:
        ValueError: a brace without its pair, words after the name without a place for the value
            (``{title:>9}``), or a name that is optional in one place only.
    """
    names: dict[str, bool] = {}
    for part in _parts(text):
        if isinstance(part, _Place) and names.setdefault(part.name, part.optional) != part.optional:
            raise ValueError(f"{{{part.name}}} has a question mark in one place and none in another")
    return names


def fill(text: str, values: Mapping[str, str | None]) -> str:
    """The text with its names filled in; doubled braces become single ones.

    Args:
        values: a text or :func:`listed` texts by name; None and the empty text where the item has none.

    Raises:
        KeyError: a name of the text that ``values`` lacks.
    """
    return "".join(part if isinstance(part, str) else part.filled(values[part.name]) for part in _parts(text))


def without(text: str, names: Collection[str]) -> str:
    """The text with some names taken out, as it is of items that have none of these."""
    return "".join(_written(names, *part) for part in Formatter().parse(text))


def _written(
    taken_out: Collection[str], literal: str, field: str | None, words: str | None, conversion: str | None
) -> str:
    """One literal and what stands in braces after it, as it was written."""
    before = _escaped(literal)
    if field is None:
        return before
    place = _place(field, words or "", conversion)
    if place.name in taken_out:
        return before + _escaped(place.default)
    how = f"!{conversion}" if conversion else ""
    said = f":{words}" if words else ""
    return f"{before}{{{field}{how}{said}}}"


def _escaped(literal: str) -> str:
    return literal.replace("{", "{{").replace("}", "}}")


def _parts(text: str) -> Iterator[str | _Place]:
    for literal, field, words, conversion in Formatter().parse(text):
        yield literal
        if field is not None:
            yield _place(field, words or "", conversion)


def _place(field: str, words: str, conversion: str | None) -> _Place:
    name, mark, default = field.partition("?")
    if conversion not in (None, "r"):
        raise ValueError(f"{{{field}!{conversion}}}: after the name comes !r or nothing")
    place = _Place(name, bool(mark), default, conversion == "r")
    if not words:
        return place
    inner = list(Formatter().parse(words))
    at = [n for n, (_, separator, _, _) in enumerate(inner) if separator is not None]
    if len(at) != 1 or any(spec or converted for _, _, spec, converted in inner):
        raise ValueError(
            f"{{{field}:{words}}} takes no format: after the colon come words with one {{}} for the value"
        )
    before = "".join(literal for literal, _, _, _ in inner[: at[0] + 1])
    after = "".join(literal for literal, _, _, _ in inner[at[0] + 1 :])
    return _Place(
        name, place.optional, default, place.as_python, before, inner[at[0]][1] or _JOINED_BY, after
    )


def _as_python(value: str) -> str:
    if value.endswith(END):
        return repr(values_of(value))
    try:
        return repr(float(value))
    except ValueError:
        return value
