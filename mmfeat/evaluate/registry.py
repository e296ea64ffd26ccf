"""Protocols by name. A new one is one file in ``protocols/`` and one line here.

Other packages add theirs in the entry point group ``mmfeat.protocols``: a name to a subclass of
:class:`mmfeat.evaluate.base.Protocol`.
"""

from __future__ import annotations

from typing import Any

from mmfeat.evaluate.base import Protocol
from mmfeat.schemas.registry import Registry


def _is_protocol(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, Protocol)


PROTOCOLS: Registry[type[Protocol]] = Registry(
    "protocol",
    {
        "item_item": "mmfeat.evaluate.protocols.item_item:ItemItem",
        "probe": "mmfeat.evaluate.protocols.probe:Probe",
        "profile": "mmfeat.evaluate.protocols.profile:Profile",
        "sasrec": "mmfeat.evaluate.protocols.sasrec:SASRecLike",
        "two_tower": "mmfeat.evaluate.protocols.two_tower:TwoTower",
    },
    ("mmfeat.protocols",),
    fits=_is_protocol,
)
