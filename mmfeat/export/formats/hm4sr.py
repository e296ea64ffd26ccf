"""HM4SR (https://github.com/ngoctuannguyen/HM4SR, WWW 2025), which is built on RecBole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mmfeat.export import pickles
from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, Interactions, ItemMap
from mmfeat.export.files import write_plain_table, write_yaml
from mmfeat.export.interactions import MIN_TO_SPLIT, refuse_short, refuse_timeless
from mmfeat.export.tensors import need_torch, read_tensor, write_array, write_tensor
from mmfeat.item_fields import Values
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.validation import near

# What its two nn.Linear layers of features take.
_DIMS = 768
_FILES = {"text": "txt_emb.pt", "image": "img_emb.pt"}


class Options(BaseModel):
    """HM4SR's options.

    Attributes:
        categories: the items' field, of texts or lists of texts, that their categories are from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    categories: str = Field(default="categories", min_length=1)


class HM4SR(Exporter):
    """The dataset's folder, ``dataset/NAME``.

    ``NAME.inter`` (RecBole's atomic file: ``user_id``, ``item_id``, ``timestamp`` in seconds; both ids are
    the export's numbers), ``txt_emb.pt`` and ``img_emb.pt`` (float32 tensors ``[items + 1, 768]``),
    ``cat.pt`` (uint8 ``[items + 1, categories]``: ones at an item's categories; an item without any has a row
    of zeros), ``interval_num`` (a pickled number: the base-2 logarithm of the longest time between two
    interactions of a user, plus 1, in seconds) and ``NAME.yaml``. Row 0 of each tensor is a pad row.

    The rule is that of ``recbole_model/HM4SR.py`` (lines 65-69 index the three tensors by RecBole's item
    number; ``get_interval_num``) and of RecBole, which numbers items from 1 in the order in which
    ``NAME.inter`` first names them. So the lines are in the order of the items' rows, and items without
    interactions stay out. RecBole sorts by time itself. ``dataprocess/data_process.py`` makes the same files
    of Amazon's: the categories in ``prepare_category``, the number in ``local_timestamp``.

    HM4SR's ``config/data.yaml`` has RecBole leave out users and items with fewer than 5 interactions, which
    would number the others anew: the lines of ``NAME.yaml`` keep all.
    """

    name = "hm4sr"
    title = "HM4SR"
    systems = ("HM4SR",)
    roles = (
        Role("text", media=("text",), dims=(_DIMS,), what="txt_emb.pt"),
        Role("image", media=("image",), dims=(_DIMS,), what="img_emb.pt"),
    )
    interactions = "required"
    cold_items = False
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {"mask": "it has no mask, and a NaN row makes the loss NaN"}
    id_base = 1
    user_base = 1
    pad_row = True
    options = Options

    def check(self, content: Content) -> None:
        """Every interaction has a time, every user enough of them, and some item a category."""
        need_torch(self.name)
        inter = content.interactions
        assert inter is not None, "interactions are required"
        refuse_timeless(inter, self.title)
        refuse_short(inter, MIN_TO_SPLIT, self.title)
        name = content.options.categories
        if name not in content.fields:
            raise UsageError(
                f"HM4SR's categories are to be from the field {name!r}, and the items have none.",
                hint=f"{near(name, content.fields)}Name another: --option categories=FIELD. There are:"
                f" {', '.join(content.fields)}.",
            )
        if not any(_texts_of(content.fields[name])):
            raise UsageError(
                f"No item has a text in the field {name!r}.", hint="Name another: --option categories=FIELD."
            )

    def write(self, out: Path, content: Content) -> None:
        """Interactions in the order of the items, tensors, and what the model is told."""
        inter = content.interactions
        assert inter is not None and inter.timestamps is not None, "checked before"
        order = np.argsort(inter.items, kind="stable")
        columns = {
            "user_id:token": inter.users[order] + 1,
            "item_id:token": inter.items[order] + 1,
            "timestamp:float": inter.timestamps[order] // 1000,
        }
        write_plain_table(out / f"{content.name}.inter", columns)
        for role, rows in content.features.items():
            write_tensor(out / _FILES[role], rows)
        write_array(out / "cat.pt", categories(content.fields[content.options.categories]))
        pickles.write_plain(out / "interval_num", longest(inter))
        settings = {"user_inter_num_interval": "[1,inf)", "item_inter_num_interval": "[1,inf)"}
        write_yaml(out / f"{content.name}.yaml", settings, "Add to HM4SR's config/NAME.yaml.")

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = place among the different items of ``NAME.inter``, from 1."""
        with (out / f"{manifest['name']}.inter").open(encoding="ascii") as file:
            next(file)
            numbers = list(dict.fromkeys(int(line.split("\t")[1]) for line in file))
        for role in manifest["features"]:
            matrix = read_tensor(out / _FILES[role])
            if len(matrix) != len(numbers) + 1:
                raise UsageError(f"{_FILES[role]} has {len(matrix):,} rows for {len(numbers):,} items.")
            for row, number in enumerate(numbers, start=1):
                yield Entry(role, items.ids[number - 1], matrix[row])


def categories(values: Values) -> np.ndarray:
    """uint8 ``[items + 1, categories]``: ones at each item's, in the order of their first; row 0 is zeros."""
    found = _texts_of(values)
    numbers = {text: k for k, text in enumerate(dict.fromkeys(text for texts in found for text in texts))}
    matrix = np.zeros((len(found) + 1, len(numbers)), np.uint8)
    for row, texts in enumerate(found, start=1):
        matrix[row, [numbers[text] for text in texts]] = 1
    return matrix


def longest(inter: Interactions) -> float:
    """``log2(1 + t)`` of the longest time ``t`` between two interactions of a user, in seconds.

    Times are taken in float32 too, as RecBole's tensors hold them: the model looks up the logarithm of what
    it reads there, and has a place for none that is larger than this.
    """
    assert inter.timestamps is not None, "checked before"
    same = np.diff(inter.users) == 0
    seconds = inter.timestamps // 1000
    gaps = [np.diff(times)[same].max(initial=0) for times in (seconds, seconds.astype(np.float32))]
    return float(np.log2(np.float32(max(map(float, gaps))) + np.float32(1)))


def _texts_of(values: Values) -> Sequence[Sequence[str]]:
    """Each item's texts; none of numbers."""
    if isinstance(values, np.ndarray):
        return [[] for _ in values]
    return [[cell] if isinstance(cell, str) else cell or [] for cell in values]
