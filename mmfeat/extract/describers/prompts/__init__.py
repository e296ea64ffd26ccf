"""Named prompts with a version: the ones shipped beside this file, and a user's own by path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.job import read_toml
from mmfeat.schemas.spec import Prompt, canonical_json
from mmfeat.schemas.templates import names_of
from mmfeat.schemas.validation import in_words

_HERE = Path(__file__).parent


class PromptFile(BaseModel):
    """One prompt file.

    Attributes:
        name, version: what the prompt is called; the version is raised with every change of the text.
        text: what is asked; a literal brace is written twice. What a name in braces stands for:
            ``{times}`` when each frame of a clip is shown (``0.5 s, 1.5 s``); ``{scenes}``, in a prompt for
            a summary, the scenes' captions; any other name that column of text, or that feature's text
            (``{title}``, ``{brand?}``: a question mark for what an item may lack).
        variables: the names that the text uses, without question marks.
        max_new_tokens: the token cap, unless the job sets one.
        reply_schema: ``[schema]`` in the file, the JSON Schema (draft 2020-12) that a reply must satisfy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")]
    version: int = Field(ge=1)
    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    variables: tuple[str, ...] = ()
    max_new_tokens: int = Field(default=128, gt=0)
    reply_schema: dict[str, Any] | None = Field(default=None, alias="schema")

    @model_validator(mode="after")
    def _variables_are_those_declared(self) -> PromptFile:
        used = names_of(self.text)
        if set(used) != set(self.variables):
            raise ValueError(
                f"the text uses {sorted(used)} in braces and variables declares {sorted(self.variables)}; "
                "names are declared without question marks"
            )
        return self

    @field_validator("reply_schema")
    @classmethod
    def _schema_is_one(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema is not None:
            _check_schema(schema)
        return schema

    @property
    def prompt(self) -> Prompt:
        """What goes into a feature's spec."""
        schema = None if self.reply_schema is None else canonical_json(self.reply_schema)
        return Prompt(name=self.name, version=self.version, text=self.text, reply_schema=schema)


def list_prompts() -> list[str]:
    """Names of the shipped prompts, in alphabetical order."""
    return sorted(path.stem for path in _HERE.glob("*.toml"))


def load_prompt(name_or_path: str) -> PromptFile:
    """A shipped prompt by name, or a user's file by path (anything with a slash or ending in ``.toml``).

    Raises:
        ConfigError: no such prompt or file, or a file that is not a prompt.
    """
    return _read(path_of(name_or_path))


def path_of(name_or_path: str) -> Path:
    """The file of a prompt; ConfigError where a name is none of the shipped ones."""
    if "/" in name_or_path or name_or_path.endswith(".toml"):
        return Path(name_or_path).expanduser()
    known = list_prompts()
    if name_or_path not in known:
        raise ConfigError(
            f"no prompt is named {name_or_path!r}",
            hint=f'Shipped prompts: {", ".join(known)}. Your own goes by path, e.g. prompt = "./mine.toml".',
        )
    return _HERE / f"{name_or_path}.toml"


def _read(path: Path) -> PromptFile:
    body = read_toml(path)
    try:
        return PromptFile.model_validate(body)
    except ValidationError as error:
        problems = "; ".join(_problem(e["loc"], in_words(e)) for e in error.errors())
        raise ConfigError(
            f"prompt file {path} is not a prompt: {problems}",
            hint="It needs name, version and text; variables, max_new_tokens and [schema] may be given.",
        ) from error


def _check_schema(schema: dict[str, Any]) -> None:
    from jsonschema import Draft202012Validator, SchemaError

    try:
        # A date or time of TOML has no place in JSON.
        canonical_json(schema)
        Draft202012Validator.check_schema(schema)
    except (TypeError, ValueError) as error:
        raise ValueError(f"this is not JSON ({error})") from None
    except SchemaError as error:
        raise ValueError(f"this is not a JSON Schema ({error.json_path}: {error.message})") from None
    if outside := [ref for ref in _references(schema) if not ref.startswith("#")]:
        raise ValueError(f"it refers to {outside[0]!r}, and only what is in the file can be used")


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for part in schema:
            yield from _references(part)
    elif isinstance(schema, dict):
        for key, part in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(part, str):
                yield part
            yield from _references(part)


def _problem(where: tuple[int | str, ...], message: str) -> str:
    place = ".".join(map(str, where))
    return f"{place}: {message}" if place else message
