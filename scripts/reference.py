"""Writes docs/reference/ from the code: the command line, a job's file, formats, models and errors.

    python scripts/reference.py

Descriptions are those of the code: help texts, and the ``Attributes:`` of docstrings. A setting without one
is an error. Things that other packages add by entry points are left out.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer
from pydantic import BaseModel

from mmfeat.cli import app
from mmfeat.export import registry as formats
from mmfeat.extract.registry import METHODS
from mmfeat.extract.tested import families_tested
from mmfeat.report.rules import DEFAULT_GATES, GATES, Rules
from mmfeat.schemas import errors
from mmfeat.schemas.job import JobConfig
from mmfeat.schemas.spec import FeatureConfig
from mmfeat.schemas.steps import STEPS

OUT = Path(__file__).parents[1] / "docs" / "reference"
_NOTE = "<!-- Written by scripts/reference.py: change the code, then run `make docs`. -->"
# A bound from here on only keeps out numbers that nobody means.
_MOST_TOLD = 10**9
# How the docstring of a table's model begins.
_TABLE = re.compile(r"^``\[([^]]+)\]``: ")
_SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_WORDS = {str: "text", int: "integer", float: "number", Path: "path"}


def pages() -> dict[str, str]:
    """Every page of the reference by its file's name."""
    return {
        "cli.md": _page("Commands", _cli()),
        "job.md": _page("Job file", _job()),
        "exports.md": _page("Export formats", _exports()),
        "encoders.md": _page("Models", _encoders()),
        "errors.md": _page("Errors and exit codes", _errors()),
    }


def _page(title: str, parts: Iterable[str]) -> str:
    return "\n\n".join([f"# {title}", _NOTE, *parts]) + "\n"


# -- The command line


def _cli() -> Iterator[str]:
    yield (
        "`--help` prints this for a command. `...` says that an option or argument can be given several "
        "times. How-to: [command line](../cli.md). Exit codes: [errors](errors.md)."
    )
    yield from _commands(typer.main.get_command(app), ("mmfeat",))


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[str]:
    """The sections of a command and of those below it."""
    below = getattr(command, "commands", {})
    yield f"## {' '.join(words)}"
    yield _plain(command.help)
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    if not below:
        yield f"```text\n{' '.join([*words, *map(_shown_argument, arguments), '[OPTIONS]'])}\n```"
    if command.params:
        kinds = get_type_hints(command.callback)
        rows = [_parameter(one, kinds.get(one.name)) for one in command.params]
        yield _table(("argument or option", "takes", "default", "what it is"), rows)
    for name, one in below.items():
        yield from _commands(one, (*words, name))


def _shown_argument(argument: Any) -> str:
    name = argument.name.upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _parameter(one: Any, kind: Any) -> tuple[str, ...]:
    """A row: its names, what it takes, its default, and its help."""
    if one.param_type_name == "argument":
        names = f"`{_shown_argument(one)}`"
    else:
        names = _code([*one.opts, *one.secondary_opts])
    variable = f" Or the environment's `{one.envvar}`." if getattr(one, "envvar", None) else ""
    default = "required" if one.required else "" if one.default in (None, False) else f"`{one.default}`"
    return names, _taken(one, kind), default, _plain(one.help) + variable


def _taken(one: Any, kind: Any) -> str:
    """What an option of the command line takes, in words; nothing of a flag."""
    if getattr(one, "is_flag", False):
        return ""
    kinds = [part for part in get_args(kind) if part is not type(None)] or [kind]
    several = getattr(kinds[0], "__origin__", None) is list
    kind = get_args(kinds[0])[0] if several else kinds[0]
    choices = [
        getattr(choice, "value", choice) for choice in get_args(kind) or getattr(kind, "__members__", {})
    ]
    words = _code(choices) if choices else _WORDS[kind]
    bounds = {"minimum": getattr(one, "min", None), "maximum": getattr(one, "max", None)}
    told = _bounds({key: bound for key, bound in bounds.items() if bound is not None})
    return words + told + " ..." * several


