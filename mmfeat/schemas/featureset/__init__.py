"""The FeatureSet: what every consumer of features gets, whatever made them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from mmfeat.schemas.notebook import table
from mmfeat.schemas.spans import Spans
from mmfeat.schemas.spec import FeatureSpec

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow as pa
    import torch

    from mmfeat.schemas.featureset.torch import ItemDataset

# Status of one item in one feature. "absent" is only ever an answer to a lookup: the item has no
# row in this version yet (not extracted), or its id is unknown and masked rows were asked for.
OK, MISSING, FAILED, ABSENT = _STATES = ("ok", "missing", "failed", "absent")


# What a column holds: an array of vectors or codes, texts, or one array of vectors per item.
Values = np.ndarray | list[str | None] | list[np.ndarray | None]


@dataclass(frozen=True)
class Step:
    """One thing done to a feature's values after they were read from the store.

    Attributes:
        op: ``join``, ``cut``, ``project`` or ``quantize``.
        params: its parameters, plain JSON types.
        inputs: specs of the features that were joined; empty for the other steps.
        arrays: what was fitted (``mean``, ``components``, ``scale``, ...), needed to undo or repeat it.
    """

    op: str
    params: dict[str, Any]
    inputs: tuple[FeatureSpec, ...] = ()
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Ragged:
    """The vectors of items that have any number of them.

    Attributes:
        values: ``[total, dims]``, item after item.
        offsets: int64 ``[n + 1]``: item ``k`` has ``values[offsets[k]:offsets[k + 1]]``, nothing if it has
            no value.
    """

    values: np.ndarray
    offsets: np.ndarray


@dataclass(frozen=True)
class FeatureColumn:
    """One feature for the ids of a FeatureSet.

    Attributes:
        spec: what made the values; with ``steps``, what made them before the steps.
        values: for a vector feature ``[n, dims]`` or, with several vectors per item,
            ``[n, m, dims]``; of the spec's store dtype unless a step changed it; where the mask is
            False NaN, or 0 for an integer dtype. For a text feature a list of ``n`` texts, None
            if the mask is False. For a codes feature int32 ``[n, levels]``, -1 if the mask is
            False. For a feature of ``tokens`` (any number of vectors per item) a list of ``n`` arrays
            ``[m, dims]`` of the spec's value dtype, ``m`` of each item's own, None if the mask is False.
        mask: ``[n]`` bool, True if the item has a value.
        status: ``[n]`` of ``ok``, ``missing``, ``failed`` or ``absent``.
        reason: ``[n]``, why a row failed, or by what an ok text is marked (a refusal, a loop); else empty.
        licence: licence of the weights that made the values, where it is known.
        steps: what was done to the values since, in order.
        spans: of a feature of ``tokens``, what each of an item's vectors was made from: a list of ``n``, None
            if that was not recorded. None of any other feature.
    """

    spec: FeatureSpec
    values: Values
    mask: np.ndarray
    status: np.ndarray
    reason: np.ndarray
    licence: str | None = None
    steps: tuple[Step, ...] = ()
    spans: list[Spans | None] | None = None

    def __repr__(self) -> str:
        return f"FeatureColumn({self._told()})"

    def _told(self) -> str:
        """What it is in a few words: a million numbers are no answer to the question what they are."""
        return f"{self.spec.version}: {self._shape()}, {int(self.mask.sum()):,} of {len(self.mask):,} ok"

    def _shape(self) -> str:
        if isinstance(self.values, np.ndarray):
            return f"{self.spec.kind} {list(self.values.shape)} {self.values.dtype}"
        return f"{self.spec.kind} [{len(self.values):,}]"

    @property
    def matrix(self) -> np.ndarray:
        """The ``[n, dims]`` or ``[n, m, dims]`` array of vectors, or the ``[n, levels]`` of codes.

        TypeError for texts, and for token vectors, whose number differs from item to item.
        """
        if isinstance(self.values, np.ndarray):
            return self.values
        if self.spec.form == "tokens":
            raise TypeError(f"{self.spec.name} holds any number of vectors per item: see .tokens")
        raise TypeError(f"{self.spec.name} holds texts, not vectors")

    @property
    def texts(self) -> list[str | None]:
        """The list of texts of a text feature; TypeError for any other."""
        if isinstance(self.values, np.ndarray) or self.spec.form == "tokens":
            raise TypeError(f"{self.spec.name} holds vectors, not texts")
        return cast("list[str | None]", self.values)

    @property
    def tokens(self) -> list[np.ndarray | None]:
        """One ``[m, dims]`` array per item of a feature of ``tokens``; TypeError for any other."""
        if self.spec.form != "tokens":
            raise TypeError(f"{self.spec.name} holds no token vectors but {self.spec.kind}")
        return cast("list[np.ndarray | None]", self.values)

    @property
    def ragged(self) -> Ragged:
        """The vectors of all items one after the other, and where each item's begin; TypeError for any other
        feature than one of ``tokens``."""
        none = np.empty((0, *self.spec.shape), self.spec.value_dtype)
        own = [none if vectors is None else vectors for vectors in self.tokens]
        return Ragged(np.concatenate([none, *own]), np.cumsum([0, *map(len, own)], dtype=np.int64))

    def to_nested(self) -> torch.Tensor:
        """Token vectors as one jagged PyTorch tensor: :func:`mmfeat.schemas.featureset.torch.nested`."""
        from mmfeat.schemas.featureset.torch import nested

        return nested(self)

    def to_padded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Token vectors and their mask: :func:`mmfeat.schemas.featureset.torch.padded`."""
        from mmfeat.schemas.featureset.torch import padded

        return padded(self)

    def to_embedding(
        self, missing: Literal["error", "zero", "mean"] = "error", padding: bool = False, freeze: bool = True
    ) -> torch.nn.Embedding:
        """The vectors as a PyTorch table: :func:`mmfeat.schemas.featureset.torch.embedding_table`."""
        from mmfeat.schemas.featureset.torch import embedding_table

        return embedding_table(self, missing, padding, freeze)


