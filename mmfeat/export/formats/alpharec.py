"""AlphaRec (https://github.com/LehengTHU/AlphaRec)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, Interactions, ItemMap
from mmfeat.export.files import read_npy, write_npy
from mmfeat.export.interactions import refuse_untrained
from mmfeat.schemas.errors import UsageError

_MATRIX = Path("item_info", "item_cf_embeds_large3_array.npy")
_PARTS = ("train", "valid", "test")


class AlphaRec(Exporter):
    """The dataset's folder, ``data/General/NAME``.

    ``item_info/item_cf_embeds_large3_array.npy`` (float32 ``[items, dims]``, row = item id, from 0),
    the file that AlphaRec's default ``--lm_model v3`` opens, whatever model the vectors are of; and
    ``cf_data/train.txt``, ``valid.txt`` and ``test.txt``: a line per user, ``user item item ...``,
    users who have none in a split left out of it.

    The rule is that of ``models/General/AlphaRec.py`` (the matrix) and
    ``models/General/base/abstract_data.py`` (users are those of the training split, items those of all
    splits together, both without a gap). AlphaRec makes users' vectors itself, as the mean of their
    training items'.
    """

    name = "alpharec"
    title = "AlphaRec"
    systems = ("AlphaRec",)
    roles = (Role("item", what="the item's embedding, of its title or caption"),)
    interactions = "required"
    cold_items = False
    splits = True
    default_split = "ratio:0.8,0.1,0.1"
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {"mask": "it has no mask, and a NaN row makes the loss NaN"}

    def check(self, content: Content) -> None:
        """Every user needs an interaction for training; the dataset's name must not ask for a mixture."""
        assert content.interactions is not None, "interactions are required"
        refuse_untrained(content.interactions, self.title, "counts users by those of the training split")
        if "mix" in content.name:
            raise UsageError(
                f"AlphaRec takes a dataset called {content.name!r}, or anything with 'mix' in it, for a"
                " mixture of several and looks for their files.",
                hint="Give --out another name.",
            )

    def write(self, out: Path, content: Content) -> None:
        """Matrix and splits."""
        assert content.interactions is not None, "interactions are required"
        (out / _MATRIX).parent.mkdir()
        write_npy(out / _MATRIX, content.features["item"])
        (out / "cf_data").mkdir()
        for label, name in enumerate(_PARTS):
            _write_lists(out / "cf_data" / f"{name}.txt", content.interactions.part(label))

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = item id; there are as many rows as different items in the splits."""
        found: set[int] = set()
        for name in _PARTS:
            with (out / "cf_data" / f"{name}.txt").open() as lines:
                found.update(int(item) for line in lines for item in line.split()[1:])
        matrix = read_npy(out / _MATRIX, len(found))
        for item_id, row in zip(items.ids, matrix, strict=True):
            yield Entry("item", item_id, row)


def _write_lists(path: Path, inter: Interactions) -> None:
    with path.open("w") as file:
        for user, items in inter.sequences():
            if len(items):
                file.write(f"{user} {' '.join(map(str, items.tolist()))}\n")