# -- A job's file


def _job() -> Iterator[str]:
    yield (
        "A job's file is TOML, and `mmfeat run` runs it. An unknown table or key is an error that names the "
        "nearest ones. An example: [command line](../cli.md#run)."
    )
    for name, field in JobConfig.model_fields.items():
        if name == "features":
            yield from _features()
        elif (model := _model_in(field.annotation)) and name != "steps":
            yield from _tables(name, model)
    for step in STEPS.own:
        yield from _tables(step, STEPS.get(step).Config)
    yield from _methods()
    yield from _caption_gates()


def _caption_gates() -> Iterator[str]:
    """The tables of another file, which ``[gates] captions`` names."""
    yield "## Gates of the caption report"
    yield (
        "The file of `--gates` and of `[gates] captions`. `min_` gates need at least the threshold, `max_` "
        "gates at most. Shares (0 to 1) are of ok captions."
    )
    rows = [
        (f"`{name}`", f"`{DEFAULT_GATES[name]:g}`" if name in DEFAULT_GATES else "", told)
        for name, told in GATES.items()
    ]
    yield _table(("gate", "default", "what it measures"), rows)
    yield "### Rules"
    yield _prose(Rules)
    yield _settings(Rules, Rules.model_fields)


def _features() -> Iterator[str]:
    yield "## `[features.NAME]`"
    yield _prose(FeatureConfig, first=1)
    yield f"`ablate`: {_attributes(FeatureConfig)['ablate']}."
    yield "How-to: [encoders](../encoders.md). The options of each method are [below](#options-of-encoder)."


def _tables(name: str, model: type[BaseModel]) -> Iterator[str]:
    """The sections of a table and of the tables in it; none of one without keys."""
    if not model.model_fields:
        return
    yield f"## `[{name}]`"
    yield _prose(model)
    inner = {
        key: found for key, field in model.model_fields.items() if (found := _model_in(field.annotation))
    }
    apart = {key: _place(one, f"{name}.{key}") for key, one in inner.items()}
    # A table that a person writes in another place than the model has it.
    hidden = [key for key, place in apart.items() if place != f"{name}.{key}"]
    yield _settings(model, [key for key in model.model_fields if key not in hidden])
    for key, one in inner.items():
        yield from _tables(apart[key], one)


def _place(model: type[BaseModel], usual: str) -> str:
    """The name of a model's table: what its docstring begins with, in brackets."""
    found = _TABLE.match(_doc(model))
    return found[1] if found else usual


def _methods() -> Iterator[str]:
    """The options of every method, and those that several share."""
    options = {
        (kind, name): METHODS[kind].get(name).Options for kind in METHODS for name in METHODS[kind].own
    }
    shared = _shared(options.values())
    for kind, registry in METHODS.items():
        yield f"## Options of `{kind}`"
        for name in registry.own:
            yield f'### `{kind} = "{name}"`'
            yield from _options(options[kind, name], shared)
    yield "## Shared options"
    for group in shared:
        yield f"### {_group(group)}"
        yield _prose(group)
        yield _settings(group, _own_fields(group))


def _options(model: type[BaseModel], shared: Sequence[type]) -> Iterator[str]:
    groups = [one for one in model.__mro__ if one in shared]
    own = [key for key, owner in _owners(model).items() if owner not in shared]
    if own:
        yield _settings(model, own)
    if groups:
        links = (f"[{_group(one)}](#{_group(one).lower().replace(' ', '-')})" for one in groups)
        yield f"{'Also' if own else 'It has'} {', '.join(links)}."


def _shared(models: Iterable[type[BaseModel]]) -> list[type[BaseModel]]:
    """The classes whose options several methods have."""
    found: dict[type, int] = {}
    for model in models:
        for owner in model.__mro__:
            if isinstance(owner, type) and issubclass(owner, BaseModel) and _own_fields(owner):
                found[owner] = found.get(owner, 0) + 1
    return sorted((owner for owner, times in found.items() if times > 1), key=_group)


