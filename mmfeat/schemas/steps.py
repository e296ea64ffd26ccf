"""The steps of a job, in their order: what ``mmfeat run`` does one after the other.

Each has a table of its own in a job's file. Other packages add theirs in the entry point group
``mmfeat.steps``: ``TABLE = "module:Class"``, the class a :class:`mmfeat.pipelines.steps.base.Step`; they
come after mmfeat's own, and before people are told of the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.registry import Registry
from mmfeat.schemas.validation import near, validated

_LAST = "notify"

# What :class:`mmfeat.pipelines.steps.base.Step` has, which is not known here.
_PARTS = ("Config", "always", "check", "run", "ended")


def _is_step(thing: Any) -> bool:
    return isinstance(thing, type) and all(hasattr(thing, part) for part in _PARTS)


STEPS: Registry[Any] = Registry(
    "step",
    {
        "extract": "mmfeat.pipelines.steps.extract:Extract",
        "evaluate": "mmfeat.pipelines.steps.evaluate:Evaluate",
        "gates": "mmfeat.pipelines.steps.gates:Gates",
        "promote": "mmfeat.pipelines.steps.promote:Promote",
        "keep": "mmfeat.pipelines.steps.keep:Keep",
        "notify": "mmfeat.pipelines.steps.notify:Notify",
    },
    ("mmfeat.steps",),
    fits=_is_step,
    error=ConfigError,
)


def in_order() -> list[str]:
    """The names of all steps in the order in which they run."""
    others = [name for name in STEPS.names() if name not in STEPS.own]
    return [*(name for name in STEPS.own if name != _LAST), *others, _LAST]


def configured(table: str, data: Any, context: Mapping[str, Any], beside: Sequence[str]) -> BaseModel:
    """The settings of one step from its table.

    Args:
        context: of the job's validation; ``where`` is what the job is called.
        beside: the job's other tables, for the error.

    Raises:
        ConfigError: there is no such table, or it is wrong.
    """
    steps, where = in_order(), context.get("where", "job")
    if table not in steps:
        known = [*beside, *steps]
        guess = near(table, known) or f"There are: {', '.join(known)}."
        raise ConfigError(f"{where}: there is no table [{table}]. {guess}".rstrip())
    config: BaseModel = validated(STEPS.get(table).Config, data, f"{where}: [{table}]", context)
    return config
