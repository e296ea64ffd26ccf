"""The sample that ships with mmfeat, in MicroLens's layout."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from mmfeat.datasets import microlens
from mmfeat.datasets.base import Dataset, Note
from mmfeat.schemas.errors import DatasetError

_DATA = Path(__file__).parent / "sample_data"
_NOTE = (
    "the sample's titles and interactions are made up for mmfeat; its media are CC0, public domain "
    "or CC BY 3.0 (Big Buck Bunny, Blender Foundation), see README.md in its folder"
)


def load(root: Path | None) -> Dataset:
    """The sample that ships with mmfeat: photos, clips and titles; takes no root.

    Raises:
        DatasetError: a root was given.
    """
    if root is not None:
        raise DatasetError("The dataset 'sample' ships with mmfeat and takes no root.", hint="Leave it out.")
    dataset = microlens.load(_DATA)
    return dataclasses.replace(dataset, name="sample", notes=[Note("info", "sample", _NOTE), *dataset.notes])
