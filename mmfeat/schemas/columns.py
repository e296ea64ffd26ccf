"""``[dataset.columns]``: columns that a person names because no adapter can know of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_serializer, model_validator

from mmfeat.schemas.catalog import USUAL_COLUMNS, Column
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.frozen import Frozen


class ColumnConfig(Frozen):
    """What a person says of a column: ``"image"``, or ``{modality = "image", from = "Photo files"}``.

    Attributes:
        modality: of its values.
        from_: what the dataset calls it (``from`` in a job file); the same as its name when None.
    """

    modality: Literal["text", "image", "video", "audio", "number"]
    from_: str | None = Field(default=None, alias="from", min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _read_modality_alone(cls, data: Any) -> Any:
        return {"modality": data} if isinstance(data, str) else data

    @model_serializer
    def _as_written(self) -> str | dict[str, str]:
        return self.modality if self.from_ is None else {"modality": self.modality, "from": self.from_}

    def source(self, name: str) -> str:
        """What the dataset calls the column ``name``."""
        return self.from_ or name


def _check_names(columns: dict[str, ColumnConfig]) -> dict[str, ColumnConfig]:
    usual = {column.name: column for column in USUAL_COLUMNS}
    for name, config in columns.items():
        if name in usual:
            raise ValueError(
                f"{name!r} is a column of every catalog and holds {usual[name].modality}: leave it out here. "
                f"Where the dataset calls it something else, see the adapter's own options"
            )
        try:
            Column(name, config.modality)
        except ConfigError as error:
            raise ValueError(f"{error.message} {error.hint}".rstrip(".")) from None
    return columns


#: Name to what a person says of the column.
ColumnConfigs = Annotated[dict[str, ColumnConfig], AfterValidator(_check_names)]