@dataclass(frozen=True)
class FeatureSet(Mapping[str, FeatureColumn]):
    """Ordered item ids and, per feature, values, mask and spec.

    Attributes:
        ids: ``n`` item ids in the order they were asked for.
        columns: feature name to column; every column has ``n`` rows.
    """

    ids: list[str]
    columns: dict[str, FeatureColumn]

    def __repr__(self) -> str:
        told = "; ".join(column._told() for column in self.columns.values())
        return f"FeatureSet({len(self.ids):,} items; {told or 'no feature'})"

    def _repr_html_(self) -> str:
        rows = [
            (name, c.spec.version, c._shape(), c.spec.model, *(int((c.status == s).sum()) for s in _STATES))
            for name, c in self.columns.items()
        ]
        columns = ("feature", "version", "values", "model", *_STATES)
        return table(f"FeatureSet of {len(self.ids):,} items", columns, rows)

    def __getitem__(self, name: str) -> FeatureColumn:
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def to_arrow(self) -> pa.Table:
        """A table that says what made it: :func:`mmfeat.schemas.featureset.arrow.to_arrow`."""
        from mmfeat.schemas.featureset.arrow import to_arrow

        return to_arrow(self)

    def to_pandas(self) -> pandas.DataFrame:
        """A data frame indexed by ``item_id``: :func:`mmfeat.schemas.featureset.frames.to_pandas`."""
        from mmfeat.schemas.featureset.frames import to_pandas

        return to_pandas(self)

    def to_polars(self) -> polars.DataFrame:
        """A data frame: :func:`mmfeat.schemas.featureset.frames.to_polars`."""
        from mmfeat.schemas.featureset.frames import to_polars

        return to_polars(self)

    def to_torch(self) -> ItemDataset:
        """A PyTorch ``Dataset``: :class:`mmfeat.schemas.featureset.torch.ItemDataset`."""
        from mmfeat.schemas.featureset.torch import ItemDataset

        return ItemDataset(self)
