"""How things show themselves in a notebook and at a prompt: in short, and with every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from html import escape
from typing import Any

from pydantic import BaseModel

from mmfeat.schemas.visible import visible

_MOST_SHOWN = 5
_LONGEST = 120
_NOTHING: tuple[object, ...] = (None, "", [], (), {})


class Html(str):
    """A cell that is HTML already: every text in it is escaped."""


def picture(jpeg: str, about: str) -> Html:
    """A cell with a small picture, which the page itself holds.

    Args:
        jpeg: the file in base64.
        about: what it shows, for readers who do not see it.
    """
    return Html(
        f'<img src="data:image/jpeg;base64,{_text(jpeg)}" alt="{_text(about)}" style="max-height: 80px">'
    )


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], note: str = "") -> str:
    """An HTML table under a title; every text in it is escaped, but for cells of :class:`Html`."""
    below = f"<p>{_text(note)}</p>" if note else ""
    drawn = _drawn(columns, ([_cell(cell) for cell in row] for row in rows))
    return f"<p><strong>{_text(title)}</strong></p>{drawn}{below}"


class ShortRepr:
    """A report, which a dataclass or a model of pydantic is: a table of its fields, long ones in short."""

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={short(value)}" for name, value in _facts(self).items())
        return f"{type(self).__name__}({facts})"

    def _repr_html_(self) -> str:
        return table(type(self).__name__, ("", ""), _facts(self).items())


def short(value: object) -> str:
    """A value in a few words: of what is long its beginning, and how much of it there is."""
    if isinstance(value, str):
        text = visible(value)
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, Mapping):
        some = [f"{short(key)}: {short(item)}" for key, item in list(value.items())[:_MOST_SHOWN]]
        return f"{{{_some(some, len(value))}}}"
    if isinstance(value, list | tuple):
        return f"[{_some([short(item) for item in value[:_MOST_SHOWN]], len(value))}]"
    if _has_facts(value):
        facts = ((name, item) for name, item in _facts(value).items() if item not in _NOTHING)
        return short(", ".join(f"{name} {short(item)}" for name, item in facts))
    return short(str(value))


def _some(shown: list[str], total: int) -> str:
    more = f", ... {total:,} in all" if total > len(shown) else ""
    return ", ".join(shown) + more


def _facts(report: Any) -> dict[str, Any]:
    names = type(report).model_fields if isinstance(report, BaseModel) else [f.name for f in fields(report)]
    return {name: getattr(report, name) for name in names}


def _cell(value: object) -> str:
    """Several things of one kind are a table in their turn."""
    if isinstance(value, Html):
        return value
    if not isinstance(value, list | tuple) or not value or not _has_facts(value[0]):
        return _text(short(value))
    rows = [_facts(item) for item in value]
    used = [name for name in rows[0] if any(row.get(name) not in _NOTHING for row in rows)]
    return _drawn(used, ([_text(short(row.get(name))) for name in used] for row in rows))


def _drawn(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already."""
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _has_facts(value: object) -> bool:
    return isinstance(value, BaseModel) or is_dataclass(value)


def _text(value: str) -> str:
    return escape(visible(value))
