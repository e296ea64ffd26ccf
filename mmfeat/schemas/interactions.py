"""``[dataset.interactions]``: a person's own file of interactions, and which of its columns is what."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_serializer, model_validator

from mmfeat.schemas.frozen import Frozen

#: What a column of the file can be.
Part = Literal["user", "item", "time", "order", "rating", "event"]
PARTS: tuple[Part, ...] = get_args(Part)
#: Without these a line is no interaction.
NEEDED: tuple[Part, ...] = ("user", "item")


class InteractionsConfig(Frozen):
    """A file of interactions: ``"clicks.parquet"``, or ``{file = "clicks.parquet", user = "uid"}``.

    Attributes:
        file: its path.
        user, item, time, order, rating, event: names of its columns; where None, usual names are looked for.
            With an empty name nothing is read as that, which user and item cannot have.
    """

    file: str = Field(min_length=1)
    user: str | None = Field(default=None, min_length=1)
    item: str | None = Field(default=None, min_length=1)
    time: str | None = None
    order: str | None = None
    rating: str | None = None
    event: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_file_alone(cls, data: Any) -> Any:
        return {"file": str(data)} if isinstance(data, str | Path) else data

    @field_validator("file")
    @classmethod
    def _is_local(cls, file: str) -> str:
        if "://" in file:
            raise ValueError("interactions are read from a local file: copy it here first")
        return file

    @model_serializer
    def _as_written(self) -> dict[str, str]:
        return {"file": self.file, **{part: name for part in PARTS if (name := self.named(part)) is not None}}

    def named(self, part: Part) -> str | None:
        """The column that is named for a part; None if none is."""
        name: str | None = getattr(self, part)
        return name

    def seen_from(self, base: Path) -> InteractionsConfig:
        """The same, with a relative path taken from the folder ``base``."""
        return self.model_copy(update={"file": str(base / Path(self.file).expanduser())})
