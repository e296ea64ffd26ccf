"""Transforms: vectors of the store to other vectors, item by item, by what was fitted once."""

from mmfeat.extract.fitted.transforms.base import Transform, Vectors

__all__ = ["Transform", "Vectors"]
