"""The base of every setting and spec: it never changes, and it refuses what it does not know."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

#: A time to wait for something. The system's clocks take no more than 24 days at a time.
Seconds = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


class Frozen(BaseModel):
    """A pydantic model whose fields are set once; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
