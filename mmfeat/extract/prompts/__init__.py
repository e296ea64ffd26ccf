"""Named prompts with a version: the ones shipped beside this file, and a user's own by path."""

from __future__ import annotations

from pathlib import Path
from string import Formatter
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.job import read_toml
from mmfeat.schemas.spec import Prompt

_HERE = Path(__file__).parent


class PromptFile(BaseModel):
    """One prompt file.

    Attributes:
        name, version: what the prompt is called; the version is raised with every change of the text.
        text: what is asked. ``{title}`` and ``{description}`` stand for the item's texts and must be
            declared in ``variables``; a literal brace is written twice.
        variables: which of the item's texts the prompt reads.
        max_new_tokens: the token cap, unless the job sets one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")]
    version: int = Field(ge=1)
    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    variables: tuple[Literal["title", "description"], ...] = ()
    max_new_tokens: int = Field(default=128, gt=0)

    @model_validator(mode="after")
    def _variables_are_those_declared(self) -> PromptFile:
        used = variables_of(self.text)
        if used != set(self.variables):
            raise ValueError(
                f"the text uses {sorted(used)} in braces and variables declares {sorted(self.variables)}"
            )
        return self

    @property
    def prompt(self) -> Prompt:
        """What goes into a feature's spec."""
        return Prompt(name=self.name, version=self.version, text=self.text)


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


def list_prompts() -> list[str]:
    """Names of the shipped prompts, in alphabetical order."""
    return sorted(path.stem for path in _HERE.glob("*.toml"))


def load_prompt(name_or_path: str) -> PromptFile:
    """A shipped prompt by name, or a user's file by path (anything with a slash or ending in ``.toml``).

    Raises:
        ConfigError: no such prompt or file, or a file that is not a prompt.
    """
    if "/" in name_or_path or name_or_path.endswith(".toml"):
        return _read(Path(name_or_path).expanduser())
    known = list_prompts()
    if name_or_path not in known:
        raise ConfigError(
            f"no prompt is named {name_or_path!r}",
            hint=f'Shipped prompts: {", ".join(known)}. Your own goes by path, e.g. prompt = "./mine.toml".',
        )
    return _read(_HERE / f"{name_or_path}.toml")


def _read(path: Path) -> PromptFile:
    body = read_toml(path)
    try:
        return PromptFile.model_validate(body)
    except ValidationError as error:
        problems = "; ".join(_problem(e["loc"], e["msg"]) for e in error.errors())
        raise ConfigError(
            f"prompt file {path} is not a prompt: {problems}",
            hint="It needs name, version and text; variables and max_new_tokens may be given.",
        ) from error


def _problem(where: tuple[int | str, ...], message: str) -> str:
    place = ".".join(map(str, where))
    return f"{place}: {message}" if place else message
