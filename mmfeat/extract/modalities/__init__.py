"""Modalities by name. A new one is one file here, a line below, and its ``Prepare`` in schemas/inputs.py."""

from __future__ import annotations

from mmfeat.extract.modalities.audio import AUDIO
from mmfeat.extract.modalities.base import Cost, MediaModality, Modality, Packed
from mmfeat.extract.modalities.image import IMAGE
from mmfeat.extract.modalities.text import TEXT
from mmfeat.extract.modalities.video import VIDEO

_MODALITIES: dict[str, Modality] = {one.name: one for one in (TEXT, IMAGE, VIDEO, AUDIO)}


def modality(name: str) -> Modality:
    """The modality of a column or an input."""
    return _MODALITIES[name]


def media(name: str) -> MediaModality:
    """The modality of media; TypeError for one that is no file."""
    found = _MODALITIES[name]
    if not isinstance(found, MediaModality):
        raise TypeError(f"{name} is not read from files")
    return found


def is_media(name: str) -> bool:
    """Whether values of a modality are files."""
    return isinstance(_MODALITIES.get(name), MediaModality)


__all__ = ["Cost", "MediaModality", "Modality", "Packed", "is_media", "media", "modality"]
