"""What an export format declares and does. A new format is one file in ``formats/``.

A format never sees a store. It says what its target needs (:class:`Role`), how its target counts
rows (``id_base``, ``pad_row``), which answers to missing items its target can take, writes a
:class:`Content` into a folder, and reads it back by the target's own loading rule. Everything else
(choosing features, filling missing rows, mapping ids, splits, digests, the manifest, appearing whole
or not at all) is done once, for every format, in ``run.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from mmfeat.export.content import Content, Entry, ItemMap

Policy = Literal["mask", "mean", "zero", "empty", "drop", "error"]
POLICIES: tuple[Policy, ...] = ("mask", "mean", "zero", "empty", "drop", "error")
Kind = Literal["vector", "vectors", "tokens", "codes", "text"]

# What can become of items that lack a feature of a kind: ``empty`` is the empty text.
POLICIES_OF: Mapping[Kind, tuple[Policy, ...]] = {
    "vector": ("mask", "mean", "zero", "drop", "error"),
    "vectors": ("mask", "mean", "zero", "drop", "error"),
    "tokens": ("mask", "drop", "error"),
    "codes": ("mask", "drop", "error"),
    "text": ("mask", "empty", "drop", "error"),
}


@dataclass(frozen=True)
class Role:
    """One thing that a target reads.

    Attributes:
        name: what ``--features NAME=FEATURE`` calls it.
        kind: ``vector`` (``[dims]`` per item), ``vectors`` (``[m, dims]``), ``tokens`` (``[n, dims]``,
            ``n`` of each item's own), ``codes`` (semantic ids, integers ``[levels]``) or ``text``.
        media: which features fit when none is named: read from ``image`` (covers and videos),
            ``audio`` or ``text``.
        required: whether the target fails without it.
        dtype: what the target holds; None keeps the feature's own.
        dims: the sizes that the target can read; empty for any.
        what: a few words for listings.
    """

    name: str
    kind: Kind = "vector"
    media: tuple[Literal["image", "audio", "text"], ...] = ("image", "audio", "text")
    required: bool = True
    dtype: str | None = "float32"
    dims: tuple[int, ...] = ()
    what: str = ""


class NoOptions(BaseModel):
    """The options of a format that has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Exporter(ABC):
    """One target. Subclasses set the class variables and three methods; they hold no state.

    Attributes:
        name: what the command line calls it.
        title: the project that reads the files.
        systems: the recommenders that run on it.
        roles: what it reads; empty for a format that takes any features under their own names.
        kinds: for a format without roles, the kinds of feature that it can hold.
        min_features: how many roles must be filled, where no single one is required. With 0 and no roles, an
            export may have no features at all.
        interactions: ``required``, ``optional``, or ``unused``.
        cold_items: whether items without interactions may be in it, when it has interactions.
        default_split: the rule applied when none is given; None leaves splitting to the target.
        splits: whether the target reads splits at all.
        missing: answers to missing items that the target can take, the default one first. A role can
            have those of them that its kind allows (``POLICIES_OF``).
        refusals: why it can't take each of the others.
        zero_rows: why the target can't read a row of zeros; empty if it can.
        id_base: the first item's internal id; None if the target goes by the item's own id.
        user_base: the same for users.
        pad_row: whether row 0 of every matrix is a pad row of zeros, before the first item.
        further: whether it can hold fields of the items as further columns.
        options: pydantic model of the format's own options.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    systems: ClassVar[tuple[str, ...]] = ()
    roles: ClassVar[tuple[Role, ...]] = ()
    kinds: ClassVar[tuple[Kind, ...]] = ("vector",)
    min_features: ClassVar[int] = 1
    interactions: ClassVar[Literal["required", "optional", "unused"]] = "unused"
    cold_items: ClassVar[bool] = True
    splits: ClassVar[bool] = False
    default_split: ClassVar[str | None] = None
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {}
    zero_rows: ClassVar[str] = ""
    id_base: ClassVar[int | None] = 0
    user_base: ClassVar[int | None] = 0
    pad_row: ClassVar[bool] = False
    further: ClassVar[bool] = False
    options: ClassVar[type[BaseModel]] = NoOptions

    def check(self, content: Content) -> None:  # noqa: B027 - most formats can hold any content
        """Refuse content that the target cannot hold, before anything is written.

        Raises:
            UsageError: names the items and what to do about them.
        """

    def convert(self, role: str, rows: np.ndarray) -> np.ndarray:
        """Rows of a role as the target holds them; a cast to the role's dtype unless overridden.

        Must work on any block of rows by itself: matrices are never whole in memory twice.
        """
        dtype = next((r.dtype for r in self.roles if r.name == role), None)
        return rows if dtype is None else rows.astype(dtype, copy=False)

    def converter(self, role: str, options: Any) -> Callable[[np.ndarray], np.ndarray]:
        """What :meth:`convert` is under the format's own options, for those that change values."""
        return partial(self.convert, role)

    @abstractmethod
    def write(self, out: Path, content: Content) -> None:
        """Write the target's files into ``out``, an empty folder that is there."""

    @abstractmethod
    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Every item's value, found by the target's own loading rule.

        Args:
            items: the export's own map; for formats whose files name no item.
            manifest: the export's manifest, for names and options.

        Yields:
            :class:`Entry` per item and role; an item without a value yields none.
        """
