"""The base of every setting and spec: it never changes, and it refuses what it does not know."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A pydantic model whose fields are set once; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