def _group(model: type) -> str:
    """``FrameOptions`` as ``Frame options``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", model.__name__).capitalize()


def _own_fields(model: Any) -> list[str]:
    own = inspect.get_annotations(model)
    return [key for key in getattr(model, "model_fields", {}) if key in own]


def _owners(model: type[BaseModel]) -> dict[str, type]:
    """The class that defines each of a model's fields."""
    return {key: next(c for c in model.__mro__ if key in _own_fields(c)) for key in model.model_fields}


def _settings(model: type[BaseModel], keys: Iterable[str]) -> str:
    """A table of some of a model's fields."""
    schema = model.model_json_schema()
    owners, rows = _owners(model), []
    for key in keys:
        field = model.model_fields[key]
        written = field.alias or key
        told = _attributes(owners[key]).get(key)
        if told is None:
            raise SystemExit(f"{owners[key].__module__}: {owners[key].__name__} does not describe {key!r}")
        of = schema["properties"][written]
        default = "required" if field.is_required() else _default(of.get("default"))
        row = (f"`{written}`", _type(of, schema.get("$defs", {})), default, told)
        if rows and rows[-1][1:] == row[1:]:
            # Described together: ``cpus, gpus: ...``.
            row = (f"{rows.pop()[0]}, {row[0]}", *row[1:])
        rows.append(row)
    return _table(("key", "takes", "default", "what it is"), rows)


def _default(value: Any) -> str:
    return "" if value is None or isinstance(value, dict) else f"`{json.dumps(value)}`"


def _type(of: dict[str, Any], known: dict[str, Any]) -> str:
    """What a key takes, in words, from its JSON Schema."""
    if "$ref" in of:
        return _type(known[of["$ref"].rpartition("/")[2]], known)
    if "anyOf" in of:
        kinds = [_type(one, known) for one in of["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in of or "const" in of:
        return _code(json.dumps(one) for one in of.get("enum", [of.get("const")]))
    kind = of.get("type")
    if kind == "array":
        return f"list of: {_type(of['items'], known)}"
    if kind in ("integer", "number"):
        return kind + _bounds(of)
    return {"string": "text", "boolean": "`true`, `false`", "object": "table"}[str(kind)]


def _bounds(of: dict[str, Any]) -> str:
    given = {sign: of[key] for key, sign in _SIGNS.items() if key in of}
    told = [f"{sign} {int(n) if n == int(n) else n:,}" for sign, n in given.items() if n < _MOST_TOLD]
    return f" {', '.join(told)}" if told else ""


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model in an annotation such as ``Model | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


# -- Formats, models, errors


def _exports() -> Iterator[str]:
    yield (
        "`mmfeat export --list` shows this table. `?` marks a feature that may be left out. The first "
        "answer to items without a value is the default. How-to: [exports](../exports.md)."
    )
    rows = [
        (
            f"`{one.name}`", _readers(one), one.features, one.interactions, one.ids, _code(one.missing),
            _code(one.options),
        )
        for one in formats.listing()
        if one.name in formats.FORMATS.own
    ]  # fmt: skip
    yield _table(
        ("format", "read by", "features", "interactions", "item ids", "items without a value", "options"),
        rows,
    )


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _readers(one: formats.FormatListing) -> str:
    """The project that reads a format, and the systems that run on it."""
    return one.title if one.systems in ((), (one.title,)) else f"{one.title}: {', '.join(one.systems)}"


def _encoders() -> Iterator[str]:
    yield (
        "`mmfeat encoders list` shows both tables. How-to: [encoders](../encoders.md). Options: "
        "[job file](job.md#options-of-encoder)."
    )
    yield "## Methods"
    rows = []
    for kind, registry in METHODS.items():
        for name in sorted(registry.own):
            card = registry.get(name).example
            dims = "" if card.dims is None else f"{card.dims:,}"
            rows.append(
                (f"`{name}`", kind, ", ".join(card.reads), card.model, dims, card.licence, card.weights_from)
            )
    yield _table(("method", "kind", "reads", "for example", "dims", "licence", "weights"), rows)
    yield "## Families compared with their own library"
    yield (
        "Vectors of mmfeat beside those of the library that published the family, in float32. The least "
        "cosine is rounded down; the last column says on which model it was measured."
    )
    families = [
        (one.family, f"`{one.method}`", f"{one.least_cosine:.6f}", one.against, one.reads, one.how)
        for one in families_tested()
    ]
    yield _table(("family", "encoder", "least cosine", "against", "compared", "how"), families)


def _errors() -> Iterator[str]:
    yield (
        "Every error says what happened, to which item, and what to do (`hint`). With `--json` a command "
        'prints it as `{"error": {"type", "message", "hint"}}`. In Python: `mmfeat.schemas.errors`.'
    )
    yield _table(
        ("exit code", "means"),
        [
            ("0", "done"),
            ("1", "failed: a store cannot be read or written, or a model cannot be loaded"),
            ("2", "wrong use: an unknown name, a path that is not there, a setting that does not fit"),
            (
                "3",
                "a gate fell short: `--max-failed`, one of `[gates]`, or a cap of `[spending]`; what "
                "succeeded is committed. Or a store would lose more than `[run] max_lost`: nothing is "
                "written. Or a model gives other values than before: no row of that version is written",
            ),
            ("130", "stopped by Ctrl-C or SIGTERM. What was computed is committed; the same command goes on"),
        ],
    )
    own = [one for one in vars(errors).values() if inspect.isclass(one) and one.__module__ == errors.__name__]
    yield "## Errors of a command"
    yield _table(
        ("error", "is a", "exit code", "what it is"),
        [_error(one, str(one.exit_code)) for one in own if issubclass(one, errors.MmfeatError)],
    )
    yield "## Other errors"
    others = [one for one in own if not issubclass(one, errors.MmfeatError)]
    yield _table(("error", "is a", "exit code", "what it is"), [_error(one, "") for one in others])


def _error(one: type, code: str) -> tuple[str, ...]:
    told = re.split(r"\n\n(?:Args|Attributes):", _doc(one))[0]
    return f"`{one.__name__}`", f"`{one.__mro__[1].__name__}`", code, _plain(told)


# -- Docstrings and Markdown


def _doc(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "")


def _prose(model: type, first: int = 0) -> str:
    """The paragraphs of a docstring but its sections, from the ``first`` on."""
    told = re.split(r"(?:^|\n\n)Attributes:\n", _doc(model))[0]
    told = _TABLE.sub("", told, count=1)
    paragraphs = [_plain(paragraph) for paragraph in told.split("\n\n")[first:]]
    return "\n\n".join(one[:1].upper() + one[1:] for one in paragraphs)


def _attributes(model: type) -> dict[str, str]:
    """What a class's docstring says of its attributes, by name."""
    section = _doc(model).partition("Attributes:\n")[2]
    found = {}
    for entry in re.split(r"\n(?= {4}\S)", section):
        names, _, told = entry.strip().partition(": ")
        found.update({name.strip(): _plain(told).rstrip(".") for name in names.split(",")})
    return found


def _plain(text: str) -> str:
    """A docstring or help text as Markdown, on one line, in a user's words: a file of TOML has no None."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text or "")
    text = " ".join(text.replace("``", "`").replace("\\[", "[").split())
    return re.sub(r"\b([Ww])he(?:n|re) (?:None|unset)\b", _by_default, text)


def _by_default(found: re.Match[str]) -> str:
    return f"{'B' if found[1] == 'W' else 'b'}y default"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def main() -> None:
    """Write the pages."""
    OUT.mkdir(exist_ok=True)
    for name, text in pages().items():
        (OUT / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
